"""The probes' blueprint: what Kubernetes and load balancers ask of the process."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from authproxy import __version__
from authproxy.admission import Admission
from authproxy.lifecycle import Lifecycle
from authproxy.tokens import TokenSource

#: Request targets of the probes, as they usually come; GET and HEAD are answered.
PATHS = frozenset({"/health", "/ready"})


def probes_blueprint(
    tokens: TokenSource, lifecycle: Lifecycle, admission: Admission | None = None
) -> Blueprint:
    """Return the blueprint with /health and /ready."""
    blueprint = Blueprint("probes", __name__)

    def answer(good: bool, status: str) -> Response:
        response = jsonify(status=status, version=__version__, token=tokens.status())
        response.status_code = 200 if good else 503
        return response

    @blueprint.get("/health", provide_automatic_options=False)
    def health() -> Response:
        """The process can serve; an identity outage is no reason to restart it."""
        return answer(tokens.alive, "ok" if tokens.alive else "the token thread has ended")

    @blueprint.get("/ready", provide_automatic_options=False)
    def ready() -> Response:
        """A request would be forwarded with a valid token."""
        if lifecycle.draining:
            return answer(False, "draining")
        if admission is not None and not admission.ready:
            return answer(False, "nothing yet to tell callers by")
        return answer(tokens.ready, "ready" if tokens.ready else "no valid token")

    return blueprint
