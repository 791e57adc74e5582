"""The proxy's blueprint: a request comes in here and its answer streams out."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request
from werkzeug.exceptions import InternalServerError
from werkzeug.routing import Rule

from authproxy.errors import RequestError, ShuttingDown, error_reply
from authproxy.proxy.access_log import RequestStory
from authproxy.proxy.lifecycle import Lifecycle
from authproxy.proxy.responses import own_response
from authproxy.proxy.route_set import Routing
from authproxy.telemetry.events import Telemetry

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask.sansio.blueprints import BlueprintSetupState


def forward(
    environ: WSGIEnvironment, routing: Routing, lifecycle: Lifecycle, telemetry: Telemetry
) -> Response:
    """Return the answer to a request from where its route leads.

    Raises a RequestError for what the proxy answers itself.
    """
    story = RequestStory(environ, telemetry)
    try:
        if lifecycle.refusing:
            raise ShuttingDown("the proxy is shutting down", retry_after=1)
        served = routing.routes.find(environ)
        if served.admission is not None:
            story.caller = served.admission.admit(environ)
        return served.forwarder.forward(environ, story)
    except RequestError as error:
        story.failed(error)
        raise
    except Exception:
        story.crashed()
        raise


def proxy_blueprint(routing: Routing, lifecycle: Lifecycle, telemetry: Telemetry) -> Blueprint:
    """Return the blueprint that forwards every request, whatever its method and path."""
    blueprint = Blueprint("proxy", __name__)

    def view(**_: str) -> Response:
        return forward(request.environ, routing, lifecycle, telemetry)

    def add_catch_all(state: BlueprintSetupState) -> None:
        # A rule without methods takes any; add_url_rule would list them.
        state.app.url_map.add(Rule("/", endpoint="proxy.forward", methods=None))
        state.app.url_map.add(Rule("/<path:_>", endpoint="proxy.forward", methods=None))
        state.app.view_functions["proxy.forward"] = view

    @blueprint.app_errorhandler(RequestError)
    def answer_ourselves(error: RequestError) -> Response:
        return own_response(error.reply(request.headers.get("X-Request-ID")))

    @blueprint.app_errorhandler(InternalServerError)
    def answer_a_bug(_: InternalServerError) -> Response:
        # Flask has logged the traceback; the client gets none of it.
        message = "the proxy failed; its log says how"
        request_id = request.headers.get("X-Request-ID")
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return own_response(error_reply(status, "InternalError", message, request_id=request_id))

    blueprint.record(add_catch_all)
    return blueprint
