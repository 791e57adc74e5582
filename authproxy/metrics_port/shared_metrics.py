"""One answer for several workers: each collects its siblings' metrics and adds them up.

Each worker answers its siblings with its metrics as JSON, and keeps what it
last answered in a file beside its socket. So
counters do not fall when a worker dies, and one that is slow to answer counts
with its last word. prometheus_client's own multi-process mode has files for
its own metrics only, not for the SDK's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from authproxy.metrics_port.siblings import Siblings

#: How long the lock between collectors is waited for.
LOCK_SECONDS = 3.0

#: Metrics that only grow; the others of a worker end with it.
_GROWING = frozenset({"counter", "histogram", "summary"})

#: Gauges of which the sum would say nothing, and what does.
_MEETING: dict[str, Callable[[float, float], float]] = {
    "aad_auth_proxy_token_expiry_timestamp_seconds": min,
    "process_start_time_seconds": min,
    "process_max_fds": min,
    "python_info": max,
}

#: name, documentation, type, unit, and samples of name, labels and value
Family = list[Any]


class LockTimeout(Exception):
    """Another collector has held the lock for too long."""


class SharedMetrics(Collector):
    """The metrics of all workers, whichever of them is asked."""

    def __init__(self, own: Collector, directory: Path) -> None:
        self._own = own
        self._directory = directory
        self._snapshot_lock = threading.Lock()
        #: Others may have answers of theirs given here, until `start`.
        self.siblings = Siblings(directory)
        self.siblings.answer_with("metrics", lambda: json.dumps(self._snapshot()).encode())

    def start(self) -> None:
        """Begin to answer siblings."""
        self.siblings.start()

    def stop(self) -> None:
        """Leave a last word; siblings find nobody there any more."""
        self._snapshot()
        self.siblings.stop()

    def collect(self) -> Iterable[Metric]:
        """Return the sums. Raises LockTimeout."""
        with self._locked():
            families = [self._snapshot(), *self._siblings()]
            families.append(self._read(self._directory / "ended.json"))
        return added_up(families)

    # This worker's own.

    def _snapshot(self) -> list[Family]:
        """Return this worker's metrics, once they are kept in its file."""
        with self._snapshot_lock:
            families = [
                [
                    metric.name,
                    metric.documentation,
                    metric.type,
                    metric.unit,
                    [[sample.name, sample.labels, sample.value] for sample in metric.samples],
                ]
                for metric in self._own.collect()
            ]
            self._write(self._directory / f"{self.siblings.name}.json", families)
            return families

    # The siblings'.

    def _siblings(self) -> Iterator[list[Family]]:
        """Yield each sibling's metrics; with the lock held."""
        for sibling in self.siblings.ask("metrics"):
            if sibling.dead:
                self._bury(sibling.path)
                continue
            try:
                yield json.loads(sibling.answer or b"")
            except ValueError:  # too slow, or it died within its answer
                yield self._read(sibling.path.with_suffix(".json"))

    def _bury(self, path: Path) -> None:
        """Add what a dead worker counted to what the dead before it did."""
        last_word = path.with_suffix(".json")
        ended = self._directory / "ended.json"
        growing = [
            [metric.name, metric.documentation, metric.type, metric.unit, _samples(metric)]
            for metric in added_up([self._read(ended), self._read(last_word)])
            if metric.type in _GROWING
        ]
        self._write(ended, growing)
        last_word.unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_SECONDS
        with (self._directory / "lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise LockTimeout(
                            "another worker is collecting, and does not end"
                        ) from None
                    time.sleep(0.01)  # flock knows no time limit of its own
            yield

    @staticmethod
    def _read(path: Path) -> list[Family]:
        try:
            content: list[Family] = json.loads(path.read_text())
        except FileNotFoundError:
            return []
        return content

    @staticmethod
    def _write(path: Path, families: list[Family]) -> None:
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(families))
        os.replace(unfinished, path)


def added_up(answers: Iterable[list[Family]]) -> list[Metric]:
    """Return the metrics of several processes as those of one."""
    metrics: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in answers:
        for name, documentation, kind, unit, samples in families:
            metrics.setdefault(name, Metric(name, documentation, kind, unit))
            known = values.setdefault(name, {})
            meeting = _MEETING.get(name)
            for sample, labels, value in samples:
                # An empty label is none. The exporter gives one to every series of a family
                # in which some have it, so that workers may differ in that.
                key = sample, tuple(sorted(pair for pair in labels.items() if pair[1]))
                before = known.get(key)
                if before is None:
                    known[key] = value
                else:
                    known[key] = meeting(before, value) if meeting else before + value
    for name, metric in metrics.items():
        for (sample, labels), value in values[name].items():
            metric.add_sample(sample, dict(labels), value)
    return list(metrics.values())


def _samples(metric: Metric) -> list[Any]:
    return [[sample.name, sample.labels, sample.value] for sample in metric.samples]
