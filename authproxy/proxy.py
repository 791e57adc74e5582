"""The proxy's blueprint: a request comes in here and its answer streams out."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request
from werkzeug.exceptions import InternalServerError
from werkzeug.routing import Rule

from authproxy.admission import Admission
from authproxy.answer import AnswerStream, StreamedResponse, own_response
from authproxy.bodies import receive_body
from authproxy.errors import (
    MethodNotAllowed,
    NoRoute,
    RequestError,
    ShuttingDown,
    TargetRefusedIdentity,
    error_reply,
)
from authproxy.headers import (
    REFUSED_METHODS,
    canonical,
    client_address,
    forwardable,
    is_remote_write,
    received_fields,
)
from authproxy.lifecycle import Lifecycle
from authproxy.redaction import Redactor
from authproxy.request_log import RequestStory
from authproxy.settings import Settings
from authproxy.target import Target
from authproxy.telemetry import Telemetry
from authproxy.transport import OutboundRequest
from authproxy.urls import REMOTE_WRITE_PATH, path_of, request_target

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask.sansio.blueprints import BlueprintSetupState

#: Seconds after which a sender may try again while a role is still spreading.
REFUSED_IDENTITY_RETRY_SECONDS = 5

_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Forwarder:
    """Forwards one request at a time, from any number of threads."""

    def __init__(
        self,
        settings: Settings,
        target: Target,
        lifecycle: Lifecycle,
        telemetry: Telemetry,
        admission: Admission | None = None,
    ) -> None:
        self._admission = admission
        self._redact = Redactor(
            value.get_secret_value() for value in settings.override_request_headers.values()
        )
        self._target = target
        self._telemetry = telemetry
        self._lifecycle = lifecycle
        self._url = settings.target
        self._only_remote_write = settings.forwards_only_remote_write
        self._body_limit = settings.max_request_body_bytes
        self._log_query = settings.log_query
        self._retry_auth_failures = settings.remote_write_retry_auth_failures
        self._overrides = {
            canonical(name): value.get_secret_value()
            for name, value in settings.override_request_headers.items()
        }

    def forward(self, environ: WSGIEnvironment) -> Response:
        """Return the target's answer to the request, its body still streaming.

        Raises a RequestError for what the proxy answers itself.
        """
        story = RequestStory(environ, self._telemetry, self._redact)
        try:
            return self._forward(environ, story)
        except RequestError as error:
            story.failed(error)
            raise
        except Exception:
            story.crashed()
            raise

    def _forward(self, environ: WSGIEnvironment, story: RequestStory) -> Response:
        if self._lifecycle.refusing:
            raise ShuttingDown("the proxy is shutting down", retry_after=1)
        if self._admission is not None:
            story.caller = self._admission.admit(environ)
        if story.method in REFUSED_METHODS:
            raise MethodNotAllowed(f"{story.method} is not forwarded")
        outbound_target = self._route(request_target(environ))
        story.url = self._url.origin + (
            outbound_target if self._log_query else path_of(outbound_target)
        )
        received = received_fields(environ)
        passed = forwardable(received, overrides=self._overrides, client=client_address(environ))
        fields = [("Host", self._url.authority), *passed]
        body = receive_body(environ, self._body_limit)
        if body is not None:
            story.watch.request_bytes = body.length
        try:
            exchange = self._target.send(
                OutboundRequest(story.method, outbound_target, fields, body)
            )
        finally:
            if body is not None:
                body.close()
        answer_stream = AnswerStream(exchange, story)
        if (
            self._retry_auth_failures
            and exchange.answer.status in _REFUSALS
            and is_remote_write(received)
        ):
            answer_stream.read_for_the_log()
            raise refused_identity(exchange.answer.status)
        story.watch.streams()
        return StreamedResponse(exchange, answer_stream)

    def _route(self, target: str) -> str:
        if not self._only_remote_write:
            return self._url.join(target)
        if path_of(target) != REMOTE_WRITE_PATH:
            raise NoRoute(f"only {REMOTE_WRITE_PATH} is forwarded where INGESTION_URL is set")
        return self._url.join("/")


def refused_identity(status: int) -> TargetRefusedIdentity:
    """Return the error for a remote write that the target's access control refused.

    A new role assignment takes up to half an hour at Azure, and senders drop
    a batch for good on 401 and 403 but send it again on 503.
    """
    return TargetRefusedIdentity(
        f"the target answered {status} to the proxy's identity: assign it the role Monitoring "
        "Metrics Publisher on the data collection rule (a new assignment takes up to 30 minutes); "
        "send again later",
        retry_after=REFUSED_IDENTITY_RETRY_SECONDS,
    )


def proxy_blueprint(
    settings: Settings,
    target: Target,
    lifecycle: Lifecycle,
    telemetry: Telemetry,
    admission: Admission | None = None,
) -> Blueprint:
    """Return the blueprint that forwards every request, whatever its method and path."""
    blueprint = Blueprint("proxy", __name__)
    forwarder = Forwarder(settings, target, lifecycle, telemetry, admission)

    def forward(**_: str) -> Response:
        return forwarder.forward(request.environ)

    def add_catch_all(state: BlueprintSetupState) -> None:
        # A rule without methods takes any; add_url_rule would list them.
        state.app.url_map.add(Rule("/", endpoint="proxy.forward", methods=None))
        state.app.url_map.add(Rule("/<path:_>", endpoint="proxy.forward", methods=None))
        state.app.view_functions["proxy.forward"] = forward

    @blueprint.app_errorhandler(RequestError)
    def answer_ourselves(error: RequestError) -> Response:
        return own_response(error.reply(request.headers.get("X-Request-ID")))

    @blueprint.app_errorhandler(InternalServerError)
    def answer_a_bug(_: InternalServerError) -> Response:
        # Flask has logged the traceback; the client gets none of it.
        message = "the proxy failed; its log says how"
        return own_response(error_reply(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", message))

    blueprint.record(add_catch_all)
    return blueprint
