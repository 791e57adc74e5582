"""What `authproxy check` finds out, as data: steps, their outcomes, and advice.

A probe looks at one thing and returns a `Finding`; a `Step` is a finding with
its name and how long it took.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from authproxy.errors import AuthProxyError

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
class Advice:
    """One likely cause, what mends it, and the commands for that, if there are any."""

    cause: str
    mend: str = ""
    commands: tuple[str, ...] = ()


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

    def __init__(
        self,
        summary: str,
        *advice: Advice,
        facts: Mapping[str, Any] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(summary)
        self.finding = Finding(summary, Outcome.FAILED, facts or {}, notes, advice)


class TookTooLong(AuthProxyError):
    """A probe was given up at its limit."""


class _Handover(Generic[T]):
    """What came of a function that ran in another thread."""

    value: T
    error: BaseException | None = None


def within(seconds: float, function: Callable[[], T]) -> T:
    """Return `function()`, or raise TookTooLong.

    Name resolution and an identity's libraries know no limit of their own. What is given
    up goes on in a thread that does not outlive the process.
    """
    came: _Handover[T] = _Handover()

    def run() -> None:
        try:
            came.value = function()
        # Handed over as it is to whoever waits.
        except BaseException as error:  # noqa: BLE001
            came.error = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TookTooLong(f"given up after {seconds:g} s")
    if came.error is not None:
        raise came.error
    return came.value
