"""One page for several workers: the worker that is scraped adds up the reports of all.

Counters do not fall when a worker dies or hangs: the parent keeps the last report of
each. prometheus_client's own multi-process mode has files for its own
metrics only, not for the SDK's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from authproxy.admin.sums import SUBJECT, Family, added_up
from authproxy.server.processes.channel import ParentLink


class SharedMetrics(Collector):
    """The metrics of all workers."""

    def __init__(self, own: Collector, siblings: ParentLink) -> None:
        self._siblings = siblings
        siblings.report_on(SUBJECT, lambda: json.dumps(families_of(own)).encode(), lasting=True)

    def collect(self) -> Iterable[Metric]:
        """Return the sums. Raises AuthProxyError where no reports come."""
        gathered = self._siblings.gather(SUBJECT)
        reports = [worker["report"] for worker in gathered["workers"]]
        return [
            metric_of(family)
            for family in added_up(report for report in (*reports, gathered["ended"]) if report)
        ]


def families_of(collector: Collector) -> list[Family]:
    """Return a collector's metrics in the form of a report."""
    return [
        [
            metric.name,
            metric.documentation,
            metric.type,
            metric.unit,
            [[sample.name, sample.labels, sample.value] for sample in metric.samples],
        ]
        for metric in collector.collect()
    ]


def metric_of(family: Family) -> Metric:
    """Return one of a report's metrics as prometheus_client has it."""
    name, documentation, kind, unit, samples = family
    metric = Metric(name, documentation, kind, unit)
    for sample, labels, value in samples:
        metric.add_sample(sample, labels, value)
    return metric
