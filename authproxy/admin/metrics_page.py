"""The WSGI application on METRICS_PORT: a page for each path, and no proxied traffic."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from authproxy.errors import AuthProxyError, BadRequest, Reply, error_reply
from authproxy.http1.urls import path_of, request_target

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Makes the response to a GET.
Page = Callable[["WSGIEnvironment"], Reply]


Encoder = Callable[[Collector], bytes]


class Pages:
    """A WSGI application of one page for each path."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = self._response(environ)
        headers = [*response.headers]
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(response.body))))
        start_response(response.line, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    def _response(self, environ: WSGIEnvironment) -> Reply:
        request_id = environ.get("HTTP_X_REQUEST_ID")
        try:
            page = self._pages.get(path_of(request_target(environ)))
        except BadRequest as error:
            return error.reply(request_id)
        if page is None:
            message = f"here are {', '.join(self._pages)} alone"
            return error_reply(HTTPStatus.NOT_FOUND, "NoRoute", message, request_id=request_id)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            message, status = "only GET and HEAD are served", HTTPStatus.METHOD_NOT_ALLOWED
            return error_reply(status, "MethodNotAllowed", message, request_id=request_id)
        return page(environ)


#: A version that prometheus_client cannot compare with others, and raises for.
_ODD_VERSION = re.compile(r"\bversion=(?!\d{1,3}(?:\.\d{1,3}){0,3}\s*(?:[;,]|$))", re.ASCII)


def encoder_for(accept: str) -> tuple[Encoder, str]:
    """Return the encoder of a form that is accepted, and the form's name.

    An Accept field with a malformed version counts as none.
    """
    return choose_encoder("" if _ODD_VERSION.search(accept) else accept)


def metrics_page(collector: Collector) -> Page:
    """Return the page for Prometheus, in the form that it accepts."""

    def page(environ: WSGIEnvironment) -> Reply:
        encode, content_type = encoder_for(environ.get("HTTP_ACCEPT", ""))
        try:
            body = encode(collector)
        except AuthProxyError as error:
            return error_reply(HTTPStatus.SERVICE_UNAVAILABLE, "MetricsUnavailable", str(error))
        return Reply(HTTPStatus.OK, [("Content-Type", content_type)], body)

    return page
