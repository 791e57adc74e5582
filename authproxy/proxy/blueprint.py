"""The proxy's blueprint: a request enters here and its response streams out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response
from werkzeug.exceptions import InternalServerError
from werkzeug.routing import Rule

from authproxy.errors import InternalError, RequestError
from authproxy.proxy.flask_app import FORWARD, ForwardingView, inbound_request
from authproxy.proxy.forwarding import Forwarder
from authproxy.proxy.responses import error_response

if TYPE_CHECKING:
    from flask.sansio.blueprints import BlueprintSetupState


def proxy_blueprint(forwarder: Forwarder) -> Blueprint:
    """Return the blueprint that forwards every request, whatever its method and path."""
    blueprint = Blueprint("proxy", __name__)

    def add_catch_all(state: BlueprintSetupState) -> None:
        # A rule without methods takes any; add_url_rule would list them.
        state.app.url_map.add(Rule("/", endpoint=FORWARD, methods=None))
        state.app.url_map.add(Rule("/<path:_>", endpoint=FORWARD, methods=None))
        state.app.view_functions[FORWARD] = ForwardingView(forwarder.forward)

    @blueprint.app_errorhandler(RequestError)
    def on_request_error(error: RequestError) -> Response:
        return error_response(error, inbound_request().request_id)

    @blueprint.app_errorhandler(InternalServerError)
    def on_bug(_: InternalServerError) -> Response:
        # Flask has logged the traceback; the client gets none of it.
        return error_response(InternalError(), inbound_request().request_id)

    blueprint.record(add_catch_all)
    return blueprint
