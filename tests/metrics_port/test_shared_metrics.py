"""The metrics of several workers add up, whoever of them is asked, and whoever died."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from authproxy.metrics_port import shared_metrics
from authproxy.metrics_port.shared_metrics import LockTimeout, SharedMetrics

EXPIRY = "aad_auth_proxy_token_expiry_timestamp_seconds"

#: A worker in a process of its own, which counts to five and says so.
WORKER = """
import sys, threading
from pathlib import Path
sys.path[:0] = [{root!r}]
from tests.metrics_port.test_shared_metrics import Counted
from authproxy.metrics_port.shared_metrics import SharedMetrics
shared = SharedMetrics(Counted(5), Path(sys.argv[1]))
shared.start()
print("up", flush=True)
threading.Event().wait()
"""


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


def values(metrics: Iterable[Metric]) -> dict[str, float]:
    return {sample.name: sample.value for metric in metrics for sample in metric.samples}


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("w")


@pytest.fixture
def other_worker(directory: Path) -> Iterator[subprocess.Popen[str]]:
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER.format(root=root), str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    assert process.stdout is not None
    with process.stdout as stdout:
        assert stdout.readline() == "up\n"
        yield process
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def test_counters_and_histograms_add_up_and_the_earliest_expiry_counts(directory: Path) -> None:
    workers = [SharedMetrics(Counted(n, expiry=n), directory) for n in (2, 3, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        found = values(worker.collect())
        assert found["requests_total"] == 9
        assert found["in_flight"] == 9
        assert found["duration_bucket"] == 9
        assert found["duration_sum"] == 4.5
        assert found[EXPIRY] == 2
    for worker in workers:
        worker.stop()


def test_what_a_killed_worker_had_counted_stays_and_its_gauges_go(
    directory: Path, other_worker: subprocess.Popen[str]
) -> None:
    worker = SharedMetrics(Counted(1), directory)
    assert values(worker.collect())["requests_total"] == 6
    other_worker.kill()
    other_worker.wait()
    for _ in range(3):
        found = values(worker.collect())
        assert (found["requests_total"], found["duration_count"]) == (6, 6)
        assert found["in_flight"] == 1
    worker.stop()


def test_a_worker_that_ended_in_order_left_its_last_word(directory: Path) -> None:
    ended, staying = Counted(1), SharedMetrics(Counted(1), directory)
    ending = SharedMetrics(ended, directory)
    ending.start()
    assert values(staying.collect())["requests_total"] == 2
    ended.count = 7  # and nobody asks before it ends
    ending.stop()
    assert values(staying.collect())["requests_total"] == 8
    staying.stop()


def test_a_worker_that_does_not_answer_counts_with_its_last_word(
    directory: Path, other_worker: subprocess.Popen[str]
) -> None:
    worker = SharedMetrics(Counted(1), directory)
    assert values(worker.collect())["requests_total"] == 6
    os.kill(other_worker.pid, signal.SIGSTOP)
    found = values(worker.collect())
    assert (found["requests_total"], found["in_flight"]) == (6, 6)
    worker.stop()


def test_several_deaths_add_up(directory: Path) -> None:
    staying = SharedMetrics(Counted(1), directory)
    for _ in range(3):
        SharedMetrics(Counted(10), directory).stop()
    assert values(staying.collect())["requests_total"] == 31
    assert values(staying.collect())["requests_total"] == 31
    staying.stop()
    assert len(list(directory.glob("*.sock"))) == 1


def test_a_collector_that_never_ends_costs_an_answer_and_no_more(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_metrics, "LOCK_SECONDS", 0.05)
    first, second = (SharedMetrics(Counted(1), directory) for _ in range(2))
    with first._locked(), pytest.raises(LockTimeout):
        second.collect()
    first.stop()
    second.stop()


def test_nobody_else_can_connect(directory: Path) -> None:
    """The parent's directory is its own: made by tempfile, with mode 0700."""
    worker = SharedMetrics(Counted(1), directory)
    (path,) = directory.glob("*.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert directory.stat().st_mode & 0o077 == 0
    worker.stop()


def test_an_empty_label_is_none_so_that_no_series_comes_twice() -> None:
    """As when one worker has seen an error, and all its series got an error_type for it."""

    def family(**labels: str) -> list[object]:
        return ["duration", "How long.", "counter", "s", [["duration_total", labels, 2.0]]]

    (metric,) = shared_metrics.added_up(
        [[family(method="GET")], [family(method="GET", error_type="")]]
    )
    assert [(sample.labels, sample.value) for sample in metric.samples] == [
        ({"method": "GET"}, 4.0)
    ]
