"""Reads one client's requests from its socket: heads, and bodies as there is room for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from waitress.adjustments import Adjustments

from authproxy.server.budget import Account, Budget, no_callback
from authproxy.server.client_socket import CleartextRequest, ClientSocket
from authproxy.server.head_buffer import HeadBuffer
from authproxy.server.progress import Pace
from authproxy.server.refusals import HTTPS_EXPECTED, Refusal
from authproxy.server.request_body import BodyStore, RequestBody
from authproxy.server.request_head import KEPT_FIELDS, Request

#: Read at a time while no body is expected, and so much is kept of what comes behind a
#: request while that is served. Beyond that nothing is read.
HEAD_READ_BYTES = 8192

#: Reads of one body for each time that it is its turn.
_READS = 8


class Ended(ConnectionError):
    """The client has ended its side of the connection."""


@dataclass(frozen=True)
class Intake:
    """What all readers of a server share: limits, and the room that they take."""

    adjustments: Adjustments
    header_limit: int
    bodies: BodyStore
    #: For what a head has beyond the first read.
    heads: Budget


class RequestReader:
    """Reads one request at a time. Raises what sockets raise, and Ended."""

    def __init__(self, sock: ClientSocket, intake: Intake, on_room: Callable[[], None]) -> None:
        """`on_room` is called, from any thread, when there may be room for what has to wait."""
        self._socket = sock
        self._intake = intake
        self._on_room = on_room
        self._input = HeadBuffer(intake.header_limit)
        self._body: RequestBody | None = None
        #: A head that was found, and will take long to read.
        self._long_head: bytes | None = None
        self._head_room: Account | None = None
        self._head_bytes = 0
        #: Why nothing that comes is read as a request.
        self._refusal: Refusal | None = None
        #: When the last byte came, and how fast the head or body comes.
        self.read_at = time.monotonic()
        self.pace = Pace(self.read_at)
        self.has_sent = False

    @property
    def buffered(self) -> int:
        """Bytes that were read and are no request's yet."""
        return len(self._input) + len(self._long_head or b"")

    @property
    def in_body(self) -> bool:
        return self._body is not None

    @property
    def is_costly(self) -> bool:
        """Whether the next head or body takes much CPU time for few bytes."""
        return self._long_head is not None or (self._body is not None and self._body.costly)

    @property
    def holds_room(self) -> bool:
        """Whether it holds room in a budget."""
        return self._body is not None or self._head_bytes > 0

    def waits_for_room(self) -> bool:
        """Tell whether nothing more can be read for lack of room."""
        if self._body is not None:
            return self._body.starved
        return self._head_room is not None and self._head_room.wanted > 0

    def _resume(self) -> None:
        now = time.monotonic()
        if self.pace.release(now):
            self.read_at = now

    # Heads.

    def read_head(self) -> None:
        """Read what has come, if there is room for it."""
        room = HEAD_READ_BYTES + self._head_bytes - len(self._input)
        if room <= 0:
            if not self.take_head_room():
                return
            room = HEAD_READ_BYTES
        try:
            data = self._socket.recv(room if room < HEAD_READ_BYTES else HEAD_READ_BYTES)
        except BlockingIOError:  # a handshake, or half a record
            return
        except CleartextRequest:
            self._refusal = HTTPS_EXPECTED
            return
        if not data:
            raise Ended
        self.read_at = now = time.monotonic()
        self.has_sent = True
        if not self._input:
            self.pace.restart(now)
        self.pace.moved += len(data)
        self._input += data

    def take_head_room(self) -> bool:
        """Take room for one more read of a head; without it, wait."""
        if self._head_room is None:
            self._head_room = self._intake.heads.account(self._on_room)
        if not self._head_room.take(HEAD_READ_BYTES):
            self.pace.hold(time.monotonic())
            return False
        self._resume()
        self._head_bytes += HEAD_READ_BYTES
        return True

    def next_request(self, *, at_length: bool) -> Request | Refusal | None:
        """Return the next request, whose body may be still to come; None where none is whole.

        A head of very many fields is read only `at_length`; until then, it `is_costly`.
        """
        if self._refusal is not None:
            return self._refusal
        head, self._long_head = self._long_head or self._input.next_head(), None
        if not isinstance(head, bytes):
            return head
        if not at_length and head.count(b"\n") > KEPT_FIELDS:
            self._long_head = head
            return None
        return Request(head, self._intake.adjustments, self._intake.bodies.limit)

    def take(self) -> bytes:
        """Return what has come behind the last request, which is no request's."""
        return self._input.take(len(self._input))

    def turn(self) -> None:
        """From now on it is the client's turn to send a request."""
        self.pace.restart(time.monotonic())

    # Bodies.

    def has_whole_body(self, request: Request) -> bool:
        """Tell whether all of a request's body has come along with its head."""
        length = request.body_length
        return length is not None and length <= len(self._input)

    def begin_body(self, request: Request) -> None:
        """Receive the request's body from now on."""
        self._body = request.body_rcv = RequestBody(
            request.body_length, self._intake.bodies, self._on_room
        )
        request.fold()
        self.pace.restart(time.monotonic())

    def receive_body(self) -> Refusal | bool:
        """Receive what has come of it; return whether it is whole, or why it is refused."""
        self._resume()
        for _ in range(_READS):
            if self._body is None or not self._receive(self._body):
                break
        body = self._body
        if body is None:
            return False
        if body.refusal is not None:
            return body.refusal
        if body.completed:
            self._body = None
            return True
        return False

    def _receive(self, body: RequestBody) -> bool:
        """Take what came with the head, or had to wait for room; or else read.

        Returns whether it is worth doing so again at once.
        """
        if self._input:
            count = body.take(bytes(self._input))
            self._input.drop(count)
        else:
            try:
                count = body.receive_from(self._socket)
            except BlockingIOError:
                return False
            self._input += body.surplus
            if not count and not body.starved:
                raise Ended
        if body.starved:
            self.pace.hold(time.monotonic())
            return False
        self.read_at = time.monotonic()
        self.pace.moved += count
        return body.expects_more and body.refusal is None and not body.completed

    # The end.

    def release_head(self) -> None:
        """Give back the room of a request's head, after its response."""
        room, self._head_room = self._head_room, None
        self._head_bytes = 0
        if room is not None:
            room.close()

    def close(self) -> None:
        """Give back all that is taken."""
        self.release_head()
        if self._body is not None:
            self._body.close()
            self._body = None
        self._input.drop(len(self._input))
        self._long_head = None
        self._on_room = no_callback
