"""A client's request, read once from its WSGI environment where it enters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, BinaryIO

from authproxy.cancellation import Cancellation, cancellation_of
from authproxy.errors import BadRequest
from authproxy.http1.headers import canonical
from authproxy.http1.upgrade import offered_protocols
from authproxy.http1.urls import origin_form, path_of, requested_host
from authproxy.tunnel import TUNNEL_KEY, TunnelOffer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Where the request is in the environment that it was read from, and where the server
#: puts what the head filter found. No client can set either: its fields are HTTP_ something.
REQUEST_KEY = "authproxy.request"
HEAD_CHECK_KEY = "authproxy.head_check"


@dataclass(eq=False, slots=True)  # not frozen: that is twenty times slower to make
class InboundRequest:
    """What routes, admission, forwarding, telemetry and the access log know of a request.

    Nothing changes it.
    """

    method: str

    #: The request target as it came, whatever its form (RFC 9112 section 3.2), and in origin
    #: form; why there is none of the latter, if so.
    raw_target: str
    _target: str
    malformed: str

    #: By canonical names; the client's credentials are among them.
    fields: Mapping[str, str] = field(repr=False)

    #: The client's IP address, None behind a Unix socket; `http` or `https`.
    client: str | None
    scheme: str

    #: The path that the application is mounted below (SCRIPT_NAME), usually empty.
    mount: str

    #: Content-Length as it came, empty without; and the body, which may still be on its way.
    content_length: str
    body: BinaryIO | None = field(repr=False)

    #: Comes when the client has left.
    cancellation: Cancellation = field(repr=False)

    #: The `AdmissionResult` of the head, where the server asked for it before it read the body.
    head_check: object = None

    #: The protocols that it offers to change to, and what the server has for that; none under
    #: servers that have no tunnels.
    upgrade: tuple[str, ...] = ()
    tunnel: TunnelOffer | None = field(default=None, repr=False)

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> InboundRequest:
        """Return the request of an environment; it is read the first time only."""
        request: InboundRequest | None = environ.get(REQUEST_KEY)
        if request is None:
            request = environ[REQUEST_KEY] = cls.read(environ)
        return request

    @classmethod
    def read(cls, environ: Mapping[str, Any]) -> InboundRequest:
        """Read a request, or its head alone, from what has the names of a WSGI environment."""
        raw_target = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
        mount = environ.get("SCRIPT_NAME", "")
        try:
            target, malformed = origin_form(raw_target, mount), ""
        except BadRequest as error:
            target, malformed = "", str(error)
        fields = {
            canonical(name[5:]): value for name, value in environ.items() if name[:5] == "HTTP_"
        }
        if content_type := environ.get("CONTENT_TYPE"):
            fields["Content-Type"] = content_type
        return cls(
            method=environ["REQUEST_METHOD"],
            raw_target=raw_target,
            _target=target,
            malformed=malformed,
            fields=fields,
            client=_address(environ.get("REMOTE_ADDR") or ""),
            scheme=environ.get("wsgi.url_scheme", "http"),
            mount=mount,
            content_length=environ.get("CONTENT_LENGTH") or "",
            body=environ.get("wsgi.input"),
            cancellation=cancellation_of(environ),
            head_check=environ.get(HEAD_CHECK_KEY),
            # In HTTP/1.0 it means nothing (RFC 9110 section 7.8).
            upgrade=(
                offered_protocols(fields) if environ.get("SERVER_PROTOCOL") == "HTTP/1.1" else ()
            ),
            tunnel=environ.get(TUNNEL_KEY),
        )

    @property
    def target(self) -> str:
        """The request target in origin form, byte for byte. Raises BadRequest."""
        if self.malformed:
            raise BadRequest(self.malformed)
        return self._target

    @property
    def path(self) -> str:
        """The request target without its query. Raises BadRequest."""
        return path_of(self.target)

    @property
    def host(self) -> str:
        """The host, and port if any, that it is for, as `canonical_host` has it.

        Raises BadRequest for one that is none.
        """
        return requested_host(self.raw_target, self.fields.get("Host", ""))

    @property
    def origin(self) -> str:
        """The scheme and host that the client knows the proxy by; empty where it names no host.

        X-Forwarded-Proto is of what opens TLS before the proxy.
        """
        scheme = self.fields.get("X-Forwarded-Proto", "").lower()
        if scheme not in ("http", "https"):
            scheme = self.scheme
        try:
            return f"{scheme}://{host}" if (host := self.host) else ""
        except BadRequest:
            return ""

    @property
    def request_id(self) -> str | None:
        """X-Request-ID as it came."""
        return self.fields.get("X-Request-Id")


@lru_cache(maxsize=512)
def _address(text: str) -> str | None:
    """Return an IP address; an IPv4 client of a dual-stack socket gets its plain IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
