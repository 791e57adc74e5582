"""What the proxies cost, row by row: python -m lab.benchmarks.table"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lab.benchmarks import chart, latency, report, scaling, servers
from lab.benchmarks.load import WARM_UP_SECONDS, FailedRequests, run
from lab.benchmarks.processes import Program, busy_seconds
from lab.benchmarks.results import Results
from lab.benchmarks.revision import Checkout, checkout
from lab.benchmarks.rows import BY_KEY, Row
from lab.benchmarks.testbed import AUTHPROXY, NGINX, PLAIN, PROXIES, Testbed

#: What else `--row` may name.
WORKERS = "workers"
LATENCY = "latency"

_ROUNDS = 5
_SECONDS = 3
#: Of workers and latency: they differ by more than the rounds do.
_FEWER_ROUNDS = 3


@dataclass(frozen=True)
class Plan:
    """What is to be run, and how long."""

    keys: tuple[str, ...]
    proxies: tuple[str, ...]
    rounds: int
    seconds: int
    against: Checkout | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows that wrk's requests fill."""
        return tuple(BY_KEY[key] for key in self.keys if key in BY_KEY)


def shortened(cells: int) -> tuple[int, int]:
    """Return rounds and seconds that take a minute for so many rows times proxies."""
    rounds = min(max(60 // cells, 3), 7)
    return rounds, min(max(60 // (cells * rounds), 1), 3)


def measure(plan: Plan) -> Results:
    """Run what is planned. What any error response spoilt is among the failures."""
    results = Results()
    with Testbed() as bed:
        proxies: dict[str, Program] = {name: bed.start(name) for name in plan.proxies}
        if plan.against:
            results.against = plan.against.name
            proxies[plan.against.name] = bed.authproxy(checkout=plan.against)
        began, busy = time.monotonic(), busy_seconds(bed.own)
        used = sum(proxy.cpu_seconds() for proxy in proxies.values())
        try:
            _fill_rows(bed, proxies, plan, results)
        except FailedRequests as error:
            results.failures.append(str(error))
        results.after_mib = {name: proxy.memory_mib() for name, proxy in proxies.items()}
        few = min(plan.rounds, _FEWER_ROUNDS)
        if LATENCY in plan.keys:
            quick_enough = {name: each for name, each in proxies.items() if name != PLAIN}
            results.latencies, failures = latency.measure(bed, quick_enough, few, plan.seconds)
            results.failures += failures
        busy = busy_seconds(bed.own) - busy
        used = sum(proxy.cpu_seconds() for proxy in proxies.values()) - used
        results.foreign_share = max(busy - used, 0.0) / (time.monotonic() - began)
        if WORKERS in plan.keys:
            try:
                results.scaling = scaling.measure(bed, few, plan.seconds)
            except FailedRequests as error:
                results.failures.append(str(error))
    return results


def _fill_rows(bed: Testbed, proxies: dict[str, Program], plan: Plan, results: Results) -> None:
    """Fill the rows. The proxies take turns, so that a slow moment hits all of them."""
    results.idle_mib = {name: proxy.memory_mib() for name, proxy in proxies.items()}
    for row in plan.rows:
        for proxy in proxies.values():
            run(proxy, row.workload, WARM_UP_SECONDS, bed.others)
    for _ in range(plan.rounds):
        for row in plan.rows:
            for name, proxy in proxies.items():
                results.add(row, name, run(proxy, row.workload, plan.seconds, bed.others))


def conditions(plan: Plan, results: Results) -> dict[str, Any]:
    """Return what a reader of the figures has to know."""
    return {
        **servers.versions(),
        "cores": len(os.sched_getaffinity(0)),
        "rounds": plan.rounds,
        "seconds each": plan.seconds,
        "taken of the proxies' core by other work": f"{results.foreign_share:.0%}",
    }


def write(folder: Path, results: Results, known: dict[str, Any]) -> None:
    """Leave table.md, table.json and, where there is something to draw, table.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(report.as_markdown(results, known) + "\n")
    (folder / "table.json").write_text(report.as_json(results, known) + "\n")
    if picture := chart.svg(results):
        (folder / "table.svg").write_text(picture)


@click.command()
@click.option(
    "--row",
    "keys",
    multiple=True,
    type=click.Choice([*BY_KEY, WORKERS, LATENCY]),
    help="Only this; may be given again.",
)
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    type=click.Choice(PROXIES),
    help="Only this; may be given again.",
)
@click.option("--rounds", type=click.IntRange(1, 100), help=f"{_ROUNDS} unless --quick.")
@click.option(
    "--seconds", type=click.IntRange(1, 600), help=f"Of each run: {_SECONDS} unless --quick."
)
@click.option(
    "--quick",
    is_flag=True,
    help="Within a minute and a half: the rows, on nginx and authproxy only.",
)
@click.option(
    "--against",
    metavar="REVISION",
    help="Of this repository, whose authproxy takes turns with this one's.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for table.md, table.json and table.svg.",
)
def main(
    keys: tuple[str, ...],
    proxies: tuple[str, ...],
    rounds: int | None,
    seconds: int | None,
    quick: bool,
    against: str | None,
    out: Path | None,
) -> None:
    """Measure what proxies cost in front of the same HTTPS target."""
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        raise click.ClickException(f"not installed: {', '.join(missing)}")
    keys = keys or tuple(BY_KEY if quick else [*BY_KEY, WORKERS, LATENCY])
    proxies = proxies or ((NGINX, AUTHPROXY) if quick else PROXIES)
    cells = len(keys) * (len(proxies) + bool(against))
    usual = shortened(cells) if quick else (_ROUNDS, _SECONDS)
    other = checkout(against) if against else None
    plan = Plan(keys, proxies, rounds or usual[0], seconds or usual[1], other)
    results = measure(plan)
    known = conditions(plan, results)
    click.echo(report.as_markdown(results, known))
    if out is not None:
        write(out, results, known)
    if results.failures:
        click.echo("Requests failed:\n" + "\n".join(results.failures), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
