"""What a second worker gives, with the load on the same cores.

wrk and the target need cores as well. Where there are no others, what two
workers serve in a second falls short by as much as those take. So a run's
requests are divided by the core-seconds that the proxy could have had: those
of its cores less what anything else used of them. A core that idles, because
the other worker took all connections or both wait for the same lock, still
counts as the proxy's.

What the cores themselves give is seen by two proxies of one worker each, side
by side: they share nothing but caches and memory. What two workers of one
proxy serve less than those is the proxy's own loss.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from lab.benchmarks.load import SMALL_GET, WARM_UP_SECONDS, Run, run
from lab.benchmarks.processes import Program, busy_seconds, free_port
from lab.benchmarks.ratio import Ratio
from lab.benchmarks.testbed import Testbed

WORKLOAD = replace(SMALL_GET, connections=64)
GOAL = 1.8


@dataclass(frozen=True)
class WorkersRun:
    """One run. `per_core_second` is what was served in each core-second there was to be had.

    `shares` are the workers' parts of the CPU time that all of them used.
    """

    run: Run
    per_core_second: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Scaling:
    """Runs with one worker on one core, and with two workers on two."""

    one: list[WorkersRun]
    two: list[WorkersRun]
    #: Requests in each core-second of two proxies side by side.
    apart: list[float]

    @property
    def ratio(self) -> Ratio:
        """Two cores' requests against one's, of the time that was the proxy's to use."""
        pairs = zip(self.one, self.two, strict=True)
        return Ratio.of(2 * two.per_core_second / one.per_core_second for one, two in pairs)

    @property
    def ratio_apart(self) -> Ratio:
        """The same of two proxies side by side: what these cores can give."""
        pairs = zip(self.one, self.apart, strict=True)
        return Ratio.of(2 * apart / one.per_core_second for one, apart in pairs)

    @property
    def uncorrected(self) -> Ratio:
        """Two workers' requests a second against one's, as they came."""
        pairs = zip(self.one, self.two, strict=True)
        return Ratio.of(b.run.requests_per_second / a.run.requests_per_second for a, b in pairs)


def measure(bed: Testbed, rounds: int, seconds: int) -> Scaling | None:
    """Return what the runs showed, or None where there are no two cores.

    Raises FailedRequests on any error response.
    """
    cores = sorted(os.sched_getaffinity(0) | bed.own)
    if len(cores) < 2:
        return None
    first, both = set(cores[:1]), set(cores[:2])
    one, two = (
        bed.authproxy({"METRICS_PORT": str(free_port()), "WORKERS": str(len(own))}, cores=own)
        for own in (first, both)
    )
    apart = [
        bed.authproxy({"METRICS_PORT": str(free_port())}, cores={core}) for core in sorted(both)
    ]
    for proxy in (one, two, *apart):
        run(proxy, WORKLOAD, WARM_UP_SECONDS, bed.others)
    # With cores to spare, the load stays off those of both workers.
    load_of_two = set(cores[2:]) or both
    scaling = Scaling([], [], [])
    for _ in range(rounds):
        scaling.one.append(_run(one, first, seconds, bed.others))
        scaling.two.append(_run(two, both, seconds, load_of_two))
        scaling.apart.append(_run_apart(apart, both, seconds, load_of_two))
    for proxy in (one, two, *apart):
        proxy.stop()
    return scaling


def _run_apart(proxies: Sequence[Program], own: set[int], seconds: int, load: set[int]) -> float:
    """Load all proxies at once, each with its part of the connections."""
    workload = replace(WORKLOAD, connections=WORKLOAD.connections // len(proxies))
    began, busy = time.monotonic(), busy_seconds(own)
    before = sum(proxy.cpu_seconds() for proxy in proxies)
    with ThreadPoolExecutor(len(proxies)) as pool:
        runs = pool.map(lambda proxy: run(proxy, workload, seconds, load), proxies)
        served = sum(each.requests_per_second for each in runs)
    took, busy = time.monotonic() - began, busy_seconds(own) - busy
    used = sum(proxy.cpu_seconds() for proxy in proxies) - before
    return served * took / (took * len(own) - max(busy - used, 0.0))


def _run(proxy: Program, own: set[int], seconds: int, load: set[int]) -> WorkersRun:
    began, busy = time.monotonic(), busy_seconds(own)
    before = proxy.cpu_by_process()
    result = run(proxy, WORKLOAD, seconds, load)
    took, busy = time.monotonic() - began, busy_seconds(own) - busy
    used = {pid: cpu - before[pid] for pid, cpu in proxy.cpu_by_process().items()}
    others = max(busy - sum(used.values()), 0.0)
    # The parent of several workers does nothing, and is none of them.
    working = sorted(used.values(), reverse=True)[: len(own)]
    return WorkersRun(
        run=result,
        per_core_second=result.requests_per_second * took / (took * len(own) - others),
        shares=tuple(cpu / sum(working) for cpu in working),
    )
