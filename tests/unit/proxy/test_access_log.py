"""Floods of failures: who is refused before a target is known takes no lines from others."""

from __future__ import annotations

from authproxy.proxy.access_log import LINES_OF_ALL, LINES_OF_ONE, AccessLog
from authproxy.telemetry.events import Telemetry


def lines(log: AccessLog, failures: int, *, forwarded: bool, alike: bool = False) -> int:
    """Return how many of so many failures have a line."""
    return sum(
        log.failure_gets_line("x" if alike else n, 401, "Unauthorized", forwarded=forwarded)
        for n in range(failures)
    )


def test_refused_clients_use_up_their_own_lines_alone() -> None:
    log = AccessLog(Telemetry(), "all")
    assert lines(log, LINES_OF_ALL + 5, forwarded=False) == LINES_OF_ALL
    assert lines(log, LINES_OF_ONE + 5, forwarded=True, alike=True) == LINES_OF_ONE
    log.flush()
    assert lines(log, 5, forwarded=False) == 5


def test_none_has_a_line_where_the_log_is_off() -> None:
    assert lines(AccessLog(Telemetry(), "none"), 5, forwarded=True) == 0
