"""The state of the process between start and end."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Lifecycle:
    """Two one-way switches, set by the server and read by requests, and the last reload.

    `draining`: the end was requested; readiness says so, requests still pass, upgrades do not.
    `refusing`: the grace for them is over.
    """

    draining: bool = False
    refusing: bool = False
    #: As /status has it, `done_at` in seconds since the epoch; `error` says why it was refused.
    last_reload: dict[str, float | str | None] | None = None

    def reloaded(self, error: str | None = None) -> None:
        """Note a reload of the settings just now, and why they were refused, if so."""
        self.last_reload = {"done_at": time.time(), "error": error}
