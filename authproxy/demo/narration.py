"""The text of the demonstration: rows with marks, in colour where a terminal shows it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import click

#: Where the second column begins, after a mark and a blank.
_COLUMN = 35
_WIDTH = 80


@dataclass(frozen=True)
class Narration:
    """Writes each line with `echo`; `colour` and `marks` say what the reader can show."""

    echo: Callable[[str], object]
    colour: bool = False
    marks: bool = True

    def line(self, text: str = "") -> None:
        """Write a line as it is."""
        self.echo(text)

    def well(self, what: str, outcome: str) -> None:
        """Write what was done, and that it went well."""
        self._row("\N{CHECK MARK}" if self.marks else "+", "green", what, outcome)

    def failed(self, what: str, outcome: str) -> None:
        """Write what was done, and that it failed."""
        self._row("\N{BALLOT X}" if self.marks else "x", "red", what, outcome)

    def saved(self, what: str, outcome: str) -> None:
        """Write what keeps a failure from doing harm."""
        self._row("!", "yellow", what, outcome)

    def command(self, command: str) -> None:
        """Write a command as it is typed."""
        self.line(f"{self._styled('$', fg='cyan')} {self._styled(command, bold=True)}")

    def quotation(self, text: str) -> None:
        """Write what a command said, as wide as a small terminal."""
        for line in textwrap.wrap(text, _WIDTH - 2, break_on_hyphens=False):
            self.line(f"  {line}")

    def more(self, what: str, content: str) -> None:
        """Write something about the whole, which has no outcome."""
        self.line(f"{self._styled(f'{what:<10}', fg='cyan')}{content}")

    def _row(self, mark: str, colour: str, what: str, outcome: str) -> None:
        lead = self._styled(mark, fg=colour, bold=True)
        self.line(f"{lead} {what:<{_COLUMN}}{self._styled(outcome, fg=colour)}")

    def _styled(self, text: str, *, fg: str | None = None, bold: bool = False) -> str:
        return click.style(text, fg=fg, bold=bold or None) if self.colour else text
