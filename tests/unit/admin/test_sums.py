"""The metrics of several workers add up, also of those that have ended."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from authproxy.admin.shared_metrics import families_of, metric_of
from authproxy.admin.sums import Family, added_up, fold

EXPIRY = "aad_auth_proxy_token_expiry_timestamp_seconds"


class Counted(Collector):
    """What one worker has counted."""

    def __init__(self, count: float, expiry: float = 100.0) -> None:
        self.count = count
        self.expiry = expiry

    def collect(self) -> Iterable[Metric]:
        counter = CounterMetricFamily("requests", "How many.", labels=["path"])
        counter.add_metric(["/x"], self.count)
        gauge = GaugeMetricFamily("in_flight", "How many now.", value=self.count)
        expiry = GaugeMetricFamily(EXPIRY, "When.", value=self.expiry)
        histogram = HistogramMetricFamily("duration", "How long.")
        histogram.add_metric([], [("1.0", self.count), ("+Inf", self.count)], self.count / 2)
        return [counter, gauge, expiry, histogram]


def report(count: float, expiry: float = 100.0) -> list[Family]:
    """Return what a worker that has counted so far reports, as it arrives."""
    families: list[Family] = json.loads(json.dumps(families_of(Counted(count, expiry))))
    return families


def values(families: Iterable[Family]) -> dict[str, float]:
    return {name: value for *_, samples in families for name, _, value in samples}


def test_a_report_is_the_metrics_again() -> None:
    assert [metric_of(family) for family in report(5)] == list(Counted(5).collect())


def test_counters_and_histograms_add_up_and_the_earliest_expiry_counts() -> None:
    found = values(added_up(report(n, expiry=n) for n in (2, 3, 4)))
    assert found["requests_total"] == 9
    assert found["in_flight"] == 9
    assert found["duration_bucket"] == 9
    assert found["duration_sum"] == 4.5
    assert found[EXPIRY] == 2


def test_of_workers_that_ended_what_grows_stays_and_gauges_go() -> None:
    ended = None
    for count in (1, 10, 100):
        ended = fold(ended, json.dumps(report(count)).encode())
    assert ended is not None
    found = values(json.loads(ended))
    assert (found["requests_total"], found["duration_count"]) == (111, 111)
    assert "in_flight" not in found
    assert EXPIRY not in found


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5))
def test_it_makes_no_difference_who_has_ended(counts: list[int]) -> None:
    ended = None
    for count in counts:
        ended = fold(ended, json.dumps(report(count)).encode())
    assert ended is not None
    living = values(added_up(map(report, counts)))
    assert values(json.loads(ended)) == {name: living[name] for name in values(json.loads(ended))}


def test_an_empty_label_is_none_so_that_no_series_comes_twice() -> None:
    """As when one worker has seen an error, and all its series got an error_type for it."""

    def family(**labels: str) -> Family:
        return ["duration", "How long.", "counter", "s", [["duration_total", labels, 2.0]]]

    (summed,) = added_up([[family(method="GET")], [family(method="GET", error_type="")]])
    assert summed[4] == [["duration_total", {"method": "GET"}, 4.0]]
