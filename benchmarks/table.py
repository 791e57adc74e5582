"""What the proxies cost, row by row: python -m benchmarks.table"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import report, servers
from benchmarks.load import WARM_UP_SECONDS, FailedRequests, run
from benchmarks.processes import Program
from benchmarks.results import Results
from benchmarks.rows import BY_KEY, Row
from benchmarks.testbed import AUTHPROXY, NGINX, PROXIES, Testbed

#: The name of authproxy from another checkout.
BASE = "base"


@dataclass(frozen=True)
class Plan:
    """What is to be run, and how long."""

    rows: tuple[Row, ...]
    proxies: tuple[str, ...]
    rounds: int
    seconds: int
    base: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The proxies, authproxy of another checkout among them."""
        return (*self.proxies, BASE) if self.base else self.proxies


def shortened(cells: int) -> tuple[int, int]:
    """Return rounds and seconds that take a minute for so many rows times proxies."""
    rounds = min(max(60 // cells, 3), 7)
    return rounds, min(max(60 // (cells * rounds), 1), 3)


def measure(plan: Plan) -> Results:
    """Run the rows. The proxies take turns within each round.

    Raises FailedRequests on any error answer.
    """
    results = Results()
    with Testbed() as bed:
        proxies: dict[str, Program] = {name: bed.start(name) for name in plan.proxies}
        if plan.base:
            proxies[BASE] = bed.authproxy(name=BASE, checkout=plan.base)
        results.idle_mib = {name: proxy.memory_mib() for name, proxy in proxies.items()}
        for row in plan.rows:
            for proxy in proxies.values():
                run(proxy, row.workload, WARM_UP_SECONDS, bed.others)
        for _ in range(plan.rounds):
            for row in plan.rows:
                for name, proxy in proxies.items():
                    results.add(row, name, run(proxy, row.workload, plan.seconds, bed.others))
        results.after_mib = {name: proxy.memory_mib() for name, proxy in proxies.items()}
    return results


def conditions(plan: Plan) -> dict[str, Any]:
    """Return what a reader of the figures has to know."""
    return {
        **servers.versions(),
        "rounds": plan.rounds,
        "seconds each": plan.seconds,
    }


@click.command()
@click.option("--row", "keys", multiple=True, type=click.Choice(list(BY_KEY)), help="Only this.")
@click.option("--proxy", "proxies", multiple=True, type=click.Choice(PROXIES), help="Only this.")
@click.option("--rounds", type=click.IntRange(1, 100))
@click.option("--seconds", type=click.IntRange(1, 600), help="Of each run.")
@click.option("--quick", is_flag=True, help="nginx and authproxy only, in a minute and a half.")
@click.option(
    "--base",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout, whose authproxy takes turns with this one's.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(
    keys: tuple[str, ...],
    proxies: tuple[str, ...],
    rounds: int | None,
    seconds: int | None,
    quick: bool,
    base: Path | None,
    json_file: Path | None,
) -> None:
    """Measure what proxies cost in front of the same HTTPS target."""
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        raise click.ClickException(f"not installed: {', '.join(missing)}")
    rows = tuple(BY_KEY[key] for key in keys or BY_KEY)
    chosen = proxies or ((NGINX, AUTHPROXY) if quick else PROXIES)
    usual = shortened(len(rows) * (len(chosen) + bool(base))) if quick else (5, 3)
    plan = Plan(rows, chosen, rounds or usual[0], seconds or usual[1], base)
    try:
        results = measure(plan)
    except FailedRequests as error:
        click.echo(f"Requests failed: {error}", err=True)
        sys.exit(1)
    click.echo(report.as_markdown(results, conditions(plan)))
    if json_file is not None:
        json_file.write_text(report.as_json(results, conditions(plan)) + "\n")


if __name__ == "__main__":
    main()
