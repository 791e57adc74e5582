"""What holds `make unit` to its promise: a test in this folder starts no program and no process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

#: What the interpreter audits when a process is about to begin.
STARTS = frozenset(
    {"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
)

_running: list[str] = []


def _refuse(event: str, _: object) -> None:
    if event in STARTS and _running:
        raise AssertionError(
            f"{_running[-1]} starts a process ({event}): it belongs in tests/e2e or tests/deploy"
        )


sys.addaudithook(_refuse)


@pytest.fixture(autouse=True)
def no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse to start a process as long as a test of this folder runs."""
    _running.append(request.node.nodeid)
    yield
    _running.clear()
