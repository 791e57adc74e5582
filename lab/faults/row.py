"""One row of the matrix: a fault, when it comes, and what clients may see of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.faults.bench import Bench


@dataclass(frozen=True)
class Row:
    """A row, with its scenario and its promise.

    `sees` are the outcomes that some client has to see, `may_see` those that it
    may see besides; anything else fails the row. So do statuses of the probes
    other than 200 and `ready` or `health`. `log` are messages that the log has to have.
    """

    fault: str
    stage: str
    scenario: Callable[[Bench], None]
    sees: frozenset[str] = frozenset()
    may_see: frozenset[str] = frozenset()
    ready: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    #: What the length of the trouble depends on, for the page.
    bound: str = ""
    #: Who or what has to help, if anything.
    helper: str = ""
    #: Whether a proxy that other rows use as well will do.
    shared: bool = True
    #: Whether `make test` has no time for it.
    slow: bool = True
    #: The real programs and rights that it needs.
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.fault}, {self.stage}"

    @property
    def file_name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
