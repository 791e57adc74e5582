"""The messages that the program logs for an operator to act on, read from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.support.source import MODULES

#: Methods of a logger; `log` takes its level from an argument.
GRAVE = frozenset({"warning", "error", "exception", "critical", "log"})
QUIET = frozenset({"debug", "info"})
#: The same, where the level is an argument.
QUIET_LEVELS = {"logging.DEBUG", "logging.INFO"}


@dataclass(frozen=True)
class Message:
    """A message as the source has it; `...` stands for what is filled in."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class _Module:
    def __init__(self, name: str, tree: ast.Module) -> None:
        self._name = name
        self._tree = tree

    def messages(self, methods: frozenset[str]) -> Iterator[Message]:
        for function, call in self._calls(self._tree, None):
            if ast.unparse(call.func) == "logging.LogRecord":  # logged later, by a handler
                if (ast.unparse(call.args[1]) in QUIET_LEVELS) == (methods is QUIET):
                    for text in self._texts(call.args[4], function, call):
                        yield Message(f"{self._name}:{call.lineno}", text)
                continue
            if not isinstance(call.func, ast.Attribute) or not _is_logger(call.func):
                continue
            if call.func.attr not in methods:
                continue
            has_level = call.func.attr == "log"
            if has_level and ast.unparse(call.args[0]) in QUIET_LEVELS:
                continue
            for text in self._texts(call.args[1 if has_level else 0], function, call):
                yield Message(f"{self._name}:{call.lineno}", text)

    def _calls(
        self, node: ast.AST, function: ast.FunctionDef | None
    ) -> Iterator[tuple[ast.FunctionDef | None, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inner = child if isinstance(child, ast.FunctionDef) else function
            if isinstance(child, ast.Call):
                yield function, child
            yield from self._calls(child, inner)

    def _texts(
        self, node: ast.expr, function: ast.FunctionDef | None, call: ast.Call
    ) -> Iterator[str]:
        match node:
            case ast.Constant(str() as text):
                yield re.sub(r"%[srd]", "...", text)
            case ast.JoinedStr(parts):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "..." for part in parts
                )
            case ast.IfExp(_, one, other):
                yield from self._texts(one, function, call)
                yield from self._texts(other, function, call)
            case ast.Name(name) if function is not None:
                yield from self._texts_of_name(name, function, call)
            case _:
                raise AssertionError(f"{self._name}:{call.lineno}: what is logged there?")

    def _texts_of_name(self, name: str, function: ast.FunctionDef, call: ast.Call) -> Iterator[str]:
        """Yield what a variable of the function, or a parameter of it, may hold."""
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
        ]
        for value in values:
            yield from self._texts(value, function, call)
        if values:
            return
        position = [argument.arg for argument in function.args.args].index(name)
        found = False
        for caller, outer in self._calls(self._tree, None):
            if isinstance(outer.func, ast.Attribute) and outer.func.attr == function.name:
                found = True
                level, message = outer.args[position - 2], outer.args[position - 1]  # less `self`
                if ast.unparse(level) not in QUIET_LEVELS:
                    yield from self._texts(message, caller, outer)
        assert found, f"{self._name}: nobody calls {function.name}"


def _is_logger(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("log", "self._log")


@cache
def messages(methods: frozenset[str]) -> list[Message]:
    """Return what is logged by these methods, save by the demonstration."""
    return [
        message
        for name, text in MODULES.items()
        for message in _Module(name, ast.parse(text)).messages(methods)
    ]
