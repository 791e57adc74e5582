"""Probes of the way to the target: its name, a connection, a proxy between."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from authproxy.diagnose.steps import Finding, ProbeFailed, Rule, first
from authproxy.diagnose.token_claims import printable
from authproxy.errors import Advice
from authproxy.http1.urls import TargetURL
from authproxy.redaction import Redactor
from authproxy.tls import proxy_password

#: Family, and address as the socket module has it for that.
Address = tuple[socket.AddressFamily, tuple[Any, ...]]

#: How http.client reports the response to a CONNECT that opens no tunnel.
_REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (\d+) ?(.*)", re.DOTALL)


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
        return self.proxy and "{}:{}".format(*self.first)

    @property
    def around(self) -> str:
        """The hint where the proxy is the problem; empty without one."""
        if self.proxy is None:
            return ""
        return (
            f"HTTPS_PROXY names it. Correct it, or add {self.url.host} to NO_PROXY where the "
            "target can be reached without it"
        )

    @property
    def show_certificates(self) -> str:
        """A command that shows the certificates that are presented."""
        url = self.url
        at = f"[{url.host}]" if ":" in url.host else url.host
        through = f" -proxy {self.proxy_name}" if self.proxy else ""
        return (
            f"openssl s_client -connect {at}:{url.port} -servername {url.host}{through} "
            "-showcerts </dev/null"
        )


def resolve(way: Way) -> tuple[Finding, list[Address]]:
    """Look up the addresses of the first host on the way. Raises ProbeFailed."""
    host, port = way.first
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ProbeFailed(unresolved(way, error)) from error
    addresses: list[Address] = [(family, at) for family, _, _, _, at in found]
    texts = list(dict.fromkeys(str(at[0]) for _, at in addresses))
    facts = {"host": host, "addresses": texts}
    if texts == [host]:
        return Finding(f"{host} is an address", facts=facts), addresses
    return Finding(f"{host} is {', '.join(texts)}{_inside(texts)}", facts=facts), addresses


def unresolved(way: Way, error: Exception) -> Finding:
    """Return what it means that a name could not be looked up."""
    host, _ = way.first
    look_up = (f"getent hosts {host}",)
    wrong_name = Advice(
        f"The name {host} is wrong",
        way.around or f"Correct {way.setting}: paste the endpoint that the portal shows",
    )
    return first(
        Rule(
            isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME,
            f"there is no host {host}",
            wrong_name,
            Advice(
                "It is known in a private DNS zone only, which this machine does not ask",
                "Link the zone to this network, or have its DNS server forward to it",
                look_up,
            ),
        ),
        Rule(
            True,
            f"{host} cannot be looked up ({error})",
            Advice(
                "No DNS server responds here",
                "Check /etc/resolv.conf; on Kubernetes let the pod reach the cluster's DNS "
                "(port 53, UDP and TCP) in its NetworkPolicy",
                look_up,
            ),
            wrong_name,
        ),
        facts={"host": host},
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
        notes = tuple(f"{host} did not respond: {_why(error)}" for host, error in failures)
        facts = {"address": at[0], "port": port}
        return Finding(f"connected to {at[0]} port {port}", facts=facts, notes=notes), sock
    raise ProbeFailed(_unconnected(way, failures))


def _unconnected(way: Way, failures: Sequence[tuple[str, OSError]]) -> Finding:
    host, port = way.first
    errors = [error for _, error in failures]
    tried = "; ".join(f"{at}: {_why(error)}" for at, error in failures)
    summary = f"no connection to port {port} of {tried}"
    setting = "HTTPS_PROXY" if way.proxy else way.setting
    instead = way.around or "Where only a proxy may go out, set HTTPS_PROXY=http://host:port"
    reach = f"Let this machine or pod reach {host} port {port} over TCP. {instead}"
    return first(
        Rule(
            any(isinstance(error, ConnectionRefusedError) for error in errors),
            summary,
            Advice(
                f"Nothing listens at port {port} there",
                f"Correct the port in {setting}, or start it",
            ),
            Advice("A firewall rejects the connection", reach),
        ),
        Rule(
            all(error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) for error in errors),
            summary,
            Advice("This machine has no route there", f"Check its network and routes. {instead}"),
        ),
        Rule(
            True,
            summary,
            Advice(
                "A firewall, a network security group or an egress NetworkPolicy drops the packets",
                reach,
            ),
            Advice(
                f"The name {host} leads to an address that does not exist (any more)",
                "Check DNS: a stale private endpoint, /etc/hosts, hostAliases",
            ),
        ),
        facts={"port": port},
    )


class _Tunnel(HTTPConnection):
    """urllib3's client of CONNECT, which the proxy's connections use too, on an open connection."""

    def __init__(self, way: Way, channel: socket.socket) -> None:
        super().__init__(*way.first)
        self._channel = channel
        self.set_tunnel(way.url.host, way.url.port, HTTPAdapter().proxy_headers(way.proxy or ""))

    def _new_conn(self) -> socket.socket:
        return self._channel


def tunnel(
    way: Way, sock: socket.socket, context: ssl.SSLContext, timeout: float
) -> tuple[Finding, socket.socket]:
    """Have the proxy open a tunnel to the target; `context` is for TLS with the proxy itself.

    Raises ProbeFailed.
    """
    try:
        if urlsplit(way.proxy or "").scheme == "https":
            sock = context.wrap_socket(sock, server_hostname=way.first[0])
        sock.settimeout(timeout)
        _Tunnel(way, sock).connect()
    except (OSError, HTTPException) as error:
        raise ProbeFailed(_untunnelled(way, error)) from error
    return Finding(
        f"{way.proxy_name} opened a tunnel", facts={"proxy": way.proxy_name, "status": 200}
    ), sock


def _untunnelled(way: Way, error: Exception) -> Finding:
    redact = Redactor([proxy_password(way.proxy)])
    refusal = _REFUSED_TUNNEL.fullmatch(str(error))
    status, reason = refusal.groups() if refusal else (None, "")
    responded = (
        f"the proxy {way.proxy_name} responded {status} {printable(redact(reason))}".rstrip()
    )
    host = way.url.host
    directly = Advice("The target is to be reached without it", f"Add {host} to NO_PROXY")
    return first(
        Rule(
            status is None,
            f"the proxy {way.proxy_name} does not respond as one: {redact(_why(error))}",
            Advice("It is no HTTP proxy", way.around),
        ),
        Rule(
            status == "407",
            responded,
            Advice(
                "It wants a user and a password",
                "Give them in HTTPS_PROXY=http://user:password@host:port",
            ),
            directly,
        ),
        Rule(
            True,
            responded,
            Advice(
                f"Its rules do not let {host} port {way.url.port} pass",
                "Ask its operator to allow that",
            ),
            Advice("The proxy itself cannot reach the target", "Ask its operator"),
            directly,
        ),
        facts={"proxy": way.proxy_name, "status": int(status)} if status else {},
    )


def _inside(addresses: Sequence[str]) -> str:
    """Say so where a name leads to private addresses, as private endpoints do."""
    inside = [ipaddress.ip_address(each.partition("%")[0]) for each in addresses]
    private = all(each.is_private and not each.is_loopback for each in inside)
    return " (private: an endpoint in your own network)" if private else ""


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no response in time"
    strerror = getattr(error, "strerror", None)
    return printable(strerror or str(error) or type(error).__name__).lower()
