"""The commands of a page's shell blocks, taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import tree_sitter
import tree_sitter_bash

_PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))
#: Nodes that are one word of a command, whole or in pieces.
_WORDS = frozenset({"word", "string", "raw_string", "concatenation", "number", "simple_expansion"})


@dataclass(frozen=True)
class Command:
    """A program with its arguments; quotes are gone, expansions are as they were written."""

    assignments: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2]

    def __str__(self) -> str:
        return " ".join(self.words)


def commands(script: str) -> list[Command]:
    """Return the commands of a script, also those within substitutions and loops."""
    tree = _PARSER.parse(script.encode())
    assert not tree.root_node.has_error, f"not shell: {script}"
    return list(_commands(tree.root_node))


def functions(script: str) -> set[str]:
    """Return the names of the functions that a script defines."""
    return set(re.findall(r"^(\w+)\(\)", script, re.MULTILINE))


def assigns_only(script: str) -> bool:
    """Tell whether a script does nothing but give values to variables."""
    kinds = {node.type for node in _PARSER.parse(script.encode()).root_node.named_children}
    return kinds <= {"variable_assignment", "variable_assignments", "comment"} and kinds != set()


def _commands(node: tree_sitter.Node) -> Iterator[Command]:
    if node.type == "command":
        assignments = [_text(one) for one in node.children if one.type == "variable_assignment"]
        names = [_text(one) for one in node.children if one.type == "command_name"]
        words = [_text(one) for one in node.children if one.type in _WORDS]
        yield Command(tuple(assignments), (*names, *words))
    for child in node.children:
        yield from _commands(child)


def _text(node: tree_sitter.Node) -> str:
    assert node.text is not None
    text = node.text.decode()
    return re.sub(
        r"'([^']*)'|\"((?:[^\"\\]|\\.)*)\"", lambda found: found[1] or found[2] or "", text
    )
