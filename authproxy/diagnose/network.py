"""Probes of the way to the target: its name, a connection, a proxy between."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter

from authproxy.diagnose.handshakes import Handshake
from authproxy.diagnose.steps import Advice, Finding, ProbeFailed
from authproxy.diagnose.token_claims import printable
from authproxy.http1.urls import TargetURL
from authproxy.redaction import Redactor
from authproxy.tls import proxy_password

#: Family, and address as the socket module has it for that.
Address = tuple[socket.AddressFamily, tuple[Any, ...]]

_NO_PROXY = (
    "HTTPS_PROXY names it. Correct it, or add {host} to NO_PROXY where the target can be reached "
    "without it"
)


@dataclass(frozen=True)
class Way:
    """How the target is reached: directly, or through the forward proxy of HTTPS_PROXY.

    `setting` is where the target comes from.
    """

    url: TargetURL
    proxy: str | None = None
    setting: str = "TARGET_HOST"

    @property
    def first(self) -> tuple[str, int]:
        """Host and port of what is connected to: the target, or the proxy."""
        if self.proxy is None:
            return self.url.host, self.url.port
        parts = urlsplit(self.proxy)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def proxy_name(self) -> str | None:
        """The proxy without what may be a password."""
        host, port = self.first
        return None if self.proxy is None else f"{host}:{port}"

    @property
    def handshake(self) -> Handshake:
        return Handshake(self.url.host, self.url.port, self.proxy_name, self.setting)


def resolve(way: Way) -> tuple[Finding, list[Address]]:
    """Look up the addresses of the first host on the way. Raises ProbeFailed."""
    host, port = way.first
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise unresolved(way, error) from error
    addresses: list[Address] = [(family, at) for family, _, _, _, at in found]
    texts = list(dict.fromkeys(str(at[0]) for _, at in addresses))
    facts = {"host": host, "addresses": texts}
    if texts == [host]:
        return Finding(f"{host} is an address", facts=facts), addresses
    return Finding(f"{host} is {', '.join(texts)}{_inside(texts)}", facts=facts), addresses


def unresolved(way: Way, error: Exception) -> ProbeFailed:
    """Return what it means that a name could not be looked up."""
    host, _ = way.first
    known_missing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
    name = Advice(
        f"The name {host} is wrong",
        _NO_PROXY.format(host=way.url.host)
        if way.proxy
        else f"Correct {way.setting}: paste the endpoint that the portal shows",
    )
    zone = Advice(
        "It is known in a private DNS zone only, which this machine does not ask",
        "Link the zone to this network, or have its DNS server forward to it",
        (f"getent hosts {host}",),
    )
    server = Advice(
        "No DNS server answers here",
        "Check /etc/resolv.conf; on Kubernetes let the pod reach the cluster's DNS (port 53, UDP "
        "and TCP) in its NetworkPolicy",
        (f"getent hosts {host}",),
    )
    summary = (
        f"there is no host {host}" if known_missing else f"{host} cannot be looked up ({error})"
    )
    return ProbeFailed(
        summary, *((name, zone) if known_missing else (server, name)), facts={"host": host}
    )


def connect(
    way: Way, addresses: Sequence[Address], timeout: float
) -> tuple[Finding, socket.socket]:
    """Open a connection to the first address that takes one. Raises ProbeFailed.

    `timeout` in seconds is for each of them, as it is for the proxy.
    """
    port = way.first[1]
    failures: list[tuple[str, OSError]] = []
    for family, at in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(at)
        except OSError as error:
            sock.close()
            failures.append((at[0], error))
            continue
        notes = tuple(f"{host} did not answer: {_why(error)}" for host, error in failures)
        facts = {"address": at[0], "port": port}
        return Finding(f"connected to {at[0]} port {port}", facts=facts, notes=notes), sock
    raise _unconnected(way, failures)


def _unconnected(way: Way, failures: Sequence[tuple[str, OSError]]) -> ProbeFailed:
    host, port = way.first
    errors = [error for _, error in failures]
    setting = "HTTPS_PROXY" if way.proxy else way.setting
    instead = (
        _NO_PROXY.format(host=way.url.host)
        if way.proxy
        else "Where only a proxy may go out, set HTTPS_PROXY=http://host:port"
    )
    blocked = Advice(
        "A firewall, a network security group or an egress NetworkPolicy drops the packets",
        f"Let this machine or pod reach {host} port {port} over TCP. {instead}",
    )
    wrong_port = Advice(
        f"Nothing listens at port {port} there", f"Correct the port in {setting}, or start it"
    )
    if any(isinstance(error, ConnectionRefusedError) for error in errors):
        advice: tuple[Advice, ...] = (
            wrong_port,
            Advice("A firewall rejects the connection", blocked.mend),
        )
    elif all(error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) for error in errors):
        advice = (
            Advice("This machine has no route there", f"Check its network and routes. {instead}"),
        )
    else:
        advice = (
            blocked,
            Advice(
                f"The name {host} leads to an address that does not exist (any more)",
                "Check DNS: a stale private endpoint, /etc/hosts, hostAliases",
            ),
        )
    tried = "; ".join(f"{at}: {_why(error)}" for at, error in failures)
    return ProbeFailed(f"no connection to port {port} of {tried}", *advice, facts={"port": port})


def tunnel(
    way: Way, sock: socket.socket, context: ssl.SSLContext, timeout: float
) -> tuple[Finding, socket.socket]:
    """Have the proxy open a tunnel to the target; `context` is for TLS with the proxy itself.

    Raises ProbeFailed.
    """
    channel: socket.socket = sock
    proxy = way.proxy or ""
    redact = Redactor([proxy_password(proxy)])
    try:
        if urlsplit(proxy).scheme == "https":
            channel = context.wrap_socket(sock, server_hostname=way.first[0])
        host = f"[{way.url.host}]" if ":" in way.url.host else way.url.host
        lines = [f"CONNECT {host}:{way.url.port} HTTP/1.1", f"Host: {host}:{way.url.port}"]
        lines += [f"{name}: {value}" for name, value in HTTPAdapter().proxy_headers(proxy).items()]
        channel.settimeout(timeout)
        channel.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = HTTPResponse(channel, method="CONNECT")
        answer.begin()
    except (OSError, HTTPException) as error:
        raise ProbeFailed(
            f"the proxy {way.proxy_name} does not answer as one: {redact(_why(error))}",
            Advice("It is no HTTP proxy", _NO_PROXY.format(host=way.url.host)),
        ) from error
    if answer.status != 200:
        raise _refused_tunnel(way, answer.status, redact(answer.reason))
    return Finding(
        f"{way.proxy_name} opened a tunnel", facts={"proxy": way.proxy_name, "status": 200}
    ), channel


def _refused_tunnel(way: Way, status: int, reason: str) -> ProbeFailed:
    if status == 407:
        advice = [
            Advice(
                "It wants a user and a password",
                "Give them in HTTPS_PROXY=http://user:password@host:port",
            )
        ]
    else:
        advice = [
            Advice(
                f"Its rules do not let {way.url.host} port {way.url.port} pass",
                "Have whoever runs it allow that",
            ),
            Advice("The proxy itself cannot reach the target", "Ask whoever runs it"),
        ]
    direct = Advice("The target is to be reached without it", f"Add {way.url.host} to NO_PROXY")
    return ProbeFailed(
        f"the proxy {way.proxy_name} answered {status} {printable(reason)}".rstrip(),
        *advice,
        direct,
        facts={"proxy": way.proxy_name, "status": status},
    )


def _inside(addresses: Sequence[str]) -> str:
    """Say so where a name leads to private addresses, as private endpoints do."""
    inside = [ipaddress.ip_address(each.partition("%")[0]) for each in addresses]
    private = all(each.is_private and not each.is_loopback for each in inside)
    return " (private: an endpoint in your own network)" if private else ""


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    strerror = getattr(error, "strerror", None)
    return printable(strerror or str(error) or type(error).__name__).lower()
