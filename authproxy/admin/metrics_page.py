"""What METRICS_PORT serves: pages for machines and people, and nothing of the proxied traffic."""

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

#: Makes the reply to a GET.
Page = Callable[["WSGIEnvironment"], Reply]


Encoder = Callable[[Collector], bytes]


class Pages:
    """A WSGI application of one page for each path."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reply = self._reply(environ)
        headers = [*reply.headers]
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(reply.body))))
        start_response(reply.line, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]

    def _reply(self, environ: WSGIEnvironment) -> Reply:
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
    """Return what writes the metrics in a form that is accepted, and the form's name.

    A version that is none asks for nothing in particular.
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
