"""Which samples the store has acknowledged."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from authproxy.demo.stand_ins.remote_write import Sample

Labels = frozenset[tuple[str, str]]


class Ledger:
    """Every sample that was acknowledged, by series and timestamp in milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[Labels, dict[int, float]] = {}
        self.samples = 0
        #: Samples that came again, because a response was lost on its way.
        self.repeated = 0
        #: Samples that came again with another value: never right.
        self.contradicted: list[str] = []

    def add(self, samples: Iterable[Sample]) -> None:
        """Note what a write brought."""
        with self._lock:
            for sample in samples:
                values = self._series.setdefault(frozenset(sample.labels), {})
                before = values.get(sample.timestamp)
                if before is None:
                    values[sample.timestamp] = sample.value
                    self.samples += 1
                    continue
                self.repeated += 1
                # A staleness marker is a NaN, which differs from itself.
                if before != sample.value and (before == before or sample.value == sample.value):
                    self.contradicted.append(f"{before} then {sample}")

    def missing(self, scraped: Mapping[Labels, Mapping[int, str]]) -> int:
        """Return how many of these samples are not there, or with another value."""
        with self._lock:
            return sum(
                not self._holds(labels, at, float(value))
                for labels, values in scraped.items()
                for at, value in values.items()
            )

    def _holds(self, labels: Labels, at: int, value: float) -> bool:
        there = self._series.get(labels, {}).get(at)
        return there is not None and (there == value or (there != there and value != value))
