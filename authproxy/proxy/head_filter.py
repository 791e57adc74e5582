"""Turning requests away on their heads, before their bodies are read.

Whoever may not come in shall not fill the memory and the disk with bodies either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authproxy.admission.admission import Verdict
from authproxy.errors import RequestError
from authproxy.proxy.access_log import RequestStory
from authproxy.proxy.route_set import Routing
from authproxy.telemetry.events import Telemetry


class Doorkeeper:
    """Judges requests that have a body to come, and tells of those that it turns away."""

    def __init__(self, routing: Routing, telemetry: Telemetry) -> None:
        self._routing = routing
        self._telemetry = telemetry

    @property
    def on_duty(self) -> bool:
        """Whether any request can be turned away."""
        return self._routing.routes.judges

    def __call__(self, head: Mapping[str, Any]) -> Verdict | None:
        """Return what was found about a request; `head` is as in a WSGI environment.

        Raises the RequestError to answer with. Probes have no body, so that
        nothing here knows of them.
        """
        try:
            admission = self._routing.routes.find(head).admission
            return None if admission is None else Verdict(admission, admission.admit(head))
        except RequestError as error:
            RequestStory(head, self._telemetry).failed(error)
            raise
