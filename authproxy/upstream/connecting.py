"""Opens a TCP connection to a name: to whichever of its addresses accepts first (RFC 8305)."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from itertools import chain, zip_longest
from typing import Any, ClassVar, NamedTuple

from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from authproxy.tls_stream import TLSStream

#: Seconds after which the next address is tried besides (RFC 8305 section 5).
ATTEMPT_DELAY_SECONDS = 0.25


class Address(NamedTuple):
    """One address of a name, as `socket` takes it."""

    family: int
    sockaddr: Any


#: Returns the addresses of a host and port, the most preferred first; raises OSError.
Resolve = Callable[[str, int], Sequence[Address]]


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses as the system's resolver has and sorts them. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # of the idna codec
        raise socket.gaierror(socket.EAI_NONAME, "label empty or too long") from None
    return list(dict.fromkeys(Address(family, sockaddr) for family, _, _, _, sockaddr in found))


def alternating(addresses: Sequence[Address], preferred: Address | None) -> list[Address]:
    """Return the addresses in the order in which they are tried.

    The one that worked last comes first, if the name still has it; the families take turns
    (RFC 8305 section 4).
    """
    ordered = sorted(addresses, key=lambda address: address != preferred)
    if not ordered:
        return []
    first = [address for address in ordered if address.family == ordered[0].family]
    second = [address for address in ordered if address.family != ordered[0].family]
    turns = chain.from_iterable(zip_longest(first, second))
    return [address for address in turns if address is not None]


class Connector:
    """Opens connections to one host and port, within `timeout` seconds each, names included.

    Each looks the name up anew; those that come while it is looked up share that.
    """

    def __init__(self, host: str, port: int, timeout: float, resolver: Resolve = resolve) -> None:
        self._host = host
        self._port = port
        self._timeout = timeout
        self._resolve = resolver
        self._lock = threading.Lock()
        self._lookup: Future[Sequence[Address]] | None = None
        self._worked: Address | None = None

    def connect(self, options: Sequence[tuple[int, int, Any]] = ()) -> socket.socket:
        """Return a connected socket, whose timeout is what is left of the time.

        Raises OSError: `socket.gaierror` where the name has no address, TimeoutError where
        the time is over, what the last address had otherwise.
        """
        deadline = time.monotonic() + self._timeout
        addresses = alternating(self._addresses(deadline), self._worked)
        with _Race(options, deadline) as race:
            address, sock = race.run(addresses)
        self._worked = address
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        return sock

    def _addresses(self, deadline: float) -> Sequence[Address]:
        with self._lock:
            lookup = self._lookup
            if lookup is None:
                lookup = Future()
                # A resolver cannot be interrupted, and may take far longer than the timeout.
                thread = threading.Thread(target=self._look_up, args=(lookup,), daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads can be had
                    raise OSError(f"the name cannot be resolved: {error}") from error
                self._lookup = lookup
        try:
            return lookup.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeout:
            if lookup.done():
                raise
            raise TimeoutError("the name was not resolved in time") from None

    def _look_up(self, lookup: Future[Sequence[Address]]) -> None:
        try:
            addresses = self._resolve(self._host, self._port)
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._ended()
            lookup.set_exception(error)
        else:
            self._ended()
            lookup.set_result(addresses)

    def _ended(self) -> None:
        with self._lock:
            self._lookup = None


class _Race:
    """Attempts at several addresses, one started after the other, of which the first wins."""

    def __init__(self, options: Sequence[tuple[int, int, Any]], deadline: float) -> None:
        self._options = options
        self._deadline = deadline
        self._selector = selectors.DefaultSelector()
        self._error: OSError = OSError("the name has no address")

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def run(self, addresses: Sequence[Address]) -> tuple[Address, socket.socket]:
        """Return the first that accepts. Raises OSError."""
        left = list(addresses)
        while left or self._selector.get_map():
            if left:
                self._start(left.pop(0))
            now = time.monotonic()
            if now >= self._deadline:
                raise TimeoutError("timed out")
            # With nothing under way the next is tried at once.
            until = min(self._deadline, now + ATTEMPT_DELAY_SECONDS) if left else self._deadline
            if won := self._wait(until):
                return won
        raise self._error

    def _start(self, address: Address) -> None:
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # a family that this machine lacks
            self._error = error
            return
        try:
            for option in self._options:
                sock.setsockopt(*option)
            sock.setblocking(False)
            code = sock.connect_ex(address.sockaddr)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            self._selector.register(sock, selectors.EVENT_WRITE, address)
        except OSError as error:
            self._error = error
            sock.close()

    def _wait(self, until: float) -> tuple[Address, socket.socket] | None:
        """Wait for one that accepts, or until one fails or the time comes."""
        if not self._selector.get_map():
            return None
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            sock: Any = key.fileobj
            self._selector.unregister(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return key.data, sock
            self._error = OSError(code, os.strerror(code))
            sock.close()
        return None


class _Connecting(HTTPConnection):
    """Opens the socket of a connection with a Connector; its errors are urllib3's."""

    connector: ClassVar[Connector]

    def _new_conn(self) -> socket.socket:
        try:
            return self.connector.connect(self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(
                self, f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            ) from error
        except OSError as error:
            raise NewConnectionError(
                self, f"Failed to establish a new connection: {error}"
            ) from error


class _SecureConnecting(_Connecting):
    """Has TLS on it, and within that of a forward proxy that is itself reached by TLS."""

    context: ClassVar[ssl.SSLContext]

    def connect(self) -> None:
        """Open it; `sock` is a TLSStream then. Raises HTTPError, HTTPException and OSError."""
        self.sock: Any = self._new_conn()
        host = self.host
        if self._tunnel_host is not None:
            if self._tunnel_scheme == "https":
                self._begin_tls(host)
            self._tunnel()
            host = self._tunnel_host
        self._begin_tls(host)

    def _begin_tls(self, host: str) -> None:
        self.sock = TLSStream(self.sock, self.context, server_hostname=server_name(host))
        self.sock.do_handshake()


def server_name(host: str) -> str:
    """Return what the certificate has to be for: a name without the last dot, an address alone."""
    return host.rstrip(".").strip("[]").partition("%")[0]


def connection_class(
    connector: Connector, context: ssl.SSLContext | None = None
) -> type[HTTPConnection]:
    """Return a class of connections that are opened with the connector, with TLS if any."""
    if context is None:
        return type("Connection", (_Connecting,), {"connector": connector})
    members = {"connector": connector, "context": context}
    return type("Connection", (_SecureConnecting,), members)
