"""The probes' blueprint: what Kubernetes and load balancers ask of the process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, jsonify

from authproxy import __version__
from authproxy.proxy.lifecycle import Lifecycle
from authproxy.proxy.route_set import RouteSet, Routing
from authproxy.proxy.vital_threads import VitalThreads

HEALTH, READY = "/health", "/ready"
PATHS = frozenset({HEALTH, READY})

#: Routes that a response lists, those that are not ready first: there may be thousands.
MOST_LISTED = 20


def is_probe(method: str, target: str) -> bool:
    """Tell a probe by its method and request target, as they usually come."""
    return target in PATHS and method in ("GET", "HEAD")


def probes_blueprint(routing: Routing, lifecycle: Lifecycle, threads: VitalThreads) -> Blueprint:
    """Return the blueprint with /health and /ready."""
    blueprint = Blueprint("probes", __name__)

    def respond(good: bool, status: str) -> Response:
        about = about_tokens(routing.routes)
        response = jsonify(status=status, version=__version__, **about)
        response.status_code = 200 if good else 503
        return response

    @blueprint.get(HEALTH, provide_automatic_options=False)
    def health() -> Response:
        """The process can serve; an identity outage is no reason to restart it."""
        ended = threads.ended
        return respond(not ended, what_ended(ended) if ended else "ok")

    @blueprint.get(READY, provide_automatic_options=False)
    def ready() -> Response:
        """A request would be forwarded with a valid token, on one route at least."""
        if lifecycle.draining:
            return respond(False, "draining")
        return respond(routing.routes.ready, readiness(routing.routes))

    return blueprint


def what_ended(threads: Sequence[str]) -> str:
    """Return which of the threads do not run that the process needs."""
    return f"a thread has ended: {', '.join(threads)}"


def readiness(routes: RouteSet) -> str:
    """Return in a few words how ready the routes are."""
    unready = [served for served in routes.routes if not served.ready]
    if not unready:
        return "ready"
    tokens = any(not served.tokens.ready for served in unready)
    why = "no valid token" if tokens else "nothing yet to tell callers by"
    if not routes.ready:
        return why
    names = ", ".join(served.route.name for served in unready[:MOST_LISTED])
    more = len(unready) - MOST_LISTED
    return f"ready, but for {names}{f' and {more} more' if more > 0 else ''}: {why}"


def about_tokens(routes: RouteSet) -> dict[str, Any]:
    """Return the state of the token, or of the routes and their tokens: their number is bounded."""
    if not routes.settings.has_routes:
        return {"token": routes.routes[0].tokens.status()}
    by_need = sorted(routes.routes, key=lambda served: served.ready)
    listed = set(by_need[:MOST_LISTED])
    return {
        "routes": [served.status() for served in routes.routes if served in listed],
        "routes_ready": sum(served.ready for served in routes.routes),
        "routes_total": len(routes.routes),
    }
