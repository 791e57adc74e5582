"""Where the process stands between start and end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Lifecycle:
    """Two one-way switches, thrown by the server and read by requests.

    `draining`: the end was asked for; readiness says so, requests still pass.
    `refusing`: the grace for them is over.
    """

    draining: bool = False
    refusing: bool = False
