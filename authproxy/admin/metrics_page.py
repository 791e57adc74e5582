"""The WSGI application on METRICS_PORT: a page for each path, and no proxied traffic."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from authproxy.errors import (
    AuthProxyError,
    LocalResponse,
    MethodNotAllowed,
    MetricsUnavailable,
    NoRoute,
    RequestError,
)
from authproxy.http1.inbound_request import InboundRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Makes the response to a GET.
Page = Callable[["WSGIEnvironment"], LocalResponse]


Encoder = Callable[[Collector], bytes]


class Pages:
    """A WSGI application of one page for each path; other methods than GET go by path, too."""

    def __init__(self, pages: Mapping[str, tuple[Page, tuple[str, ...]]]) -> None:
        self._pages = pages

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = InboundRequest.of(environ)
        try:
            response = self._page(request)(environ)
        except RequestError as error:
            response = error.response(request.fields.get("X-Request-Id"))
        headers = [*response.headers]
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(response.body))))
        start_response(response.line, headers)
        return [] if request.method == "HEAD" else [response.body]

    def _page(self, request: InboundRequest) -> Page:
        """Return what makes the response. Raises a RequestError where nothing does."""
        if request.path not in self._pages:
            raise NoRoute(f"here are {', '.join(self._pages)} alone")
        page, methods = self._pages[request.path]
        if request.method not in methods:
            raise MethodNotAllowed(f"only {' and '.join(methods)} are served")
        return page


#: A version that prometheus_client cannot compare with others, and raises for.
_ODD_VERSION = re.compile(r"\bversion=(?!\d{1,3}(?:\.\d{1,3}){0,3}\s*(?:[;,]|$))", re.ASCII)


def encoder_for(accept: str) -> tuple[Encoder, str]:
    """Return the encoder of a form that is accepted, and the form's name.

    An Accept field with a malformed version counts as none.
    """
    return choose_encoder("" if _ODD_VERSION.search(accept) else accept)


def metrics_page(collector: Collector) -> Page:
    """Return the page for Prometheus, in the form that it accepts."""

    def page(environ: WSGIEnvironment) -> LocalResponse:
        encode, content_type = encoder_for(environ.get("HTTP_ACCEPT", ""))
        try:
            body = encode(collector)
        except AuthProxyError as error:
            raise MetricsUnavailable(str(error)) from error
        return LocalResponse(HTTPStatus.OK, [("Content-Type", content_type)], body)

    return page
