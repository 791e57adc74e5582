"""A target that records exact bytes and misbehaves on order.

Bytes in, bytes out: every request is kept as it came over the wire, and each
test says what goes back, down to the byte and the moment. A handler is called
with an `Exchange` once the head of a request is there, before its body; it may
send anything, wait at a `Gate`, close, or reset. Stock handlers are in
`tests.support.actions`.

    target.on("/slow", handler)     requests whose target holds "/slow"
    target.script(first, second)    the next requests, one handler each
    target.respond(raw)             every other request

Nothing here sleeps: waits end when what they wait for happens, and fail loudly
at the deadline.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from authproxy.demo.stand_ins.acceptor import Acceptor, end
from tests.support.tcp import send_close_notify
from tests.support.wire import (
    DEADLINE,
    Field,
    Fields,
    Stream,
    Truncated,
    WireError,
    parse_fields,
    to_bytes,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Disconnected(Exception):
    """The proxy ended the connection; a handler need not catch it."""


@dataclass
class Recorded(Fields):
    """One request as it came over the wire."""

    head: bytes
    method: bytes
    target: bytes
    version: bytes
    fields: list[Field]
    connection: int
    ordinal: int
    body: bytes = b""
    complete: bool = False
    trailers: list[Field] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        return {name.lower() for name, _ in self.fields}


class Gate:
    """Holds a handler until the test opens it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait_at_most(self, seconds: float) -> None:
        """Return when it is opened, or after so long."""
        self._event.wait(seconds)

    def wait(self) -> None:
        if not self._event.wait(2.5 * DEADLINE):  # The test itself gives up first.
            raise AssertionError("the test never opened the gate")


class Exchange:
    """What a handler has in hand: one request, and the connection it came on."""

    def __init__(self, connection: Connection, request: Recorded) -> None:
        self.connection = connection
        self.request = request

    @property
    def ordinal(self) -> int:
        """1 for the first request on this connection."""
        return self.request.ordinal

    def read_body(self) -> bytes:
        """Read, record and return the body."""
        self.connection.read_body(self.request, keep=True)
        return self.request.body

    def discard_body(self) -> int:
        """Read the body without keeping it; return its size."""
        return self.connection.read_body(self.request, keep=False)

    def switched(self) -> Iterator[bytes]:
        """Yield what comes behind a 101, until the proxy ends its side."""
        return self.connection.to_end()

    def send(self, *parts: bytes | str) -> None:
        for part in parts:
            self.connection.send(to_bytes(part))

    def end_sending(self) -> None:
        """End this side in order (TLS close_notify, FIN), and read on."""
        self.connection.end_sending()

    def close(self) -> None:
        """End the connection in order (TLS close_notify, FIN)."""
        self.connection.close()

    def cut(self) -> None:
        """End the connection without TLS close_notify: a plain FIN."""
        self.connection.close(notify=False)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.connection.reset()

    def wait_until_closed_by_proxy(self) -> None:
        """Return once the proxy has ended the connection; raises if it sends more."""
        self.connection.expect_end()


Handler = Callable[[Exchange], None]
Hook = Callable[["Connection"], None]


class Connection:
    """One accepted connection, served in a thread of its own."""

    def __init__(self, upstream: Upstream, sock: socket.socket, number: int) -> None:
        self.upstream = upstream
        self.sock = sock
        self.number = number
        #: By the handler, or by `abort` in the test's thread.
        self._ended = threading.Event()
        self.idle = False
        self._stream = Stream(sock)
        self._orders: deque[tuple[Hook, threading.Event]] = deque()
        self._wake, self._woken = socket.socketpair()

    @property
    def closed(self) -> bool:
        """Whether it has been closed on this side."""
        return self._ended.is_set()

    # -- in the connection's own thread --------------------------------------

    def run(self) -> None:
        """Serve it to its end; what a handler does wrong is a fault of the target."""
        try:
            self._serve()
        except (Disconnected, ConnectionError, ssl.SSLError):
            pass  # The proxy went away: its right; tests look at what was recorded.
        except (OSError, ValueError):
            if not self.closed:  # Else `abort` took the socket from under the handler.
                self.upstream.fault(traceback.format_exc())
        except Exception:  # noqa: BLE001 - whatever went wrong in a handler fails its test
            self.upstream.fault(traceback.format_exc())
        finally:
            self.close(notify=False)
            self.sock.close()  # `abort` says closed, but leaves that to this thread.
            self.upstream.forget(self)  # No order comes from now on.
            while self._orders:
                self._orders.popleft()[1].set()
            self._wake.close()
            self._woken.close()

    def _serve(self) -> None:
        self.upstream.before_tls(self)
        if self.closed:
            return
        if self.upstream.tls is not None:
            # The handshake comes when `abort` knows the socket that it can end.
            sock = self.upstream.tls.wrap_socket(
                self.sock, server_side=True, do_handshake_on_connect=False
            )
            self.sock, self._stream = sock, Stream(sock)
            sock.do_handshake()
        self.upstream.before_reading(self)
        ordinal = 0
        while not self._ended.is_set() and self._wait_for_request():
            ordinal += 1
            request = self._read_head(ordinal)
            handler = self.upstream.record(request)
            handler(Exchange(self, request))
            if not self._ended.is_set() and not request.complete:
                self.read_body(request, keep=True)

    def _wait_for_request(self) -> bool:
        """Wait idle for the next request, carrying out orders meanwhile."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        self.upstream.mark(self, idle=True)
        try:
            while True:
                while self._orders:
                    order, done = self._orders.popleft()
                    try:
                        order(self)
                    finally:
                        done.set()
                    if self.closed:
                        return False
                if self._stream.buffer or self._pending():
                    return True
                for fd, _ in poll.poll():
                    if fd == self._woken.fileno():
                        self._woken.recv(64)
                    else:
                        return self._stream.fill()
        finally:
            self.upstream.mark(self, idle=False)

    def _pending(self) -> int:
        return self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else 0

    def _read_head(self, ordinal: int) -> Recorded:
        try:
            head = self._stream.until(b"\r\n\r\n", "a request head")
        except Truncated:
            raise Disconnected from None
        first, *lines = head[:-4].split(b"\r\n")
        method, _, rest = first.partition(b" ")
        target, _, version = rest.rpartition(b" ")
        fields = parse_fields(line.decode("latin-1") for line in lines)
        return Recorded(head, method, target, version, fields, self.number, ordinal)

    def read_body(self, request: Recorded, *, keep: bool) -> int:
        if request.complete:
            return len(request.body)
        coding, length = request.one("Transfer-Encoding"), request.one("Content-Length")
        if coding is not None:
            if length is not None or coding.lower() != "chunked":
                raise WireError(f"ambiguous framing: {request.head!r}")
            pieces = self._stream.chunked(request.trailers)
        else:
            pieces = self._stream.pieces(int(length or 0))
        kept, size = [], 0
        try:
            for piece in pieces:
                size += len(piece)
                if keep:
                    kept.append(piece)
        except Truncated:
            raise Disconnected from None
        self.upstream.complete(request, b"".join(kept))
        return size

    def to_end(self) -> Iterator[bytes]:
        try:
            yield from self._stream.to_end()
        except ssl.SSLZeroReturnError:
            pass  # Its close_notify, after ours.

    def send(self, data: bytes) -> None:
        if self.closed:
            raise Disconnected
        self.sock.sendall(data)

    def end_sending(self) -> None:
        if isinstance(self.sock, ssl.SSLSocket):
            try:
                send_close_notify(self.sock)
            except OSError:
                pass  # The peer has gone, or had sent something already.
        else:
            self.sock.shutdown(socket.SHUT_WR)

    def close(self, *, notify: bool = True) -> None:
        if self.closed:
            return
        self._ended.set()
        if notify and isinstance(self.sock, ssl.SSLSocket):
            self.sock.settimeout(0)
            try:
                self.sock.unwrap()
            except OSError:
                pass  # The peer's own close_notify is not waited for.
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close(notify=False)

    def expect_end(self) -> None:
        self.sock.settimeout(DEADLINE)
        try:
            while data := self.sock.recv(65536):
                self._stream.buffer += data
        except TimeoutError:
            raise AssertionError("the proxy kept the connection open") from None
        except OSError:
            pass  # A reset is an end too.
        raise Disconnected

    # -- from the test's thread ----------------------------------------------

    def order(self, action: Hook) -> threading.Event:
        """Have `action` done in this connection's thread when it is idle, or ends.

        Only before it is forgotten.
        """
        done = threading.Event()
        self._orders.append((action, done))
        self._wake.send(b"x")
        return done

    def abort(self) -> None:
        """End the connection whatever its thread is doing."""
        self._ended.set()
        end(self.sock)


def _nothing(connection: Connection) -> None:
    """The hook that does nothing."""


class Upstream:
    """The server; over TLS if it is given a context. The system chooses the port unless given."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.tls = tls
        self._changed = threading.Condition()
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._gates: list[Gate] = []
        self._clear()
        # Without TLS, since hooks come before the handshake.
        self._acceptor = Acceptor(self._serve, host=host, port=port)
        self.port = self._acceptor.port

    def _clear(self) -> None:
        self.requests: list[Recorded] = []
        self.faults: list[str] = []
        self._scripted: deque[Handler] = deque()
        self._routes: list[tuple[bytes, Handler]] = []
        self._default: Handler | None = None
        #: Called on each new connection before the TLS handshake.
        self.before_tls: Hook = _nothing
        #: Called on each new connection after it, before the first request.
        self.before_reading: Hook = _nothing

    @property
    def authority(self) -> str:
        """`host:port`, by the name that the test certificates carry."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.authority}"

    def _serve(self, sock: socket.socket) -> None:
        with self._changed:
            self._accepted += 1
            connection = Connection(self, sock, self._accepted)
            self._connections.add(connection)
            self._changed.notify_all()
        connection.run()

    # -- scripting -----------------------------------------------------------

    def script(self, *handlers: Handler) -> None:
        """Answer the next requests with `handlers`, one each, then as otherwise said."""
        with self._changed:
            self._scripted.extend(handlers)

    def on(self, marker: bytes | str, handler: Handler) -> None:
        """Answer each request whose target holds `marker` with `handler`."""
        with self._changed:
            self._routes.append((to_bytes(marker), handler))

    def respond(self, answer: bytes | Handler) -> None:
        """Answer every request that nothing else is said for."""
        with self._changed:
            self._default = _sender(answer) if isinstance(answer, bytes) else answer

    def gate(self) -> Gate:
        """Return a gate; `reset` opens it if the test did not."""
        gate = Gate()
        self._gates.append(gate)
        return gate

    def close_idle(self) -> None:
        """Close every kept connection, and return once that is done."""
        self._order_all(Connection.close)

    def end_idle(self, action: Hook) -> None:
        """Do `action` on every kept connection, and return once that is done."""
        self._order_all(action)

    def send_on_idle(self, data: bytes, *, then_close: bool = False) -> None:
        """Send unasked bytes on every kept connection."""

        def speak(connection: Connection) -> None:
            connection.send(data)
            if then_close:
                connection.close()

        self._order_all(speak)

    def _order_all(self, action: Hook) -> None:
        with self._changed:
            orders = [connection.order(action) for connection in self._connections]
        for done in orders:
            if not done.wait(DEADLINE):
                raise AssertionError("a connection did not fall idle")

    def reset(self) -> None:
        """Forget scripts and records, and end what still runs."""
        for gate in self._gates:
            gate.open()
        self._gates.clear()
        with self._changed:
            self._changed.wait_for(self._all_idle, timeout=1)
            for connection in [each for each in self._connections if not each.idle]:
                connection.abort()
            if not self._changed.wait_for(self._all_idle, timeout=DEADLINE):
                raise AssertionError("a handler did not end")
            self._clear()

    def _all_idle(self) -> bool:
        return all(connection.idle for connection in self._connections)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._acceptor.shut()
        for gate in self._gates:
            gate.open()
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()
        self._acceptor.close()

    # -- what the connections report -----------------------------------------

    def record(self, request: Recorded) -> Handler:
        """Keep a request whose head is there; return the handler to answer it."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            for marker, handler in self._routes:
                if marker in request.target:
                    return handler
            if self._scripted:
                return self._scripted.popleft()
            return self._default or _ok

    def complete(self, request: Recorded, body: bytes) -> None:
        with self._changed:
            request.body, request.complete = body, True
            self._changed.notify_all()

    def mark(self, connection: Connection, *, idle: bool) -> None:
        with self._changed:
            connection.idle = idle
            self._changed.notify_all()

    def forget(self, connection: Connection) -> None:
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()

    def fault(self, text: str) -> None:
        with self._changed:
            self.faults.append(text)
            self._changed.notify_all()

    # -- looking -------------------------------------------------------------

    @property
    def accepted(self) -> int:
        """How many connections have been accepted so far."""
        with self._changed:
            return self._accepted

    @property
    def open_connections(self) -> int:
        with self._changed:
            return len(self._connections)

    @property
    def all_idle(self) -> bool:
        """Whether no exchange is under way."""
        with self._changed:
            return self._all_idle()

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds; looked at whenever something happens here."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout=DEADLINE):
                raise AssertionError(f"{what}: not in time; {len(self.requests)} requests came")

    def wait_for_requests(self, count: int) -> list[Recorded]:
        """Return the requests once `count` have come, bodies and all."""
        self.wait_for(
            f"{count} requests", lambda: sum(each.complete for each in self.requests) >= count
        )
        return self.requests

    def only(self) -> Recorded:
        """Return the one request that came; raises if another number of them did."""
        self.wait_for_requests(1)
        assert len(self.requests) == 1, [request.head for request in self.requests]
        return self.requests[0]


def _ok(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.send(OK.removesuffix(b"ok") if exchange.request.method == b"HEAD" else OK)


def _sender(raw: bytes) -> Handler:
    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(raw)

    return handle
