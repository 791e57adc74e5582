"""The results in words: Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import median
from typing import Any

from lab.benchmarks import latency, scaling
from lab.benchmarks.latency import DIRECT
from lab.benchmarks.results import Results, medians
from lab.benchmarks.rows import TAIL
from lab.benchmarks.testbed import AUTHPROXY, NGINX

#: MiB that authproxy may hold, idle and after the table.
MEMORY_GOALS = (80, 110)

_MEANING = "CPU time as a multiple of nginx's, unless said otherwise"


def as_markdown(results: Results, conditions: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    blocks = [[", ".join(f"{name}: {value}" for name, value in conditions.items())]]
    if results.runs:
        blocks += [_ratios(results), _details(results), _memory(results)]
    if results.scaling:
        blocks.append(_scaling(results.scaling))
    if results.latencies:
        blocks.append(_latencies(results))
    if results.failures:
        blocks.append([f"FAILED: {failure}" for failure in results.failures])
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _ratios(results: Results) -> list[str]:
    names = [name for name in results.idle_mib if name != NGINX]
    lines = [
        f"| {_MEANING} | {' | '.join(names)} | goal |",
        "|---|" + "--:|" * (len(names) + 1),
    ]
    for row in results.runs:
        if row is TAIL:
            cells = [str(results.tail_ratio(row, name) or "") for name in names]
        else:
            cells = [str(results.cost_ratio(row, name) or "") for name in names]
        lines.append(f"| {row.title} | {' | '.join(cells)} | {row.goal:g} |")
    if results.scaling:
        cells = [str(results.scaling.ratio) if name == AUTHPROXY else "" for name in names]
        title = "requests/s of two workers on two cores against one"
        lines.append(f"| {title} | {' | '.join(cells)} | {scaling.GOAL} |")
    if results.against and AUTHPROXY in names:
        title = f"CPU time as a multiple of {results.against}'s"
        lines += ["", f"| {title} | {AUTHPROXY} |", "|---|--:|"]
        for row in results.runs:
            ratio = results.cost_ratio(row, AUTHPROXY, results.against)
            lines.append(f"| {row.title} | {ratio or ''} |")
    return lines


def _details(results: Results) -> list[str]:
    lines = [
        "| row | proxy | CPU-s per 1,000 | requests/s | CPU used | p50 ms | p99 ms |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row, by_proxy in results.runs.items():
        for name, runs in by_proxy.items():
            each = medians(runs)
            lines.append(
                f"| {row.key} | {name} | {each.cpu_seconds_per_thousand:.3f} "
                f"| {each.requests_per_second:,.0f} | {each.busy:.0%} "
                f"| {each.p50_ms:.1f} | {each.p99_ms:.1f} |"
            )
    return lines


def _memory(results: Results) -> list[str]:
    lines = ["| memory (PSS), MiB | idle | after the table |", "|---|--:|--:|"]
    for name, idle in results.idle_mib.items():
        after = results.after_mib[name]
        lines.append(f"| {name} | {idle:.0f} | {after:.0f} |")
    lines.append(f"| goal | {MEMORY_GOALS[0]} | {MEMORY_GOALS[1]} |")
    return lines


def _scaling(found: scaling.Scaling) -> list[str]:
    lines = [
        "| workers | CPU-s per 1,000 | requests/s | CPU used | CPU time by worker |",
        "|---|--:|--:|--:|--:|",
    ]
    for count, runs in enumerate((found.one, found.two), 1):
        each = medians([one.run for one in runs])
        shares = zip(*(one.shares for one in runs), strict=True)
        lines.append(
            f"| {count} | {each.cpu_seconds_per_thousand:.3f} | {each.requests_per_second:,.0f} "
            f"| {each.busy:.0%} | {' + '.join(f'{median(share):.0%}' for share in shares)} |"
        )
    return [
        *lines,
        "",
        f"Two against one: {found.ratio} of the core time that was the proxy's to use; "
        f"{found.uncorrected} with wrk and the target on the same cores. Two proxies side by side "
        f"instead, of one worker each: {found.ratio_apart}; more is not to be had here.",
    ]


def _latencies(results: Results) -> list[str]:
    lines = [
        "| latency in ms, of 100 KB remote writes by the clock "
        "| came to | p50 | p90 | p99 | max | added at p50 | at p99 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for rate, by_way in results.latencies.items():
        direct = latency.medians(by_way[DIRECT]) if DIRECT in by_way else None
        for name, runs in by_way.items():
            each = latency.medians(runs)
            added = "| | |"
            if direct and name != DIRECT:
                added = f"| {each.p50 - direct.p50:.2f} | {each.p99 - direct.p99:.2f} |"
            lines.append(
                f"| {rate} requests/s, {name} | {each.rate:.0f}/s | {each.p50:.2f} "
                f"| {each.p90:.2f} | {each.p99:.2f} | {each.max:.1f} {added}"
            )
    return lines


def as_json(results: Results, conditions: dict[str, Any]) -> str:
    """Return the results with every single run, as JSON."""
    found: dict[str, Any] = {
        "conditions": conditions,
        "rows": {
            row.key: {
                "title": row.title,
                "goal": row.goal,
                "ratios": {
                    name: asdict(ratio)
                    for name in by_proxy
                    if (
                        ratio := results.tail_ratio(row, name)
                        if row is TAIL
                        else results.cost_ratio(row, name)
                    )
                },
                "runs": {name: [asdict(run) for run in runs] for name, runs in by_proxy.items()},
            }
            for row, by_proxy in results.runs.items()
        },
        "failures": results.failures,
        "memory_mib": {"idle": results.idle_mib, "after": results.after_mib},
    }
    if results.scaling:
        found["workers"] = {
            "ratio": asdict(results.scaling.ratio),
            "ratio_apart": asdict(results.scaling.ratio_apart),
            **asdict(results.scaling),
        }
    if results.latencies:
        found["latency_ms"] = {
            str(rate): {name: [asdict(run) for run in runs] for name, runs in by_way.items()}
            for rate, by_way in results.latencies.items()
        }
    return json.dumps(found, indent=2)
