"""Patterns with stars, for names that are made of parts, such as paths.

`*` stands for any characters within one part, also none; `**`, as a part of
its own, for any number of parts, also none. Nothing else is special. The time
that a match takes grows with the name's length times the pattern's at most:
names come from clients, and patterns, which are short, from the settings.
"""

from __future__ import annotations


class Glob:
    """One pattern; raises ValueError where `**` is not a part of its own."""

    def __init__(self, pattern: str, separator: str) -> None:
        self._separator = separator
        #: Each part as the pieces between its stars; None for `**`.
        self._parts: list[list[str] | None] = []
        for part in pattern.split(separator):
            if part != "**" and "**" in part:
                raise ValueError(f"** must stand alone between two {separator!r}")
            self._parts.append(None if part == "**" else part.split("*"))

    def matches(self, name: str) -> bool:
        """Tell whether the whole of `name` fits the pattern."""
        parts = name.split(self._separator)
        at = here = 0
        #: Where the latest `**` stands, and how many parts it and those before have taken.
        stars, taken = -1, 0
        while here < len(parts):
            pieces = self._parts[at] if at < len(self._parts) else []
            if pieces is None:
                stars, taken = at, here
                at += 1
            elif pieces and _fits(pieces, parts[here]):
                at += 1
                here += 1
            elif stars >= 0:  # the latest `**` takes one more; earlier ones need not
                taken += 1
                at, here = stars + 1, taken
            else:
                return False
        return all(pieces is None for pieces in self._parts[at:])


def _fits(pieces: list[str], part: str) -> bool:
    """Tell whether `part` is these pieces in turn, with anything between them."""
    if len(pieces) == 1:
        return part == pieces[0]
    first, *middle, last = pieces
    start, end = len(first), len(part) - len(last)
    if start > end or not (part.startswith(first) and part.endswith(last)):
        return False
    for piece in middle:
        found = part.find(piece, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True
