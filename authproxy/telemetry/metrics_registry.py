"""This process's metrics as prometheus_client has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from authproxy.telemetry.instruments import Histogram
from authproxy.telemetry.series import BOUNDARIES_SECONDS

#: What the names of metrics end with.
_UNITS = {"s": "seconds", "ms": "milliseconds"}


class MetricsRegistry(Collector):
    """The instruments, and what prometheus_client knows of process and interpreter.

    Names and labels are the instruments' own: neither the scope nor the
    resource adds any.
    """

    #: Returns histograms that the SDK does not have.
    histograms: Callable[[], Iterable[Histogram]] = tuple

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self.reader = PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=self._registry
        )

    def collect(self) -> Iterable[Metric]:
        yield from self._registry.collect()
        yield from (_family(each) for each in self.histograms() if each.durations)


def _family(histogram: Histogram) -> HistogramMetricFamily:
    """Return a histogram in the form in which the SDK's exporter has it."""
    names = sorted({name for labels in histogram.durations for name, _ in labels})
    family = HistogramMetricFamily(
        histogram.name.replace(".", "_"),
        histogram.description,
        labels=[name.replace(".", "_") for name in names],
        unit=_UNITS[histogram.unit],
    )
    bounds = [*(str(seconds * histogram.scale) for seconds in BOUNDARIES_SECONDS), "+Inf"]
    for labels, durations in histogram.durations.items():
        values = dict(labels)
        family.add_metric(
            [str(values.get(name, "")) for name in names],
            buckets=list(zip(bounds, accumulate(durations.counts), strict=True)),
            sum_value=durations.seconds * histogram.scale,
        )
    return family
