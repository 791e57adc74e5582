"""What a measurement found, and what is read off it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from statistics import median

from benchmarks.load import Run
from benchmarks.rows import Row
from benchmarks.testbed import NGINX

Figure = Callable[[Run], float]


@dataclass(frozen=True)
class Ratio:
    """The median of what the rounds gave, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Ratio:
        """Return the ratio that these rounds show."""
        return cls(median(values), min(values), max(values))


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
    """The runs of each row on each proxy, round by round, and the proxies' memory in MiB."""

    runs: dict[Row, dict[str, list[Run]]] = field(default_factory=dict)
    idle_mib: dict[str, float] = field(default_factory=dict)
    after_mib: dict[str, float] = field(default_factory=dict)

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
        pairs = zip(runs[proxy], runs[peer], strict=True)
        return Ratio.of([cost(one) / cost(other) for one, other in pairs])

    def tail_ratio(self, row: Row, proxy: str) -> Ratio:
        """Return p99 as a multiple of p50."""
        return Ratio.of([tail(one) for one in self.runs[row][proxy]])
