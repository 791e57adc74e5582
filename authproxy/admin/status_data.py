"""The data of /status: of one worker, and of all of them taken together.

It holds no secret, no client's identity or address, and no query string.
Times are seconds since the epoch and have names that end in `_at`.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from authproxy import __version__
from authproxy.admin.status_state import reasons_of, state_of
from authproxy.admin.status_targets import of_target
from authproxy.app import Services
from authproxy.clock import rfc3339
from authproxy.errors import Explanation
from authproxy.files.expiry import Expiry
from authproxy.identity.token_state import TokenState
from authproxy.proxy.route_set import ServedRoute
from authproxy.telemetry import target_health
from authproxy.telemetry.recent_requests import KINDS, MAX_FAILURES, MINUTES

Data = dict[str, Any]

#: Set in the container image, where no metadata of the package has it.
REVISION_VARIABLE = "AUTHPROXY_REVISION"

#: Workers that reload on one signal are done within so many seconds, or all but.
_SAME_RELOAD_SECONDS = 2.0


def build() -> dict[str, str | None]:
    """Return what is running: version, Python, and the commit if that is known."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "revision": _revision(),
    }


def _revision() -> str | None:
    given = os.environ.get(REVISION_VARIABLE, "")
    if given and given != "unknown":
        return given
    try:  # pip notes it of what it installs from a repository (PEP 610)
        noted = distribution("entra-auth-proxy").read_text("direct_url.json")
        revision = json.loads(noted or "{}").get("vcs_info", {}).get("commit_id")
    except (PackageNotFoundError, ValueError):
        return None
    return str(revision) if revision else None


def of_worker(services: Services, began: float, listening: Expiry | None) -> Data:
    """Return the status of this process, which began at that monotonic time.

    `listening` is of the certificate that clients are shown, if any.
    """
    now, lifecycle = time.time(), services.lifecycle
    return {
        "pid": os.getpid(),
        "started_at": now - (time.monotonic() - began),
        "ready": services.routes.ready,
        "draining": lifecycle.draining,
        "threads": services.settings.threads,
        "reload": lifecycle.last_reload,
        "certificate": _of_certificate(listening, now),
        "routes": [_of_route(served, now) for served in services.routes.routes],
        **services.telemetry.recent(),
    }


def _of_certificate(expiry: Expiry | None, now: float) -> Data | None:
    return None if expiry is None else {"expires_at": expiry.at, "state": expiry.state(now)}


def _of_route(served: ServedRoute, now: float) -> Data:
    route, settings = served.route, served.route.settings
    return {
        "name": route.name,
        "host": route.match.host,
        "path": route.match.path,
        "target": settings.target.origin,
        "audience": settings.scope,
        "identity": {
            "type": settings.identity_type,
            "client_id": settings.aad_client_id,
            "tenant_id": settings.aad_tenant_id,
        },
        "ready": served.ready,
        "token": _of_token(served.tokens.state(), now),
    }


def _of_token(state: TokenState, now: float) -> Data:
    token, error = state.token, state.last_error
    given = token and token.provenance
    return {
        "valid": state.ready,
        "acquired_at": token and token.acquired_at,
        "refresh_at": token and token.refresh_at,
        "expires_at": token and token.expires_at,
        "endpoint": given and given.endpoint,
        "appid": given and given.app_id,
        "oid": given and given.object_id,
        "mismatch": given and given.mismatch and _of_explanation(given.mismatch),
        "last_attempt_at": state.tried_at,
        "next_attempt_at": state.next_attempt_at,
        "certificate": _of_certificate(state.certificate_expiry, now),
        "error": error
        and {
            "summary": error.summary,
            **_of_explanation(error.explanation),
            "detail": error.detail,
        },
    }


def _of_explanation(explanation: Explanation | None) -> Data:
    return {key: explanation and getattr(explanation, key) for key in ("code", "cause", "hint")}


def together(
    workers: Iterable[Data],
    silent: Iterable[int | None],
    started_at: float,
    reload: Data | None,
    now: float,
) -> Data:
    """Return the data of the page, of workers that report and those that are `silent`.

    `reload` is the last one that the parent refused.
    """
    known = sorted(workers, key=lambda worker: (worker["started_at"], worker["pid"]))
    without_report = list(silent)
    failures = _failures(known)
    healths = target_health.together((worker["targets"] for worker in known), now)
    routes = [
        {**route, **of_target(route, healths.get(_authority(route)), failures)}
        for route in _routes(known, now)
    ]
    certificate = _first_to_expire(known)
    reasons = reasons_of(known, without_report, routes, certificate)
    return {
        "time_at": now,
        "host": platform.node(),
        "build": build(),
        "state": state_of(known, reasons),
        "reasons": reasons,
        "started_at": started_at,
        "uptime_seconds": round(now - started_at),
        "reload": _latest_reload(known, reload),
        "certificate": certificate,
        "in_flight": sum(worker["in_flight"] for worker in known),
        "threads": sum(worker["threads"] for worker in known),
        "routes": routes,
        "requests": _requests(known, now),
        "failures": failures,
        "workers": [
            {
                "pid": worker["pid"],
                "started_at": worker["started_at"],
                "uptime_seconds": round(now - worker["started_at"]),
                **{key: worker[key] for key in ("ready", "draining", "in_flight", "threads")},
            }
            for worker in known
        ],
        "silent_workers": without_report,
    }


def _authority(route: Data) -> str:
    """Return the host, with its port if it has one of its own, by which a target is counted."""
    return str(route["target"]).partition("://")[2]


def _first_to_expire(workers: Iterable[Data]) -> Data | None:
    """Return the certificate that clients are shown: workers notice a new one each by itself."""
    shown = [worker["certificate"] for worker in workers if worker["certificate"]]
    return min(shown, key=lambda each: float(each["expires_at"]), default=None)


def _latest_reload(workers: Iterable[Data], of_parent: Data | None) -> Data | None:
    """Return the last reload; of workers that reloaded at the same time, the worst result."""
    reloads: list[Data | None] = [of_parent, *(each["reload"] for each in workers)]
    known = [reload for reload in reloads if reload]
    if not known:
        return None
    latest = max(each["done_at"] for each in known)
    same = [each for each in known if latest - each["done_at"] < _SAME_RELOAD_SECONDS]
    return max(same, key=lambda each: (each["error"] is not None, each["done_at"]))


def _routes(workers: Iterable[Data], now: float) -> list[Data]:
    """Return each route once, with the token that each worker has for it."""
    routes: dict[str, Data] = {}
    for worker in workers:
        for route in worker["routes"]:
            facts = {key: route[key] for key in route if key not in ("ready", "token")}
            whole = routes.setdefault(json.dumps(facts), {**facts, "ready": True, "tokens": []})
            whole["ready"] &= route["ready"]
            token = {"worker": worker["pid"], **route["token"], **_shares(route["token"], now)}
            whole["tokens"].append(token)
    return list(routes.values())


def _shares(token: Mapping[str, Any], now: float) -> dict[str, float | None]:
    """Return which share of its lifetime a token has left, and has left when it is refreshed."""
    acquired: float | None = token["acquired_at"]
    expires: float | None = token["expires_at"]
    if acquired is None or expires is None or expires <= acquired:
        return {"left": None, "left_at_refresh": None}

    def left(at: float) -> float:
        return round(min(1.0, max(0.0, (expires - at) / (expires - acquired))), 4)

    return {"left": left(now), "left_at_refresh": left(token["refresh_at"])}


def _requests(workers: Iterable[Data], now: float) -> Data:
    """Return the last minutes, the one that is not over last, and their sums."""
    this = int(now) // 60
    counted = {at: dict.fromkeys(KINDS, 0) for at in range(this - MINUTES + 1, this + 1)}
    for worker in workers:
        for each in worker["minutes"]:
            if each["minute"] in counted:
                for kind in KINDS:
                    counted[each["minute"]][kind] += each.get(kind, 0)
    minutes: list[Data] = [
        {"minute_at": float(at * 60), **counts} for at, counts in counted.items()
    ]
    totals = {kind: sum(minute[kind] for minute in minutes) for kind in KINDS}
    return {"totals": totals, "minutes": minutes}


def _failures(workers: Iterable[Data]) -> list[Data]:
    """Return the latest failures; what failed alike in several workers is one."""
    every = [failure for worker in workers for failure in worker["failures"]]
    alike: dict[tuple[object, ...], Data] = {}
    for failure in sorted(every, key=lambda failure: float(failure["last_at"]), reverse=True):
        key = tuple(failure[name] for name in ("route", "method", "path", "status", "code"))
        if key in alike:
            alike[key]["times"] += failure["times"]
        else:
            alike[key] = dict(failure)
    return list(alike.values())[:MAX_FAILURES]


def with_dates(data: Any) -> Any:
    """Return the data with times as RFC 3339 has them, for scripts."""
    if isinstance(data, list):
        return [with_dates(each) for each in data]
    if not isinstance(data, dict):
        return data
    return {
        key: rfc3339(value)
        if key.endswith("_at") and isinstance(value, float)
        else with_dates(value)
        for key, value in data.items()
    }
