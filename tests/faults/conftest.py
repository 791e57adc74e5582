"""What the rows are played on, and where their figures go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.faults.bench import play
from lab.faults.ground import Ground
from lab.faults.needs import missing
from lab.faults.row import Row
from tests.support.authority import Authority

Play = Callable[[Row], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--measured", type=Path, default=None, help="a folder for what the fault matrix measured"
    )


@pytest.fixture(scope="module")
def shared_ground(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Ground]]:
    """A proxy for the rows that leave it as they found it, started when the first one asks."""
    with ExitStack() as stack:
        grounds: list[Ground] = []

        def ground() -> Ground:
            if not grounds:
                grounds.append(
                    stack.enter_context(Ground(authority, tmp_path_factory.mktemp("shared")))
                )
                grounds[0].launch()
            return grounds[0]

        yield ground


@pytest.fixture
def play_row(
    request: pytest.FixtureRequest,
    authority: Authority,
    shared_ground: Callable[[], Ground],
    tmp_path: Path,
) -> Play:
    """Play a row, on a proxy of its own unless it can share one."""
    measured = request.config.getoption("--measured", None)

    def play_it(row: Row) -> None:
        if unavailable := missing(row.needs):
            pytest.skip(f"not available here: {', '.join(unavailable)}")
        if row.shared:
            play(row, shared_ground(), measured)
            return
        with Ground(authority, tmp_path) as own:
            play(row, own, measured)

    return play_it
