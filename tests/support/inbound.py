"""Inbound requests for tests of what decides about them."""

from __future__ import annotations

from authproxy.http1.inbound_request import InboundRequest


def inbound(
    target: str, host: str = "proxy.example.com", *, body: object = None, **environ: object
) -> InboundRequest:
    """Return a GET request, with its body and further members of its WSGI environment."""
    head = {"REQUEST_METHOD": "GET", "REQUEST_URI": target, "HTTP_HOST": host, **environ}
    return InboundRequest.read(head if body is None else {**head, "wsgi.input": body})
