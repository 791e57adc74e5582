"""The events that the rest of the program reports, as classes whose methods do nothing.

They are used where neither METRICS_PORT nor an export is set: nothing of OpenTelemetry
is imported, and a request costs some empty calls. `authproxy.telemetry.sdk` has the
subclasses that count and trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask
    from prometheus_client.registry import Collector

    from authproxy.http1.headers import Field
    from authproxy.http1.inbound_request import InboundRequest
    from authproxy.http1.urls import TargetURL
    from authproxy.server.refusals import RefusedRequest
    from authproxy.settings import Settings


class RequestWatch:
    """One request of a client, from its arrival to the end of its response."""

    #: Bytes of the request's body, the target's host, whether its response began, and whether the
    #: request is a write (`http1/writes.py`): set once known.
    request_bytes = 0
    target_host: str | None = None
    target_responded = False
    is_write = False

    def streams(self) -> None:
        """The response goes on when the application has returned: `ended` will be called then."""

    def becomes_tunnel(self) -> None:
        """The response is 101: the connection is a tunnel until `ended` is called."""

    def current(self) -> AbstractContextManager[None]:
        """Return a context in which log lines belong to this request."""
        return _NOTHING

    def failing(self, route: str | None, text: str) -> None:
        """It will fail, on this route; `text` describes the failure, without secrets."""

    def ended(
        self,
        status: int,
        response_bytes: int = 0,
        error: str | None = None,
        seen_status: int | None = None,
    ) -> None:
        """The response has ended; a second call does not count.

        `status` is the target's where it responded, `seen_status` the client's
        where that is another. `error` is the code of what went wrong on the way.
        """


class Attempt:
    """One exchange with the target."""

    def carried(self, fields: Sequence[Field]) -> Sequence[Field]:
        """Return the header fields to send, the trace's context among them."""
        return fields

    def response_began(self, status: int) -> None:
        """The head of the upstream response has come."""

    def ended(self, received: int, error: str | None = None) -> None:
        """The exchange has ended, with `received` bytes of body; a second call does not count."""


class Refresh:
    """One attempt to get a token."""

    def succeeded(self, expires_at: float, next_refresh: float) -> None:
        """Entra gave a token. Both times are seconds since the epoch, of the one now in use."""

    def failed(self, reason: str, next_refresh: float) -> None:
        """It did not; `reason` holds no secret."""


class TargetTelemetry:
    """Events of the exchanges with one target."""

    def attempt(self, method: str, target: str, number: int) -> Attempt:
        """A request is about to be sent to the target, for the `number`th time."""
        return NO_ATTEMPT

    def retried(self, reason: str) -> None:
        """A request is sent again; the reason is one of a few words."""

    def in_force(self) -> None:
        """Requests go there from now on: report zero for what has not happened yet."""


class TokenTelemetry:
    """Events of one source of tokens."""

    def refresh(self) -> AbstractContextManager[Refresh]:
        """Return a context for one attempt to get a token."""
        return _NO_REFRESH

    def in_force(self) -> None:
        """Its tokens are sent from now on: report it, with its earlier refreshes."""

    def ended(self) -> None:
        """The source is stopped: its token is used no more."""


class Telemetry:
    """Events of a process."""

    #: What METRICS_PORT shows, if it is on.
    collector: Collector | None = None

    #: The target's host, where all requests have the same.
    sole_target_host = ""

    def recent(self) -> dict[str, Any]:
        """Return requests in flight and of the last minutes; nothing where they are not counted."""
        return {}

    def of_target(self, url: TargetURL) -> TargetTelemetry:
        """Return what takes the events of exchanges with this target."""
        return NO_TARGET_TELEMETRY

    def of_tokens(self, settings: Settings) -> TokenTelemetry:
        """Return what takes the events of tokens of this identity and audience."""
        return NO_TOKEN_TELEMETRY

    def instrument(self, app: Flask, *, untraced: Iterable[str]) -> None:
        """Have the application's requests traced, except those for these paths."""

    def request(self, request: InboundRequest) -> RequestWatch:
        """Observe a request that is to be forwarded."""
        return NO_WATCH

    def refused(self, request: RefusedRequest) -> None:
        """The server refused a request, which did not reach the application."""

    def close(self, seconds: float) -> None:
        """Export what is left, within `seconds`."""


NO_WATCH = RequestWatch()
NO_ATTEMPT = Attempt()
NO_TARGET_TELEMETRY = TargetTelemetry()
NO_TOKEN_TELEMETRY = TokenTelemetry()
_NOTHING: AbstractContextManager[None] = nullcontext()
_NO_REFRESH: AbstractContextManager[Refresh] = nullcontext(Refresh())
