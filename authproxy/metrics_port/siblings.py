"""How the workers of one parent ask one another.

Each listens on a Unix socket in a private directory of the parent's. One that
asks sends a word and is answered with bytes.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

#: How long siblings are waited for, all together.
ANSWER_SECONDS = 1.0

_LONGEST_WORD = 16


@dataclass(frozen=True)
class Sibling:
    """Another worker, and what it said.

    No `answer`: it is too slow. `dead`: nobody listens there any more.
    """

    path: Path
    pid: int | None = None
    answer: bytes | None = None
    dead: bool = False


class Siblings:
    """One worker among those of its directory."""

    def __init__(self, directory: Path) -> None:
        self.name = uuid.uuid4().hex[:12]
        self._directory = directory
        self._answers: dict[bytes, Callable[[], bytes]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(directory / f"{self.name}.sock"))
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._answer, name="siblings", daemon=True)

    def answer_with(self, word: str, answer: Callable[[], bytes]) -> None:
        """Have siblings that ask for this word be answered so."""
        self._answers[word.encode()] = answer

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End: siblings find nobody there any more."""
        self._socket.close()

    def ask(self, word: str) -> Iterator[Sibling]:
        """Ask all others at the same time, and yield what came of it for each."""
        asked: list[tuple[Path, socket.socket]] = []
        with contextlib.ExitStack() as open_ones:
            for path in sorted(self._directory.glob("*.sock")):
                if path.stem == self.name:
                    continue
                sock = open_ones.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                sock.settimeout(ANSWER_SECONDS)
                try:
                    sock.connect(str(path))
                    sock.sendall(word.encode())
                    sock.shutdown(socket.SHUT_WR)
                except (ConnectionRefusedError, FileNotFoundError):  # it has died, or just ended
                    yield Sibling(path, dead=True)
                except OSError:  # its queue is full: it does not answer
                    yield Sibling(path)
                else:
                    asked.append((path, sock))
            deadline = time.monotonic() + ANSWER_SECONDS
            for path, sock in asked:
                pid = _pid_behind(sock)
                try:
                    # Without a byte: it died within its answer.
                    yield Sibling(path, pid, _received(sock, deadline) or None)
                except OSError:
                    yield Sibling(path, pid)

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # `stop` closed it
                return
            with connection:
                try:
                    connection.settimeout(ANSWER_SECONDS)
                    answer = self._answers.get(connection.recv(_LONGEST_WORD))
                    if answer is not None:
                        connection.sendall(answer())
                except OSError as error:  # the one that asked is gone, or the disk is full
                    log.debug("A worker's answer went unheard: %s", error)


def _pid_behind(sock: socket.socket) -> int | None:
    """Return who listens at the other end, where the system tells (unix(7))."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, option, 12))
    return int(pid)


def _received(sock: socket.socket, deadline: float) -> bytes:
    pieces: list[bytes] = []
    while True:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        piece = sock.recv(1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
