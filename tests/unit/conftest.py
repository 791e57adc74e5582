"""What holds `make unit` to its promise: no test starts a process, unless it is marked so."""

from __future__ import annotations

import platform
import sys

import pytest

#: What the interpreter audits when a process is about to begin.
STARTS = frozenset(
    {"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
)

_running: list[str] = []


def _refuse(event: str, _: object) -> None:
    if event in STARTS and _running:
        raise AssertionError(
            f"{_running[-1]} starts a process ({event}): move it to tests/e2e or tests/deploy, "
            "or mark it with pytest.mark.process"
        )


sys.addaudithook(_refuse)
# It runs `uname -p`, once; whoever imports azure.identity first would be blamed for it.
platform.processor()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """From here on refuse to start a process, for the test and its fixtures."""
    if item.get_closest_marker("process") is None:
        _running.append(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Other tests may start what they like."""
    _running.clear()
