"""How azure-identity's requests are sent, and what the responses were.

Trust and forward proxies are those of the rest of the program, and a fetch ends
within its budget. Error responses are kept: azure-identity makes one message of
what a managed identity endpoint sends, without the status and Retry-After.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from azure.core.credentials import SupportsTokenInfo
from requests import PreparedRequest, Response, Session

from authproxy.identity.bounded_fetch import BoundedAdapter, Budget
from authproxy.identity.endpoint_errors import EndpointResponse
from authproxy.tls import forward_proxy

#: What proves an identity: to Entra, and to managed identity endpoints.
_SECRET_FORM_FIELDS = frozenset({"client_secret", "client_assertion", "assertion", "refresh_token"})
_SECRET_FIELDS = frozenset({"x-identity-header", "secret", "authorization"})

#: Of what an error response says, this much is kept.
_TEXT_LIMIT = 1024

_HTML = re.compile(r"\s*<(!doctype|html|head|body)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title\b[^<>]*>([^<]*)", re.IGNORECASE)

#: Variables that name a managed identity endpoint on this machine, which may have TLS.
_LOCAL_ENDPOINTS = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST")


class IdentitySession(Session):
    """The session of one token fetch, all requests of which share a budget.

    `endpoint` is who gave the last response: a URL, or the path of a command.
    `response` is that response. `clock_offset` is how many seconds its Date was
    ahead of this machine's clock, if it had one.
    HTTPS_PROXY and NO_PROXY are honoured, but a managed identity endpoint is
    never reached through a proxy, which would get a token for itself. .netrc is
    not honoured: its password would go to Entra as this application's. `sent` are
    the secrets that went out: a response may quote them. `assertion` is the one of them that
    proved an application or a workload last, if one did.
    """

    def __init__(self, context: ssl.SSLContext, budget: Budget | None = None) -> None:
        super().__init__()
        self.budget = budget or Budget()
        self.endpoint = ""
        self.response: EndpointResponse | None = None
        self.clock_offset: float | None = None
        self.sent: list[str] = []
        self.assertion: str | None = None
        self.auth = _no_more_credentials
        self.headers["Accept-Encoding"] = "identity"
        self.mount("https://", BoundedAdapter(self.budget, context))
        # Plain http is only ever such an endpoint: Entra is always https.
        self.mount("http://", DirectAdapter(self.budget))
        for name in _LOCAL_ENDPOINTS:
            if (endpoint := os.environ.get(name, "")).startswith("https://"):
                self.mount(endpoint, DirectAdapter(self.budget, context))
        self.hooks["response"].append(self._remember)

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """Send a request, and remember the secrets in it."""
        form = _form_of(request)
        self.assertion = form.get("client_assertion", self.assertion)
        self.sent += (value for name, value in form.items() if name in _SECRET_FORM_FIELDS)
        fields = request.headers.items()
        self.sent += (str(value) for name, value in fields if name.lower() in _SECRET_FIELDS)
        return super().send(request, **kwargs)

    def merge_environment_settings(self, url: Any, *args: Any) -> Any:
        """Have what requests would do with the environment, but our own choice of a proxy."""
        settings = super().merge_environment_settings(url, *args)
        settings["proxies"] = {"https": forward_proxy(url) or ""}
        return settings

    def _remember(self, response: Response, **_: Any) -> None:
        self.endpoint = response.url
        self.clock_offset = date_ahead_of(response.headers.get("Date"), time.time())
        text, foreign = _description(response.content)
        seen = EndpointResponse(
            status=response.status_code,
            host=urlsplit(response.url).hostname or "",
            text=" ".join(text.split())[:_TEXT_LIMIT],
            retry_after=response.headers.get("Retry-After"),
            managed=isinstance(self.get_adapter(response.url), DirectAdapter),
            foreign=foreign,
        )
        if seen.status < 300:  # nothing is kept that may be a token
            kind = "an HTML page" if text.startswith("an HTML page") else "no JSON"
            seen = replace(seen, text=kind if foreign else "")
        self.response = seen


class DirectAdapter(BoundedAdapter):
    """For endpoints of this machine: never through a proxy."""

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        kwargs["proxies"] = {}
        return super().send(request, *args, **kwargs)


class SessionCredential(SupportsTokenInfo):
    """A credential of this package: it sends what it asks on a session that its maker closes."""

    def __init__(self, session: IdentitySession) -> None:
        self.session = session

    def close(self) -> None:
        """Nothing is kept open."""

    def __exit__(self, *_: object) -> None:
        self.close()


def _form_of(request: PreparedRequest) -> dict[str, str]:
    """Return the fields of a request for a token, of whatever body it has."""
    sent = request.body or ""
    return dict(parse_qsl(sent.decode("latin-1") if isinstance(sent, bytes) else str(sent)))


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Read a Retry-After field (RFC 9110 section 10.2.3), at the wall time `now`.

    None where there is none, or where it is neither seconds nor a date.
    """
    if value is not None and value.strip().isascii() and value.strip().isdigit():
        return float(value)
    ahead = date_ahead_of(value, now)
    return None if ahead is None else max(0.0, ahead)


def date_ahead_of(date: str | None, now: float) -> float | None:
    """Return how many seconds a Date field (RFC 9110 section 6.6.1) is ahead of `now`.

    None where there is none, or where it is no date. It counts whole seconds.
    """
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return None


def _description(data: bytes) -> tuple[str, bool]:
    """Return what an error body says, in any of the forms that identity endpoints use.

    And whether it is none of these: no JSON object, and not empty.
    """
    body = data.decode("utf-8-sig", "replace")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, Mapping):
        return _words_of(body), bool(body.strip())
    error = content.get("error")
    if isinstance(error, Mapping):  # Service Fabric
        content = error
    for key in ("error_description", "message", "error", "code"):
        if isinstance(content.get(key), str):
            return str(content[key]), False
    return body, False


def _words_of(body: str) -> str:
    """Return a text, or what an HTML page is called."""
    beginning = body[:_TEXT_LIMIT]
    if not _HTML.match(beginning):
        return body
    title = _TITLE.search(beginning)
    return f"an HTML page{title[1] and f', {title[1].strip()}'}" if title else "an HTML page"


def _no_more_credentials(request: PreparedRequest) -> PreparedRequest:
    return request
