"""An error of the identity, explained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """An error explained: a code to look up, what is wrong, a hint, and commands that help.

    In commands names with $ are settings, words in capitals are for the operator to fill in.
    """

    code: str
    cause: str
    hint: str
    commands: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.cause} ({self.code}). {self.hint}."


def cut(text: str, length: int) -> str:
    """Return `text` without the full stop at its end, and not much longer than `length`."""
    text = text.strip().rstrip(".")
    return text if len(text) <= length else f"{text[:length]}..."
