"""Reads YAML within bounds: with aliases, a few lines can expand to more than any memory holds."""

from __future__ import annotations

from typing import Any

import yaml

from authproxy.errors import AuthProxyError

#: A thousand routes of twenty settings each have 41,000 values, keys counted among them.
MAX_VALUES = 50_000

#: Settings need four levels.
MAX_DEPTH = 20


class NotYAML(AuthProxyError):
    """A text that is not YAML, or too much of it: what is wrong, and where."""

    def __init__(self, problem: str, mark: Any = None) -> None:
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        super().__init__(f"{problem}{where}")


def compose(data: bytes) -> yaml.Node | None:
    """Return the root of a YAML document, None where there is nothing in it.

    Raises NotYAML, which quotes nothing of the text.
    """
    try:
        root: yaml.Node | None = yaml.compose(data, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise NotYAML("it is not YAML", error.problem_mark or error.context_mark) from None
    except (yaml.YAMLError, ValueError):  # ValueError for numbers with too many digits
        raise NotYAML("it is not YAML text") from None
    return root


class _Loader(yaml.SafeLoader):
    """Counts values as it composes them, an alias as all values of its anchor."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._values = 0
        self._depth = 0
        #: By anchor, once it is whole.
        self._values_of: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next value. Raises NotYAML where that would be too much."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._values
        if isinstance(event, yaml.AliasEvent):
            anchor = event.anchor or ""
            if anchor in self.anchors and anchor not in self._values_of:
                raise NotYAML("an alias stands for what it is in", event.start_mark)
            self._values += self._values_of.get(anchor, 0)
        else:
            self._values += 1
        if self._values > MAX_VALUES:
            problem = f"it holds more than {MAX_VALUES} values, with those that aliases stand for"
            raise NotYAML(problem, event.start_mark)
        if self._depth == MAX_DEPTH:
            raise NotYAML(f"it is nested in more than {MAX_DEPTH} levels", event.start_mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if not isinstance(event, yaml.AliasEvent) and event.anchor is not None:
            self._values_of[event.anchor] = self._values - before
        return node
