"""Meters and tracers whose measurements and spans stay in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from authproxy.telemetry import log_writer
from authproxy.telemetry.instruments import Instruments
from authproxy.telemetry.recent_requests import RecentRequests
from tests.support.wire import DEADLINE

#: The labels of a series, as pairs that can be compared in any order.
Labels = frozenset[tuple[str, Any]]


class Measured:
    """Instruments, and what the SDK reads from them."""

    def __init__(self, recent: RecentRequests | None = None) -> None:
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.instruments = Instruments(self._provider.get_meter("test"), recent)

    def points(self, name: str) -> dict[Labels, Any]:
        """Return the data points of an instrument now, by their labels."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            frozenset((point.attributes or {}).items()): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def values(self, name: str) -> dict[Labels, float]:
        """Return the values of a counter or gauge by their labels."""
        return {labels: point.value for labels, point in self.points(name).items()}

    def counts(self, name: str) -> dict[Labels, int]:
        """Return how often a histogram was recorded, by labels."""
        return {labels: point.count for labels, point in self.points(name).items()}

    def close(self) -> None:
        self._provider.shutdown()


class Traced:
    """A provider of tracers, and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def only(self) -> ReadableSpan:
        """Return the one span that has ended."""
        (span,) = self.spans
        return span

    def close(self) -> None:
        self.provider.shutdown()


@pytest.fixture(scope="module", autouse=True)
def patient_flush() -> Iterator[None]:
    """Have a flush wait as long as tests do: on a busy machine the thread may get no processor."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("_STALL_SECONDS", "_FLUSH_SECONDS"):
            patched.setattr(log_writer, name, DEADLINE)
        yield


@pytest.fixture
def measured() -> Iterator[Measured]:
    made = Measured()
    yield made
    made.close()


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.close()
