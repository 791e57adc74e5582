"""What a measurement found, and what is read off it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from statistics import median

from lab.benchmarks.latency import LatencyRuns
from lab.benchmarks.load import Run
from lab.benchmarks.ratio import Ratio
from lab.benchmarks.rows import Row
from lab.benchmarks.scaling import Scaling
from lab.benchmarks.testbed import NGINX

Figure = Callable[[Run], float]


def cost(run: Run) -> float:
    """Return the CPU seconds of a thousand requests."""
    return run.cpu_seconds_per_thousand


def tail(run: Run) -> float:
    """Return p99 as a multiple of p50."""
    return run.p99_ms / run.p50_ms


def medians(runs: list[Run]) -> Run:
    """Return the median of each figure by itself."""
    return Run(*(median(column) for column in zip(*map(astuple, runs), strict=True)))


@dataclass
class Results:
    """The runs of each row on each proxy, round by round, and what else was measured.

    Memory is in MiB. `foreign_share` is how much of the proxies' core
    something else took meanwhile; `against` names the revision that was measured beside this one.
    """

    runs: dict[Row, dict[str, list[Run]]] = field(default_factory=dict)
    idle_mib: dict[str, float] = field(default_factory=dict)
    after_mib: dict[str, float] = field(default_factory=dict)
    scaling: Scaling | None = None
    latencies: LatencyRuns = field(default_factory=dict)
    foreign_share: float = 0.0
    against: str | None = None
    failures: list[str] = field(default_factory=list)

    def add(self, row: Row, proxy: str, run: Run) -> None:
        """Keep one run."""
        self.runs.setdefault(row, {}).setdefault(proxy, []).append(run)

    def cost_ratio(self, row: Row, proxy: str, peer: str = NGINX) -> Ratio | None:
        """Return the proxy's cost as a multiple of its peer's.

        Each round gives one: the two ran within seconds of each other, so that
        a slow moment of the machine hits both.
        """
        runs = self.runs[row]
        if peer not in runs or proxy not in runs:
            return None
        # After a failure the last round may be incomplete.
        pairs = zip(runs[proxy], runs[peer], strict=False)
        return Ratio.of(cost(one) / cost(other) for one, other in pairs)

    def tail_ratio(self, row: Row, proxy: str) -> Ratio | None:
        """Return p99 as a multiple of p50."""
        if proxy not in self.runs[row]:
            return None
        return Ratio.of(tail(one) for one in self.runs[row][proxy])
