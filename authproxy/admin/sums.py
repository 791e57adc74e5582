"""Pure rules: the metrics of several processes added up to those of one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

#: What workers report on.
SUBJECT = "metrics"

#: Metrics that only grow; the others of a worker end with it.
_GROWING = frozenset({"counter", "histogram", "summary"})

#: Gauges whose sum has no meaning, and how they are combined.
_COMBINED: dict[str, Callable[[float, float], float]] = {
    "aad_auth_proxy_token_expiry_timestamp_seconds": min,
    "process_start_time_seconds": min,
    "process_max_fds": min,
    "python_info": max,
}

#: name, documentation, type, unit, and samples of name, labels and value
Family = list[Any]


def added_up(reports: Iterable[Iterable[Family]]) -> list[Family]:
    """Return the metrics of several processes as those of one."""
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for report in reports:
        for name, documentation, kind, unit, samples in report:
            families.setdefault(name, [name, documentation, kind, unit])
            known = values.setdefault(name, {})
            combine = _COMBINED.get(name)
            for sample, labels, value in samples:
                # An empty label is none. The exporter gives one to every series of a family
                # in which some have it, so that workers may differ in that.
                key = sample, tuple(sorted(pair for pair in labels.items() if pair[1]))
                before = known.get(key)
                if before is None:
                    known[key] = value
                else:
                    known[key] = combine(before, value) if combine else before + value
    return [
        [
            *family,
            [[sample, dict(labels), value] for (sample, labels), value in values[name].items()],
        ]
        for name, family in families.items()
    ]


def fold(ended: bytes | None, report: bytes) -> bytes:
    """Add the last report of a worker that has ended to those of the workers before."""
    reports = [json.loads(each) for each in (ended, report) if each is not None]
    return json.dumps([family for family in added_up(reports) if family[2] in _GROWING]).encode()
