"""The report of a check: as text, for people, and as JSON, for scripts."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import click

from authproxy import __version__
from authproxy.diagnose.steps import (
    IDENTITY,
    SETTINGS,
    TARGET,
    WELL,
    Finding,
    Outcome,
    Step,
)
from authproxy.errors import Advice, SettingsError
from authproxy.settings import Route

#: How outcomes are marked; where marks cannot be shown, their names are.
_MARKS = {
    Outcome.OK: "\N{CHECK MARK}",
    Outcome.WARNING: "!",
    Outcome.FAILED: "\N{BALLOT X}",
    Outcome.SKIPPED: "-",
}
_COLOURS = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red"}

_ENDINGS = {
    WELL: "All is well.",
    IDENTITY: "The identity gets no token, or that of another one.",
    SETTINGS: "The settings have faults.",
    TARGET: "The target is not reached, or does not take the request.",
}

#: However wide a terminal is, and however narrow.
_WIDEST, _NARROWEST = 100, 40


@dataclass(frozen=True)
class Style:
    """What the reader can show. Without a `width` no line is wrapped, as scripts like it."""

    width: int | None = None
    colour: bool = False
    marks: bool = True

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str]) -> Style:
        """Return what `stream` shows: plain where it is no terminal or NO_COLOR is set."""
        try:
            "".join(_MARKS.values()).encode(stream.encoding or "ascii")
            marks = True
        except UnicodeEncodeError:
            marks = False
        if not stream.isatty():
            return cls(marks=marks)
        columns = shutil.get_terminal_size().columns
        plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
        return cls(max(_NARROWEST, min(columns, _WIDEST)), not plain, marks)

    def of_outcome(self, outcome: Outcome, text: str) -> str:
        colour = _COLOURS.get(outcome) if self.colour else None
        return click.style(text, fg=colour, bold=True) if colour else text

    def strong(self, text: str) -> str:
        return click.style(text, bold=True) if self.colour else text


def lines_of(step: Step, style: Style) -> Iterator[str]:
    """Yield the lines of a step."""
    finding = step.finding
    mark = _MARKS[step.outcome] if style.marks else f"{step.outcome.value:<7}"
    name, took = f"{mark} {step.name:<11}", f"{step.milliseconds:.0f} ms"
    took = f" {took if step.milliseconds else '':>8}  "
    indent = " " * len(name + took)
    texts = (finding.summary, *finding.notes)
    first, *more = (line for text in texts for line in _wrapped(text, style, len(indent)))
    yield f"{style.of_outcome(step.outcome, name)}{took}{first}"
    yield from (indent + line for line in more)
    for number, advice in enumerate(finding.advice, 1):
        yield from _advice(number, advice, style)


def _advice(number: int, advice: Advice, style: Style) -> Iterator[str]:
    lead = f"    {number}. "
    indent = " " * len(lead)
    for line in _wrapped(f"{advice.cause}.", style, len(lead)):
        yield lead + style.strong(line)
        lead = indent
    if advice.hint:
        yield from (indent + line for line in _wrapped(f"{advice.hint}.", style, len(indent)))
    # Never wrapped: they are to be pasted.
    yield from (f"{indent}  $ {command}" for command in advice.commands)


def _wrapped(text: str, style: Style, lead: int) -> list[str]:
    if style.width is None:
        return [text]
    width = max(_NARROWEST // 2, style.width - lead)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def ending(steps: Sequence[Step], exit_status: int, style: Style) -> str:
    """Return the last lines."""
    text, outcome = _ENDINGS[exit_status], Outcome.OK
    if exit_status != WELL:
        text = f"{text} Exit status {exit_status}, as `authproxy check --help` explains."
        outcome = Outcome.FAILED
    elif any(step.outcome is Outcome.WARNING for step in steps):
        text, outcome = "All is well, with a warning.", Outcome.WARNING
    return "\n".join(style.of_outcome(outcome, line) for line in _wrapped(text, style, 0))


def report(
    process: Sequence[Step], checked: Sequence[tuple[Route, Sequence[Step]]], exit_status: int
) -> dict[str, Any]:
    """Return what `--json` prints: docs/command-line.md describes it.

    `process` are the steps that are about no route.
    """
    about = [
        {
            "target": str(route.settings.target),
            "identity_type": route.settings.identity_type,
            "scope": route.settings.scope,
        }
        for route, _ in checked
    ]
    several = any(route.name for route, _ in checked)
    named = [{"name": route.name, **of} for (route, _), of in zip(checked, about, strict=True)]
    return {
        **_ending(exit_status),
        **(dict.fromkeys(about[0]) if several else about[0]),
        "steps": [
            *(_step(step, None) for step in process),
            *(_step(step, route.name or None) for route, steps in checked for step in steps),
        ],
        "routes": named if several else [],
    }


def _ending(exit_status: int) -> dict[str, Any]:
    return {"version": __version__, "ok": exit_status == WELL, "exit_status": exit_status}


def report_of_faults(error: SettingsError) -> dict[str, Any]:
    """Return the report of a check whose settings cannot be used."""
    faults = [asdict(fault) for fault in error.faults]
    advice = [
        Advice(
            f"{f'route {one.route}: ' if one.route else ''}{one.setting}: {one.problem}", one.hint
        )
        for one in error.faults
    ]
    summary = f"{len(faults)} fault{'s' * (len(faults) > 1)} in the settings"
    finding = Finding(summary, Outcome.FAILED, {"faults": faults}, advice=tuple(advice))
    return {
        **_ending(SETTINGS),
        **dict.fromkeys(("target", "identity_type", "scope")),
        "steps": [_step(Step("settings", finding, exit_status=SETTINGS), None)],
        "routes": [],
    }


def _step(step: Step, route: str | None) -> dict[str, Any]:
    finding = step.finding
    return {
        "name": step.name,
        "route": route,
        "outcome": step.outcome.value,
        "milliseconds": round(step.milliseconds, 1),
        "summary": finding.summary,
        "facts": dict(finding.facts),
        "notes": list(finding.notes),
        "advice": [
            {"cause": one.cause, "hint": one.hint, "commands": list(one.commands)}
            for one in finding.advice
        ],
    }
