"""The results in words: Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from benchmarks.load import Run
from benchmarks.results import Ratio, Results, medians
from benchmarks.rows import TAIL
from benchmarks.testbed import NGINX


def _shown(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio.median:.3g} ({ratio.low:.3g} to {ratio.high:.3g})"


def as_markdown(results: Results, conditions: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [", ".join(f"{name}: {value}" for name, value in conditions.items())]
    lines += ["", *_ratios(results), "", *_details(results), "", *_memory(results)]
    return "\n".join(lines)


def _ratios(results: Results) -> list[str]:
    names = [name for name in results.idle_mib if name != NGINX]
    lines = [
        "| CPU time as a multiple of nginx's | " + " | ".join(names) + " | goal |",
        "|---|" + "--:|" * (len(names) + 1),
    ]
    for row in results.runs:
        if row is TAIL:
            cells = [_shown(results.tail_ratio(row, name)) for name in names]
        else:
            cells = [_shown(results.cost_ratio(row, name)) for name in names]
        lines.append(f"| {row.title} | {' | '.join(cells)} | {row.goal:g} |")
    return lines


def _details(results: Results) -> list[str]:
    lines = [
        "| row | proxy | CPU-s per 1,000 | requests/s | CPU used | p50 ms | p99 ms |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row, by_proxy in results.runs.items():
        for name, runs in by_proxy.items():
            each: Run = medians(runs)
            lines.append(
                f"| {row.key} | {name} | {each.cpu_seconds_per_thousand:.3f} "
                f"| {each.requests_per_second:,.0f} | {each.busy:.0%} "
                f"| {each.p50_ms:.1f} | {each.p99_ms:.1f} |"
            )
    return lines


def _memory(results: Results) -> list[str]:
    lines = ["| memory (PSS), MiB | idle | after the table |", "|---|--:|--:|"]
    for name, idle in results.idle_mib.items():
        lines.append(f"| {name} | {idle:.0f} | {results.after_mib[name]:.0f} |")
    return lines


def as_json(results: Results, conditions: dict[str, Any]) -> str:
    """Return the results with every single run, as JSON."""
    rows = {
        row.key: {
            "goal": row.goal,
            "runs": {name: [asdict(run) for run in runs] for name, runs in by_proxy.items()},
        }
        for row, by_proxy in results.runs.items()
    }
    memory = {"idle": results.idle_mib, "after": results.after_mib}
    return json.dumps({"conditions": conditions, "rows": rows, "memory_mib": memory}, indent=2)
