"""Compare authproxy with nginx as a reverse proxy: python -m benchmarks.compare"""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict, astuple, fields
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from authproxy.demo.directory import METRICS_INGESTION
from authproxy.demo.entra import StandInEntra
from benchmarks import programs
from benchmarks.load import WORKLOADS, FailedRequests, Run, Workload, run

WARM_UP_SECONDS = 1.0

#: The runs of each workload on each proxy.
Runs = dict[tuple[Workload, str], list[Run]]


def choose_cores() -> tuple[set[int], set[int]]:
    """Return the core of the proxy under load, and the cores of everything else."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def medians(runs: list[Run]) -> Run:
    """Return the median of each figure by itself."""
    return Run(*(median(column) for column in zip(*map(astuple, runs), strict=True)))


def measure(rounds: int, seconds: float, connections: int) -> tuple[Runs, dict[str, float]]:
    """Return the runs, and each proxy's memory before the first of them in MiB.

    The proxies take turns, so that a slow moment of the machine hits both.
    """
    own, others = choose_cores()
    runs: Runs = {}
    with ExitStack() as stack, programs.pinned(others):
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="authproxy-bench-")))
        certificate = programs.Certificate(folder)
        entra = stack.enter_context(StandInEntra())
        identity = {
            "IDENTITY_TYPE": "systemassigned",
            "AUDIENCE": METRICS_INGESTION,
            **entra.managed_identity_environment(),
        }
        target = stack.enter_context(programs.target(certificate, folder / "target", others))
        token = entra.issue(METRICS_INGESTION, "nginx", "nginx").value
        proxies = [
            stack.enter_context(program)
            for program in (
                programs.nginx(target.port, token, certificate, folder / "nginx", own),
                programs.authproxy(target.port, identity, certificate, folder / "authproxy", own),
            )
        ]
        idle = {proxy.name: proxy.memory_mib() for proxy in proxies}
        for number in range(rounds + 1):
            for workload in WORKLOADS:
                for proxy in proxies:
                    length = seconds if number else WARM_UP_SECONDS
                    result = run(proxy, workload, length, connections, others)
                    if number:
                        runs.setdefault((workload, proxy.name), []).append(result)
    return runs, idle


def report(runs: Runs, idle: dict[str, float], conditions: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [", ".join(f"{name}: {value}" for name, value in conditions.items()), ""]
    lines += [
        "| request | proxy | requests/s | CPU-s per 1,000 | of nginx: requests/s | CPU "
        "| core busy | p50 ms | p99 ms |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (workload, name), several in runs.items():
        result, peer = medians(several), medians(runs[workload, "nginx"])
        speed = result.requests_per_second / peer.requests_per_second
        cost = result.cpu_seconds_per_thousand / peer.cpu_seconds_per_thousand
        lines.append(
            f"| {workload.name} | {name} | {result.requests_per_second:,.0f} "
            f"| {result.cpu_seconds_per_thousand:.3f} | {speed:.0%} | {cost:.1f}x "
            f"| {result.busy:.0%} | {result.p50_ms:.1f} | {result.p99_ms:.1f} |"
        )
    lines += ["", "| memory (PSS), MiB | idle | most under load |", "|---|--:|--:|"]
    for name, before in idle.items():
        most = max(
            one.memory_mib for (_, of), several in runs.items() if of == name for one in several
        )
        lines.append(f"| {name} | {before:.1f} | {most:.1f} |")
    return "\n".join(lines)


def as_json(runs: Runs, idle: dict[str, float], conditions: dict[str, Any]) -> str:
    """Return the results with every single run, as JSON."""
    names = [field.name for field in fields(Run)]
    return json.dumps(
        {
            "conditions": conditions,
            "idle_memory_mib": idle,
            "results": [
                {
                    "workload": workload.name,
                    "proxy": name,
                    "median": asdict(medians(several)),
                    "runs": {key: [getattr(one, key) for one in several] for key in names},
                }
                for (workload, name), several in runs.items()
            ],
        },
        indent=2,
    )


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option(
    "--seconds", default=4.0, show_default=True, type=click.FloatRange(1, 600), help="Of each run."
)
@click.option("--connections", default=32, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(rounds: int, seconds: float, connections: int, json_file: Path | None) -> None:
    """Compare authproxy with nginx as a reverse proxy to the same HTTPS target."""
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        raise click.ClickException(f"not installed: {', '.join(missing)}")
    own, others = choose_cores()
    conditions: dict[str, Any] = {
        **programs.versions(),
        "rounds": rounds,
        "seconds each": seconds,
        "connections": connections,
        "cores": f"{len(own)} for the proxy, "
        + ("the same for all else" if own == others else f"{len(others)} for all else"),
    }
    try:
        runs, idle = measure(rounds, seconds, connections)
    except FailedRequests as error:
        click.echo(f"Requests failed: {error}", err=True)
        sys.exit(1)
    click.echo(report(runs, idle, conditions))
    if json_file is not None:
        json_file.write_text(as_json(runs, idle, conditions) + "\n")


if __name__ == "__main__":
    main()
