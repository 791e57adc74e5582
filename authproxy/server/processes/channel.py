"""The one channel between a worker and its parent: messages on a pair of sockets.

A worker reports its health, sends a report when its parent requests one, and
asks for the reports of all workers. A closed channel tells either side that
the other has ended. The parent never waits for a worker; a worker waits for its
parent only in threads that serve no request.
"""

from __future__ import annotations

import itertools
import json
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from enum import IntEnum
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from authproxy.errors import AuthProxyError
from authproxy.server.processes.supervision import Health

log = logging.getLogger(__name__)

#: How long a worker waits for the reports of all; the parent waits for less.
GATHER_SECONDS = 2.0

#: How long a worker that ends waits until its last report is sent.
_LAST_REPORT_SECONDS = 1.0

#: Where more messages wait, the parent hangs.
_MAX_UNSENT = 16

_RECEIVED_BYTES = 1 << 18


class Kind(IntEnum):
    """What a message is, and which way it goes."""

    HEALTH = 1  # to the parent: this worker's health
    ASK = 2  # to the parent: the reports of all on this subject are asked for
    REPORT = 3  # to the parent: this worker's report
    REQUEST = 4  # to a worker: report on this subject
    REPORTS = 5  # to a worker: the reports of all


class Message(NamedTuple):
    """A message. `number` is that of the ASK or REQUEST which it belongs to, 0 without one."""

    kind: Kind
    number: int
    subject: str
    body: bytes = b""

    def encoded(self) -> bytes:
        """Return the message as it travels."""
        subject = self.subject.encode()
        return (
            _HEAD.pack(self.kind, self.number, len(subject), len(self.body)) + subject + self.body
        )


#: Kind, number, and the lengths of subject and body, which follow.
_HEAD = struct.Struct("!BIHI")


class Decoder:
    """Makes messages of the bytes of a stream."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are complete with these bytes."""
        self._begun += data
        while len(self._begun) >= _HEAD.size:
            kind, number, subject_bytes, body_bytes = _HEAD.unpack_from(self._begun)
            body_at = _HEAD.size + subject_bytes
            end = body_at + body_bytes
            if len(self._begun) < end:
                return
            subject = self._begun[_HEAD.size : body_at].decode()
            body = bytes(self._begun[body_at:end])
            del self._begun[:end]
            yield Message(Kind(kind), number, subject, body)


class ParentSilent(AuthProxyError):
    """The parent sent no reports in time."""


class ParentLink:
    """A worker's end."""

    def __init__(self, sock: socket.socket, stop: Callable[[], None], *, listens: bool) -> None:
        """`stop` is called when the parent has ended.

        `listens`: whether this worker's health is used.
        """
        self._sock = sock
        self._stop = stop
        self.listens = listens
        #: By subject: what makes the report, as JSON; and those whose last report is kept.
        self._makes: dict[str, Callable[[], bytes]] = {}
        self._lasting: list[str] = []
        self._numbers = itertools.count(1)
        #: By number: where reports are waited for.
        self._waiting: dict[int, SimpleQueue[bytes]] = {}
        self._unsent: SimpleQueue[Message | None] = SimpleQueue()
        self._closing = False
        self._threads = [
            threading.Thread(target=work, name=f"parent {name}", daemon=True)
            for name, work in (("reader", self._read), ("writer", self._write))
        ]

    def start(self) -> None:
        """Begin to send and receive."""
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether messages are sent and received: False where a bug has ended a thread."""
        return self._closing or all(thread.is_alive() for thread in self._threads)

    # The supervisor of the worker.

    def report(self, health: Health) -> None:
        """Send this worker's health to the parent; returns at once."""
        if self._unsent.qsize() < _MAX_UNSENT:  # else the next one is due in a second
            body = json.dumps([health.serves, health.ready, health.text]).encode()
            self._unsent.put(Message(Kind.HEALTH, 0, "", body))

    def stopping(self) -> None:
        """Do nothing: a worker that ends while others serve is replaced."""

    # Reports.

    def report_on(self, subject: str, make: Callable[[], bytes], *, lasting: bool = False) -> None:
        """Register what makes the reports on a subject, as JSON.

        `lasting`: the last report still counts when this worker has ended.
        """
        self._makes[subject] = make
        if lasting:
            self._lasting.append(subject)

    def gather(self, subject: str) -> dict[str, Any]:
        """Return the reports of all workers, as `processes.gathering` puts them together.

        Raises ParentSilent after two seconds.
        """
        number = next(self._numbers)
        received: SimpleQueue[bytes] = SimpleQueue()
        self._waiting[number] = received
        try:
            if self._unsent.qsize() < _MAX_UNSENT:
                self._unsent.put(Message(Kind.ASK, number, subject))
                reports: dict[str, Any] = json.loads(received.get(timeout=GATHER_SECONDS))
                return reports
        except Empty:
            pass  # none came in time
        finally:
            del self._waiting[number]
        raise ParentSilent("the parent process does not respond")

    def report_last(self) -> None:
        """Send the lasting reports, which do not change from now on."""
        for subject in self._lasting:
            report = self._made(subject)
            self._makes[subject] = lambda report=report: report  # type: ignore[misc]
            self._unsent.put(Message(Kind.REPORT, 0, subject, report))

    def close(self) -> None:
        """End once all messages are sent; waits for a second at most."""
        self._closing = True
        self._unsent.put(None)
        self._threads[1].join(_LAST_REPORT_SECONDS)

    def _made(self, subject: str) -> bytes:
        make = self._makes.get(subject)
        if make is not None:
            try:
                return make()
            except Exception:  # a bug there must not cut the worker off from its parent
                log.exception("Unexpected error in a report")
        return b"null"

    # In the threads.

    def _write(self) -> None:
        while (message := self._unsent.get()) is not None:
            try:
                self._sock.sendall(message.encoded())
            except OSError:  # the reader finds that the parent has ended
                return

    def _read(self) -> None:
        decoder = Decoder()
        while data := self._received():
            for message in decoder.feed(data):
                if message.kind is Kind.REQUEST:
                    report = self._made(message.subject)
                    self._unsent.put(message._replace(kind=Kind.REPORT, body=report))
                elif (waiting := self._waiting.get(message.number)) is not None:
                    waiting.put(message.body)
        if not self._closing:
            log.warning("The parent process is gone.")
            self._stop()

    def _received(self) -> bytes:
        try:
            return self._sock.recv(_RECEIVED_BYTES)
        except OSError:  # reset, as when it died with messages unread
            return b""


class WorkerLink:
    """The parent's end of a worker's channel; nothing here waits."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._ended = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def has_ended(self) -> bool:
        """Tell whether the worker has closed its end, or died, and all is received."""
        return self._ended

    @property
    def has_unsent(self) -> bool:
        """Whether something is to be sent when the worker reads again."""
        return bool(self._unsent)

    def send(self, message: Message) -> None:
        """Have a message sent by the next `send_unsent`."""
        self._unsent += message.encoded()

    def send_unsent(self) -> None:
        """Send what the socket takes at once."""
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            pass  # it does not read at the moment
        except OSError:  # it has ended, which `receive` finds
            self._unsent.clear()

    def receive(self) -> Iterator[Message]:
        """Yield the messages that are there."""
        while True:
            try:
                data = self._sock.recv(_RECEIVED_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._ended = True
                return
            yield from self._decoder.feed(data)

    def close(self) -> None:
        self._sock.close()


def channel() -> tuple[WorkerLink, socket.socket]:
    """Return both ends, the parent's first. Made before the fork."""
    parents, workers = socket.socketpair()
    return WorkerLink(parents), workers
