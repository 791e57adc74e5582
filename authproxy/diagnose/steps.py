"""What `authproxy check` finds out, as data: steps, their outcomes, causes and hints.

A probe looks at one thing and returns a `Finding`; a `Step` is a finding with
its name and how long it took. What a failure means is looked up in a table of
rules (`first`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

from authproxy.errors import Advice, AuthProxyError

#: Exit statuses. What stands first in the order of the steps decides.
WELL, IDENTITY, SETTINGS, TARGET = 0, 1, 2, 3

T = TypeVar("T")


class Outcome(str, Enum):
    """How a step went; the values are those of the JSON report."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What a probe found.

    `facts` are for scripts, `notes` say the same to people, a line each.
    `advice` has the likely causes in order.
    """

    summary: str
    outcome: Outcome = Outcome.OK
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()


class Rule:
    """A row of a table: what it means `when` that holds, and the likely causes in order."""

    def __init__(
        self, when: object, summary: str, *causes: Advice, outcome: Outcome = Outcome.FAILED
    ) -> None:
        self.when = when
        advice = tuple(cause for cause in causes if cause.when)
        self.finding = Finding(summary, outcome, advice=advice)


def first(*rules: Rule, facts: Mapping[str, Any] | None = None) -> Finding:
    """Return what the first rule says that holds; the last one must always hold."""
    finding = next(rule.finding for rule in rules if rule.when)
    return replace(finding, facts=facts or {})


@dataclass(frozen=True)
class Step:
    """One finding of a check. `exit_status` is what a failure of it means."""

    name: str
    finding: Finding
    milliseconds: float = 0.0
    exit_status: int = WELL

    @property
    def outcome(self) -> Outcome:
        return self.finding.outcome

    @property
    def failed(self) -> bool:
        return self.outcome is Outcome.FAILED


class ProbeFailed(AuthProxyError):
    """A probe could not do what later ones need; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.summary)
        self.finding = finding


class TookTooLong(AuthProxyError):
    """A probe was given up at its limit."""


def within(seconds: float, function: Callable[[], T]) -> T:
    """Return `function()`, or raise TookTooLong.

    Name resolution and an identity's libraries have no limit of their own. What is given
    up goes on in a thread that does not outlive the process.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        # Raised in the thread that waits.
        except BaseException as error:  # noqa: BLE001
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return result.result(seconds)
    except FutureTimeout:
        if result.done():  # it is the function's own
            raise
        raise TookTooLong(f"given up after {seconds:g} s") from None
