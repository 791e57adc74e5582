"""The latency that a proxy adds to remote writes which come by the clock."""

from __future__ import annotations

import os
from collections.abc import Mapping
from statistics import median

import cramjam

from lab.benchmarks.load import FailedRequests
from lab.benchmarks.open_loop import Latencies, send
from lab.benchmarks.processes import Program
from lab.benchmarks.testbed import Testbed

#: Requests a second.
RATES = (50, 200, 500)
#: Straight to the target, without TLS: what the others' latency is compared with.
DIRECT = "direct"

_BODY_BYTES = 100_000
_WARM_UP_REQUESTS = 10

#: The runs of each rate, by the way that the requests took.
LatencyRuns = dict[int, dict[str, list[Latencies]]]


def remote_write() -> bytes:
    """Return a remote write of about 100 KB, of samples that snappy can't make smaller."""
    body = bytes(cramjam.snappy.compress_raw(os.urandom(_BODY_BYTES)))
    head = (
        "POST /api/v1/write HTTP/1.1",
        "Host: localhost",
        "User-Agent: Prometheus/2.42.0",
        "Content-Type: application/x-protobuf",
        "Content-Encoding: snappy",
        "X-Prometheus-Remote-Write-Version: 0.1.0",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def measure(
    bed: Testbed, proxies: Mapping[str, Program], rounds: int, seconds: int
) -> tuple[LatencyRuns, list[str]]:
    """Return the latencies, and which runs failed. The ways take turns within each round."""
    request = remote_write()
    ways = {DIRECT: bed.target_clear_port, **{name: each.port for name, each in proxies.items()}}
    runs: LatencyRuns = {rate: {} for rate in RATES}
    failures = []
    for _ in range(rounds):
        for rate in RATES:
            for name, port in ways.items():
                try:
                    send(port, request, RATES[0], _WARM_UP_REQUESTS)
                    latencies = send(port, request, rate, rate * seconds)
                except FailedRequests as error:
                    failures.append(f"{name}, {rate} requests/s: {error}")
                else:
                    runs[rate].setdefault(name, []).append(latencies)
    return runs, failures


def medians(runs: list[Latencies]) -> Latencies:
    """Return the median of each figure, and the greatest maximum."""
    return Latencies(
        rate=median(run.rate for run in runs),
        p50=median(run.p50 for run in runs),
        p90=median(run.p90 for run in runs),
        p99=median(run.p99 for run in runs),
        max=max(run.max for run in runs),
    )
