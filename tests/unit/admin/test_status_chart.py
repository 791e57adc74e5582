"""Where bars stand: the target's above the line, the proxy's own below, and none too small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from authproxy.admin.status_chart import ABOVE, BELOW, NAMES, chart_of
from authproxy.telemetry.recent_requests import KINDS, MINUTES


def counts(**given: int) -> dict[str, float]:
    return {"minute_at": 0.0, **dict.fromkeys(KINDS, 0), **given}


def test_every_kind_has_a_side_and_a_name() -> None:
    assert sorted((*ABOVE, *BELOW)) == sorted(KINDS) == sorted(NAMES)


def test_the_targets_answers_rise_and_the_proxys_errors_hang() -> None:
    chart = chart_of([counts(target_2xx=40, target_5xx=10, proxy_5xx=50)])
    good, bad, own = chart.bars[0].blocks
    assert (good.y, good.height) == (-40, 40)
    assert (bad.y, bad.height) == (-50, 10)
    assert (own.y, own.height) == (0, 50)
    assert (chart.most_above, chart.most_below) == (50, 50)


def test_one_error_among_many_requests_is_seen() -> None:
    chart = chart_of([counts(target_2xx=1_000_000, target_4xx=1, proxy_4xx=1)])
    assert [block.height for block in chart.bars[0].blocks][1:] == [2, 2]


def test_nothing_is_a_line() -> None:
    chart = chart_of([counts()] * MINUTES)
    assert (chart.most_above, chart.most_below) == (0, 0)
    assert not any(bar.blocks for bar in chart.bars)
    assert chart.height > 0


@given(st.lists(st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**9)), min_size=1))
def test_all_bars_are_within_the_drawing(minutes: list[dict[str, int]]) -> None:
    chart = chart_of([counts(**minute) for minute in minutes])
    for bar in chart.bars:
        for block in bar.blocks:
            assert block.y >= chart.top
            assert block.y + block.height <= chart.top + chart.height + 0.02
            assert block.height >= 2
            assert 0 <= block.x < chart.width
    shown = sum(len(bar.blocks) for bar in chart.bars)
    assert shown == sum(count > 0 for minute in minutes for count in minute.values())
