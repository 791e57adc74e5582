"""The proxy's blueprint: a request enters here and its response streams out."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import Blueprint, Response, request
from werkzeug.exceptions import InternalServerError
from werkzeug.routing import Rule

from authproxy.errors import InternalError, RequestError
from authproxy.proxy.flask_app import ProxyRequest
from authproxy.proxy.forwarding import Forwarder
from authproxy.proxy.responses import error_response

if TYPE_CHECKING:
    from flask.sansio.blueprints import BlueprintSetupState

    from authproxy.http1.inbound_request import InboundRequest


def proxy_blueprint(forwarder: Forwarder) -> Blueprint:
    """Return the blueprint that forwards every request, whatever its method and path."""
    blueprint = Blueprint("proxy", __name__)

    def inbound() -> InboundRequest:
        return cast(ProxyRequest, request).inbound

    def view(**_: str) -> Response:
        return forwarder.forward(inbound())

    def add_catch_all(state: BlueprintSetupState) -> None:
        # A rule without methods takes any; add_url_rule would list them.
        state.app.url_map.add(Rule("/", endpoint="proxy.forward", methods=None))
        state.app.url_map.add(Rule("/<path:_>", endpoint="proxy.forward", methods=None))
        state.app.view_functions["proxy.forward"] = view

    @blueprint.app_errorhandler(RequestError)
    def on_request_error(error: RequestError) -> Response:
        return error_response(error, inbound().request_id)

    @blueprint.app_errorhandler(InternalServerError)
    def on_bug(_: InternalServerError) -> Response:
        # Flask has logged the traceback; the client gets none of it.
        return error_response(InternalError(), inbound().request_id)

    blueprint.record(add_catch_all)
    return blueprint
