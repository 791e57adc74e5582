"""Who has to go on, how fast they do, and when that has taken too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.server.limits import Timeouts
from authproxy.server.progress import GRACE_SECONDS, Pace, Stage, is_overdue, slowest

TIMEOUTS = Timeouts(idle=50, request=10, body=30, stall=20, linger=5, linger_silence=2)


@pytest.mark.parametrize(
    ("stage", "silence", "lasting"),
    [
        (Stage.IDLE, 50, 1000),
        (Stage.HEAD, 10, 10),
        (Stage.BODY, 10, 30),
        (Stage.WRITING, 20, 1000),
        (Stage.LINGERING, 2, 5),
    ],
)
def test_each_stage_has_bounds_of_its_own(stage: Stage, silence: float, lasting: float) -> None:
    assert not is_overdue(stage, silence, lasting, TIMEOUTS)
    assert is_overdue(stage, silence + 1, lasting, TIMEOUTS)
    bounded = stage in (Stage.HEAD, Stage.BODY, Stage.LINGERING)
    assert is_overdue(stage, 0, lasting + 1, TIMEOUTS) == bounded


@pytest.mark.parametrize("stage", [Stage.ROOM, Stage.SERVED])
def test_what_is_not_the_clients_turn_takes_as_long_as_it_takes(stage: Stage) -> None:
    assert not is_overdue(stage, 1e6, 1e6, TIMEOUTS)
    assert not stage.waits_for_client


def paced(moved: int, began: float) -> Pace:
    pace = Pace(began)
    pace.moved = moved
    return pace


def test_the_least_bytes_a_second_come_first_and_the_new_ones_not_at_all() -> None:
    now = 100.0
    paces = {
        "fast": paced(10_000, now - 10),
        "drip": paced(10, now - 10),
        "long": paced(20_000, now - 1000),
        "new": paced(0, now - GRACE_SECONDS + 0.1),
        "silent": paced(0, now - GRACE_SECONDS),
    }
    assert slowest(paces.items(), now) == ["silent", "drip", "long", "fast"]


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=8))
def test_time_in_which_nothing_could_be_moved_does_not_count(
    spans: list[float],
) -> None:
    """Every second span it was held."""
    clock = [0.0]
    pace = Pace(0.0)
    for at, span in enumerate(spans):
        if at % 2:
            pace.hold(clock[0])
            clock[0] += span
            assert pace.seconds(clock[0] + 5) == pytest.approx(sum(spans[:at:2]))
            assert pace.release(clock[0])
        else:
            clock[0] += span
    assert not pace.release(clock[0])
    assert pace.seconds(clock[0]) == pytest.approx(sum(spans[::2]))
