"""Turning requests away on their heads, before their bodies are read.

Whoever may not come in shall not fill the memory and the disk with bodies either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authproxy.admission import Admission
from authproxy.errors import RequestError
from authproxy.request_log import RequestStory
from authproxy.telemetry import Telemetry


class Doorkeeper:
    """Judges requests that have a body to come, and tells of those that it turns away."""

    def __init__(self, admission: Admission, telemetry: Telemetry) -> None:
        self._admission = admission
        self._telemetry = telemetry

    def __call__(self, head: Mapping[str, Any]) -> str | None:
        """Return who the caller is, if that is known; `head` is as in a WSGI environment.

        Raises the RequestError to answer with. Probes have no body, so that
        nothing here knows of them.
        """
        try:
            return self._admission.admit(head)
        except RequestError as error:
            RequestStory(head, self._telemetry).failed(error)
            raise
