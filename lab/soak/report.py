"""What a soak found, judged and told."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from lab.soak.clients import GOOD, Seen
from lab.soak.figures import Figure, longest_generation, slope_per_hour
from lab.soak.run import TOKEN_LIFETIME, Outcome, Window

#: The most that may be added each hour, by the least-squares line. The noise of ten minutes
#: is a good part of these; one descriptor, or 50 KiB, left behind at each fault is far more.
MEMORY_PER_HOUR = 32 * 1024 * 1024
DESCRIPTORS_PER_HOUR = 100.0
#: Shorter stretches say nothing about an hour.
LONG_ENOUGH = 500.0

BETWEEN = "(none)"


@dataclass(frozen=True)
class Slopes:
    """How memory and descriptors of the same processes went, in quiet moments."""

    figures: list[Figure]
    memory: float
    descriptors: float

    @property
    def seconds(self) -> float:
        return self.figures[-1].at - self.figures[0].at


def slopes(figures: list[Figure]) -> Slopes | None:
    """Return the slopes over the longest stretch without an end of a process."""
    stretch = longest_generation(figures)
    if len(stretch) < 3:
        return None
    return Slopes(
        stretch,
        slope_per_hour([(each.at, each.allocated_bytes) for each in stretch]),
        slope_per_hour([(each.at, each.descriptors) for each in stretch]),
    )


def cause(seen: Seen, windows: list[Window]) -> str:
    """Return the fault during which, or before whose healing, a request was under way."""
    for window in windows:
        if seen.began <= window.healed and seen.ended >= window.began:
            return window.kind
    return BETWEEN


def verdicts(outcome: Outcome) -> list[str]:
    """Return what is wrong, in words; nothing if all is well."""
    wrong = list(outcome.wrongs)
    ledger = outcome.front.ledger
    for what, count in (
        ("samples failed", outcome.failed),
        ("samples dropped", outcome.dropped),
        ("scraped samples that the receiver never acknowledged", outcome.missing_from_ledger),
        ("scraped samples missing from the store", outcome.missing_from_store),
        ("samples that came twice with different values", len(ledger.contradicted)),
        ("tracebacks in the log", len(outcome.proxies.tracebacks)),
    ):
        if count:
            wrong.append(f"{what}: {count:,}")
    wrong += [f"twice, and different: {each}" for each in ledger.contradicted[:3]]
    if outcome.sent != ledger.samples:
        wrong.append(f"counted as sent: {outcome.sent:,}, received: {ledger.samples:,}")
    if outcome.tokens_issued < outcome.seconds / TOKEN_LIFETIME:
        wrong.append(f"{outcome.tokens_issued} tokens in {outcome.seconds:.0f} s")
    for name, client in outcome.clients.items():
        for seen in client.seen:
            if seen.outcome == GOOD:
                continue
            if seen.outcome.startswith(("500", "200", "no response")):
                wrong.append(f"{name} saw {seen.outcome}")
            if cause(seen, outcome.windows) == BETWEEN:
                at = seen.began - outcome.began
                wrong.append(f"{name} saw {seen.outcome} at {at:.1f} s, with no fault about")
    found = slopes(outcome.quiet_figures)
    if found is not None and found.seconds >= LONG_ENOUGH:
        if found.memory > MEMORY_PER_HOUR:
            wrong.append(f"memory grows by {found.memory / 2**20:.1f} MiB an hour")
        if found.descriptors > DESCRIPTORS_PER_HOUR:
            wrong.append(f"descriptors grow by {found.descriptors:.0f} an hour")
    return wrong


def told(outcome: Outcome) -> str:
    """Return the report, in Markdown."""
    ledger, front = outcome.front.ledger, outcome.front
    events = outcome.proxies.events
    rows = [
        ("seed", str(outcome.seed)),
        ("length", f"{outcome.seconds:,.0f} s, with {len(outcome.windows)} faults"),
        ("samples that Prometheus counted as sent", f"{outcome.sent:,}"),
        ("samples that the receiver acknowledged", f"{ledger.samples:,}"),
        ("of the scraped series, compared value by value", f"{outcome.scraped:,}"),
        (
            "of those, missing at the receiver, and in its store",
            f"{outcome.missing_from_ledger}, {outcome.missing_from_store}",
        ),
        ("samples failed, dropped", f"{outcome.failed}, {outcome.dropped}"),
        ("samples that Prometheus sent again", f"{outcome.retried:,} (on {outcome.shards} shards)"),
        ("samples that came twice, as a response was lost", f"{ledger.repeated:,}"),
        ("writes, queries that reached the store", _both(front.requests, "writes", "queries")),
        (
            "token refreshes, tokens issued, tokens seen by the target",
            f"{events['Token refreshed']}, {outcome.tokens_issued}, {len(front.tokens)}",
        ),
        (
            "starts of the proxy, of its workers",
            f"{outcome.proxies.starts}, {events['Worker started']}",
        ),
        *_growth(outcome),
    ]
    lines = ["| what | figure |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    lines += ["", *_faults(outcome)]
    if outcome.left_out:
        lines += [
            "",
            f"Left out, since this machine does not let us: {', '.join(outcome.left_out)}",
        ]
    wrong = verdicts(outcome)
    lines += ["", *(f"- WRONG: {each}" for each in wrong[:50])] if wrong else ["", "All is well."]
    return "\n".join(lines) + "\n"


def _both(counts: Counter[str], first: str, second: str) -> str:
    return f"{counts[first]:,}, {counts[second]:,}"


def _growth(outcome: Outcome) -> list[tuple[str, str]]:
    found = slopes(outcome.quiet_figures)
    if found is None:
        return [("memory and descriptors", "too short a run to tell")]
    first, last = found.figures[0], found.figures[-1]
    peak = max(outcome.all_figures, key=lambda each: each.pss_bytes, default=last)
    widest = max(outcome.all_figures, key=lambda each: each.descriptors, default=last)
    held = "" if found.seconds >= LONG_ENOUGH else "; too short to hold to it"
    return [
        (
            f"memory (PSS) of all {len(first.pids)} processes, first, last, highest",
            f"{_mib(first.pss_bytes)}, {_mib(last.pss_bytes)}, {_mib(peak.pss_bytes)}",
        ),
        (
            "slope of what they allocated, and its bound",
            f"{found.memory / 2**20:+.1f} MiB an hour, {MEMORY_PER_HOUR / 2**20:.0f}"
            f" (over {found.seconds:,.0f} s, {len(found.figures)} quiet moments{held})",
        ),
        (
            "descriptors, first, last, highest",
            f"{first.descriptors}, {last.descriptors}, {widest.descriptors}",
        ),
        (
            "slope of descriptors, and its bound",
            f"{found.descriptors:+.1f} an hour, {DESCRIPTORS_PER_HOUR:.0f}",
        ),
    ]


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def _faults(outcome: Outcome) -> list[str]:
    """Return a table: each kind, how often, and what clients that asked saw of it."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    healing: dict[str, float] = defaultdict(float)
    for name, client in outcome.clients.items():
        if name.startswith("/"):
            continue
        for each in client.seen:
            kind = cause(each, outcome.windows)
            seen[kind][each.outcome] += 1
            if each.outcome != GOOD:
                for window in outcome.windows:
                    if window.ended <= each.ended and each.began <= window.healed:
                        healing[kind] = max(healing[kind], each.ended - window.ended)
    times = Counter(window.kind for window in outcome.windows)
    struck = outcome.front.struck
    lines = [
        "| fault | times | requests struck | what those who asked saw meanwhile | "
        "last trouble after its end |",
        "|---|---|---|---|---|",
    ]
    for kind in sorted(seen):
        said = ", ".join(f"{what}: {count:,}" for what, count in sorted(seen[kind].items()))
        lines.append(
            f"| {kind} | {times[kind] or ''} | {struck[kind] or ''} | {said} | "
            f"{f'{healing[kind]:.1f} s' if healing[kind] else ''} |"
        )
    return lines
