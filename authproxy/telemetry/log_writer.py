"""Writes log lines in a thread of its own, so that no caller waits for their reader.

Callers put an item into a bounded queue. The thread forms the lines and writes
them. Items that do not fit, and lines that cannot be written, are counted; one line has
the count as soon as lines can be written again.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TextIO, TypeVar

#: What may wait: seconds of a busy process, and a small part of its memory.
MAX_ITEMS = 4096
MAX_BYTES = 4 * 1024 * 1024

#: A pipe takes so many bytes at once, without another process's in between (pipe(7)).
_ATOMIC_BYTES = select.PIPE_BUF

#: After a write the thread gathers lines for so long: it wakes a hundred times a second at most.
_GATHER_SECONDS = 0.01

#: `flush` ends when nothing has been taken for the first, and at the latest after the second.
_STALL_SECONDS = 1.0
_FLUSH_SECONDS = 2.0
_LOOK_SECONDS = 0.02

Item = TypeVar("Item")

#: Takes bytes; returns how many. Raises OSError or ValueError where it takes none.
Sink = Callable[[bytes], int]

#: In the queue: an item, its size and, where it reports lost ones, their count.
_Entry = tuple[Item, int, int]


def descriptor_sink(descriptor: int) -> Sink:
    """Return what writes to a descriptor, and waits while that takes nothing."""

    def write(data: bytes) -> int:
        while True:
            try:
                return os.write(descriptor, data)
            except BlockingIOError:  # a process that shares it has made it non-blocking
                writable = select.poll()
                writable.register(descriptor, select.POLLOUT)
                writable.poll()

    return write


def stream_sink(stream: TextIO) -> Sink:
    """Return what writes to a stream without a descriptor, such as Apache's error log."""

    def write(data: bytes) -> int:
        stream.write(data.decode(errors="replace"))
        stream.flush()
        return len(data)

    return write


class _Shared:
    """What callers and thread share in one process.

    Signal handlers log as well: the queue's `put` may interrupt itself, and so
    may the holder of the lock.
    """

    def __init__(self) -> None:
        #: Of entries, of events to set when all before them is written, and of None at the end.
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.lock = threading.RLock()
        self.thread: threading.Thread | None = None
        #: Ends the gathering of lines.
        self.flushing = threading.Event()
        #: What waits in the queue and in the thread.
        self.items = 0
        self.bytes = 0
        self.refusing = False
        #: Lost and not yet reported; lost in all.
        self.unreported = 0
        self.lost = 0


class LogWriter(Generic[Item]):
    """Forms items as lines and writes these to a sink, in order.

    The thread starts with the first item, and in each process anew: a forked
    one begins with an empty queue, and leaves what waits to its parent.
    """

    def __init__(
        self,
        sink: Sink,
        form: Callable[[Item], str],
        loss: Callable[[int], Item],
        *,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`form` is called in the thread and raises nothing; `loss` makes a report of loss."""
        self._sink = sink
        self._form = form
        self._loss = loss
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._closed = False
        self._shared = _Shared()
        #: The thread's own: bytes that were taken, and whether the last line was cut off.
        self._written = 0
        self._torn = False
        restart = weakref.WeakMethod(self._restart)
        os.register_at_fork(after_in_child=lambda: (begin := restart()) and begin())

    @property
    def alive(self) -> bool:
        """Whether lines are being written: False where a bug has ended the thread."""
        thread = self._shared.thread
        return self._closed or thread is None or thread.is_alive()

    @property
    def lost(self) -> int:
        """How many items this process has lost so far."""
        return self._shared.lost

    def put(self, item: Item, size: int) -> None:
        """Have an item of about `size` bytes written; returns at once."""
        shared = self._shared
        with shared.lock:
            if self._closed:
                return
            # Once full, nothing fits before half is gone: else a notice would precede each item.
            share = 2 if shared.refusing else 1
            shared.refusing = (
                shared.items >= self._max_items // share
                or shared.bytes + size > self._max_bytes // share
            )
            if shared.refusing:
                shared.lost += 1
                shared.unreported += 1
                return
            if shared.unreported:
                shared.queue.put(self._notice(shared))
            shared.items += 1
            shared.bytes += size
            shared.queue.put((item, size, 0))
            if shared.thread is None:
                self._start(shared)

    def flush(self) -> bool:
        """Wait until all that was put is written; False where the sink stalls.

        Takes two seconds at most, and one where nothing at all is taken.
        """
        shared = self._shared
        if shared.thread is None:
            if shared.items:  # no thread was to be had
                shared.queue.put(None)
                self._run(shared)
            return True
        done = threading.Event()
        shared.queue.put(done)
        shared.flushing.set()
        now = time.monotonic()
        written, stalls_at, ends_at = self._written, now + _STALL_SECONDS, now + _FLUSH_SECONDS
        while not done.wait(_LOOK_SECONDS):
            now = time.monotonic()
            if self._written != written:
                written, stalls_at = self._written, now + _STALL_SECONDS
            if now >= min(stalls_at, ends_at) or not shared.thread.is_alive():
                return False
        return True

    def close(self) -> None:
        """Let the thread end once it has written all; what is put from now on is dropped."""
        with self._shared.lock:
            self._closed = True
            self._shared.queue.put(None)

    def _start(self, shared: _Shared) -> None:
        shared.thread = threading.Thread(target=self._run, args=(shared,), name="log", daemon=True)
        try:
            shared.thread.start()
        except RuntimeError:  # no thread to be had, or the process ends: the next item tries again
            shared.thread = None

    def _restart(self) -> None:
        self._shared = _Shared()
        self._written, self._torn = 0, False

    def _notice(self, shared: _Shared) -> _Entry[Item]:
        """Return the item that reports what was lost so far; with the lock held."""
        unreported, shared.unreported = shared.unreported, 0
        return self._loss(unreported), 0, unreported

    # In the thread.

    def _run(self, shared: _Shared) -> None:
        chunk: list[tuple[bytes, _Entry[Item]]] = []
        size = 0
        while True:
            if chunk and shared.queue.empty():
                self._write(chunk, shared)
                size = 0
                shared.flushing.wait(_GATHER_SECONDS)
            entry = shared.queue.get()
            if isinstance(entry, tuple):
                line = self._line(entry)
                if size + len(line) > _ATOMIC_BYTES and chunk:
                    self._give(chunk, shared)
                    size = 0
                chunk.append((line, entry))
                size += len(line)
                continue
            self._write(chunk, shared)
            size = 0
            if entry is None:
                return
            shared.flushing.clear()
            entry.set()

    def _line(self, entry: _Entry[Item]) -> bytes:
        return self._form(entry[0]).encode(errors="backslashreplace") + b"\n"

    def _write(self, chunk: list[tuple[bytes, _Entry[Item]]], shared: _Shared) -> None:
        """Write the lines and, if these were taken and the last, how many were lost."""
        if self._give(chunk, shared):
            with shared.lock:
                if not shared.unreported or not shared.queue.empty():
                    return
                notice = self._notice(shared)
            self._give([(self._line(notice), notice)], shared)

    def _give(self, chunk: list[tuple[bytes, _Entry[Item]]], shared: _Shared) -> bool:
        """Give the lines to the sink at once, and empty the list; True if it took all of them."""
        data = b"".join(line for line, _ in chunk)
        taken = self._taken_of(data)
        left = taken
        with shared.lock:
            for line, (_, size, reports) in chunk:
                left -= len(line)
                if not reports:
                    shared.items -= 1
                    shared.bytes -= size
                if left < 0:  # not taken whole
                    shared.unreported += reports or 1
                    shared.lost += not reports
        chunk.clear()
        return taken == len(data)

    def _taken_of(self, data: bytes) -> int:
        """Return how many of these bytes the sink took."""
        before = b"\n" if self._torn else b""
        data = before + data
        taken = 0
        try:
            while taken < len(data):
                taken += self._sink(data[taken:])
        except (OSError, ValueError):
            pass  # what was not taken is counted, and reported later
        self._written += taken
        if taken:
            self._torn = data[taken - 1 : taken] != b"\n"
        return max(0, taken - len(before))
