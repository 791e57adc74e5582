"""What METRICS_PORT answers: pages for machines and people, and nothing of the proxied traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from authproxy.errors import BadRequest, Reply, error_reply
from authproxy.metrics_port.shared_metrics import LockTimeout
from authproxy.urls import path_of, request_target

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Makes the reply to a GET.
Page = Callable[["WSGIEnvironment"], Reply]


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
        try:
            page = self._pages.get(path_of(request_target(environ)))
        except BadRequest as error:
            return error.reply()
        if page is None:
            known = ", ".join(self._pages)
            return error_reply(HTTPStatus.NOT_FOUND, "NoRoute", f"here are {known} alone")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return error_reply(
                HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", "only GET and HEAD are answered"
            )
        return page(environ)


def metrics_page(collector: Collector) -> Page:
    """Return the page for Prometheus, in the form that it accepts."""

    def page(environ: WSGIEnvironment) -> Reply:
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        try:
            body = encode(collector)
        except LockTimeout as error:
            return error_reply(HTTPStatus.SERVICE_UNAVAILABLE, "MetricsUnavailable", str(error))
        return Reply(HTTPStatus.OK, [("Content-Type", content_type)], body)

    return page
