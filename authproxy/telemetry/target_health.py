"""How a target does: rate and latency of its responses, and whether it refuses the identity.

`TargetHealth` is of one target in one process, and `together` of all processes. Not
locked: callers hold a lock of their own. Times are seconds since the epoch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Data = dict[str, Any]

#: What is shown is of the present minute and of those before it, so many in all.
WINDOW_MINUTES = 5

#: By so many refusals in a row, and none older than the window, a target is told to refuse.
LEAST_REFUSALS = 3

#: Upper bounds of latencies in milliseconds, each a quarter above the one before: a quantile
#: is off by a ninth at most. From 0.25 ms to 66 s.
BOUNDS = tuple(0.25 * 1.25**power for power in range(57))

#: What a request was: one whose sender drops what is refused for good, or any other.
KINDS = ("write", "other")

#: What a response may say of the identity.
VERDICTS = ("accepted", "refused", "unknown")


def identity_verdict(status: int) -> str:
    """Return what a response says of the identity: one of VERDICTS.

    A target may respond 404, 429 or 5xx before it looks at a token.
    """
    if status < 400:
        return "accepted"
    return "refused" if status in (401, 403) else "unknown"


class _Minute:
    """The requests that ended in one minute."""

    __slots__ = ("latencies", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.latencies = [0] * (len(BOUNDS) + 1)


class _Verdicts:
    """What the responses to requests of one kind said of the identity, lately."""

    def __init__(self) -> None:
        self.accepted_at: float | None = None
        #: Since then: how many refusals, the first and last of them, and its status.
        self.refusals = 0
        self.since_at = self.refused_at = 0.0
        self.status = 0

    def add(self, status: int, now: float) -> None:
        verdict = identity_verdict(status)
        if verdict == "accepted":
            self.accepted_at, self.refusals = now, 0
        elif verdict == "refused":
            if not self.refusals:
                self.since_at = now
            self.refusals += 1
            self.refused_at, self.status = now, status


class TargetHealth:
    """The last minutes of one target."""

    def __init__(self, now: float) -> None:
        """Begin to count at this time."""
        self._began = now
        self._minutes: dict[int, _Minute] = {}
        self._verdicts = {kind: _Verdicts() for kind in KINDS}

    def ended(self, now: float, seconds: float, status: int | None, *, write: bool) -> None:
        """Count a request that took `seconds`; `status` is the target's, None without response."""
        at = int(now) // 60
        minute = self._minutes.get(at)
        if minute is None:
            kept = {each: self._minutes[each] for each in self._minutes if each < at}
            self._minutes = {**_within(kept, at), at: (minute := _Minute())}
        minute.requests += 1
        if status is None:
            return
        if status != 101:  # a tunnel has no latency
            minute.latencies[bisect_left(BOUNDS, seconds * 1000)] += 1
        self._verdicts["write" if write else "other"].add(status, now)

    def data(self, now: float) -> Data:
        """Return a report for `together`."""
        minutes = _within(self._minutes, int(now) // 60).values()
        first = (int(now) // 60 - WINDOW_MINUTES + 1) * 60
        return {
            "requests": sum(minute.requests for minute in minutes),
            "seconds": max(1.0, now - max(self._began, first)),
            "latencies": _added(minute.latencies for minute in minutes),
            "verdicts": {kind: dict(vars(each)) for kind, each in self._verdicts.items()},
        }


def _within(minutes: Mapping[int, _Minute], at: int) -> dict[int, _Minute]:
    """Return those of the window that ends with minute `at`."""
    return {each: minutes[each] for each in minutes if at - WINDOW_MINUTES < each <= at}


def _added(latencies: Iterable[list[int]]) -> list[int]:
    """Return counts added up bucket by bucket; none of none."""
    return [sum(counts) for counts in zip(*latencies, strict=True)]


def together(reports: Iterable[Mapping[str, Data]], now: float) -> dict[str, Data]:
    """Return the health of each target from the reports of all processes, each by target.

    `rate` is in requests a second. `p50_ms` and `p99_ms` are None where nothing came.
    `refusing` has the kinds of requests of which none was accepted since `since_at`, while
    `refusals` were refused, the last with `status`.
    """
    by_target: dict[str, list[Data]] = defaultdict(list)
    for report in reports:
        for target, data in report.items():
            by_target[target].append(data)
    return {target: _whole(data, now) for target, data in by_target.items()}


def _whole(reports: list[Data], now: float) -> Data:
    latencies = _added(each["latencies"] for each in reports if each["latencies"])
    verdicts = {kind: [each["verdicts"][kind] for each in reports] for kind in KINDS}
    refusing = {kind: _refusing(each, now) for kind, each in verdicts.items()}
    return {
        "requests": sum(each["requests"] for each in reports),
        "rate": sum(each["requests"] / each["seconds"] for each in reports),
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "refusing": {kind: each for kind, each in refusing.items() if each is not None},
    }


def _refusing(verdicts: list[Data], now: float) -> Data | None:
    """Return since when all is refused, if it is."""
    accepted = max((each["accepted_at"] or 0.0 for each in verdicts), default=0.0)
    streaks = [each for each in verdicts if each["refusals"] and each["refused_at"] > accepted]
    refusals = sum(each["refusals"] for each in streaks)
    if refusals < LEAST_REFUSALS:
        return None
    latest = max(streaks, key=lambda each: float(each["refused_at"]))
    if latest["refused_at"] <= now - WINDOW_MINUTES * 60:
        return None
    return {
        "since_at": max(accepted, min(each["since_at"] for each in streaks)),
        "refusals": refusals,
        "status": latest["status"],
    }


def quantile(counts: list[int], share: float) -> float | None:
    """Return the latency in milliseconds that this share of requests stayed below."""
    rank = sum(counts) * share
    if not rank:
        return None
    seen = 0
    for bucket, count in enumerate(counts):
        if count and seen + count >= rank:
            least = BOUNDS[bucket - 1] if bucket else 0.0
            most = BOUNDS[min(bucket, len(BOUNDS) - 1)]
            return least + (most - least) * (rank - seen) / count
        seen += count
    raise AssertionError("a share above 1")
