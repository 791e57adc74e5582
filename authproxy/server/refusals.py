"""Refusals: why the server rejects requests by itself, and their responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from waitress.utilities import build_http_date

from authproxy.errors import (
    BadRequest,
    ClientCertificateMissing,
    CodingNotImplemented,
    RequestError,
    RequestHeaderTooLarge,
)

#: Why a request is rejected, as its client sees it.
Refusal = RequestError


@dataclass(frozen=True)
class RefusedRequest:
    """A request that never reached the application.

    Method and target are empty where the request line could not be read.
    """

    refusal: Refusal
    method: str = ""
    target: str = ""
    #: By WSGI's names without `HTTP_`; none where the head was too large.
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str = ""


def malformed(message: str = "The request is not valid HTTP/1.1.") -> Refusal:
    return BadRequest(message)


HEADER_TOO_LARGE = RequestHeaderTooLarge(
    "The header is larger than MAX_REQUEST_HEADER_BYTES allows."
)
HTTPS_EXPECTED = malformed("This port speaks HTTPS: use https:// for its URL.")
# Not 401, which would need a scheme of authentication to ask for (RFC 9110 section 15.5.2).
CERTIFICATE_MISSING = ClientCertificateMissing(
    "The client has to show a certificate, and has shown none."
)
CODING_NOT_IMPLEMENTED = CodingNotImplemented("The only Transfer-Encoding understood is chunked.")


def refusal_response(
    refusal: Refusal,
    headers: Mapping[str, str],
    now: float,
    *,
    version: str = "1.1",
    has_body: bool = True,
) -> bytes:
    """Return the whole response, after which the connection ends.

    `headers` are the request's; `now` is the time of Date, in seconds since the epoch.
    Without body it is the response to HEAD.
    """
    response = refusal.response(headers.get("X_REQUEST_ID"))
    fields = [
        *response.headers,
        ("Connection", "close"),
        ("Date", build_http_date(now)),
    ]
    lines = [f"HTTP/{version} {response.line}", *(f"{name}: {value}" for name, value in fields)]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head + response.body if has_body else head
