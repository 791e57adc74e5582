"""waitress's channel, with fewer wake-ups of the main loop and fewer copies of bytes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import ClientDisconnected, HTTPChannel

from authproxy.abort import AbortSignal
from authproxy.http1.memory_body import MemoryBody
from authproxy.serving.answer_buffer import AnswerBuffer
from authproxy.serving.request_parser import RequestParser
from authproxy.serving.response_tasks import ApplicationTask, ErrorReplyTask
from authproxy.serving.watched import interest

log = logging.getLogger(__name__)

#: Read while no body is expected: waitress copies what is left of a read for
#: each request in it, so that a large read of tiny requests would be dear.
_HEAD_READ_BYTES = 8192


class Channel(HTTPChannel):
    """Reads requests in the main loop's thread, and serves them in others."""

    logger = log
    task_class = ApplicationTask
    error_task_class = ErrorReplyTask

    #: See `Watched`: it is asked only when it says so, or after an event.
    tells_of_changes = True
    interest = 0

    #: That of the request which is being served.
    abort_signal: AbortSignal | None = None

    # waitress's own.
    connected: bool
    will_close: bool = False
    close_when_flushed: bool = False
    request: Any = None
    requests: list[Any]
    outbufs: list[Any]
    current_outbuf_count: int = 0
    total_outbufs_len: int = 0

    def __init__(self, server: Any, *args: Any, **kwargs: Any) -> None:
        #: When a byte last moved, or the last response ended (monotonic).
        self.progress_at = time.monotonic()
        super().__init__(server, *args, **kwargs)
        self.outbufs = [AnswerBuffer(self.adj.outbuf_overflow)]

    def parser_class(self, adj: Adjustments) -> RequestParser:
        """Return what reads the next request.

        A request behind another is left to the application to judge: that one
        may have been turned away, and this be the rest of its body.
        """
        judge = self.server.judge
        early = judge is not None and judge.on_duty and not self.requests
        return RequestParser(adj, self.server.body_memory, self._judge if early else None)

    def _judge(self, head: Mapping[str, Any]) -> object:
        return self.server.judge({**head, "REMOTE_ADDR": self.addr[0]})

    def recv(self, buffer_size: int) -> bytes:
        in_head = self.request is None or self.request.body_rcv is None
        data: bytes = super().recv(_HEAD_READ_BYTES if in_head else buffer_size)
        self.progress_at = time.monotonic()
        return data

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close=do_close)
        if sent:
            self.progress_at = time.monotonic()
        return sent

    # In the main loop's thread.

    def handle_read(self) -> None:
        if self._receiving() is None:
            super().handle_read()
        if (body := self._receiving()) is not None:
            self._read_body(body)

    def _receiving(self) -> MemoryBody | None:
        """Return the body that is being received, if it goes straight to memory."""
        receiver = None if self.request is None else self.request.body_rcv
        return receiver if isinstance(receiver, MemoryBody) else None

    def _read_body(self, body: MemoryBody) -> None:
        """Read what has come of it; only when all is here, the parser is told."""
        try:
            while not body.completed:
                if not body.receive_from(self.socket):
                    self.handle_close()
                    return
                self.progress_at = time.monotonic()
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        with self.requests_lock:
            request, self.request = self.request, None
            request.received(b"")
            self.sent_continue = False
            self.requests.append(request)
            if len(self.requests) == 1:
                self.server.add_task(self)

    def handle_close(self) -> None:
        super().handle_close()
        if (signal := self.abort_signal) is not None:
            signal.abort()

    # In the thread that serves a request.

    def service(self) -> None:
        """Serve the first request that waits; the main loop learns only what concerns it."""
        request = self.requests[0]
        self.abort_signal = AbortSignal()
        task = (self.error_task_class if request.error else self.task_class)(self, request)
        if self.connected:
            task.service()
        else:
            task.close_on_finish = True
        self.abort_signal = None
        request.close()
        self.progress_at = time.monotonic()
        with self.requests_lock:
            if task.close_on_finish:
                self.close_when_flushed = True
                for waiting in self.requests[1:]:
                    waiting.close()
                self.requests = []
            else:
                self._next_request()
        self._tell_of_changes()

    def _next_request(self) -> None:
        # What follows gets a buffer of its own, so that this one can go.
        if self.current_outbuf_count:
            self.current_outbuf_count = self.adj.outbuf_high_watermark
        self.requests.pop(0)
        if self.connected and self.requests:
            self.server.add_task(self)
        elif (
            self.connected
            and self.request is not None
            and self.request.expect_continue
            and self.request.headers_finished
            and not self.sent_continue
        ):
            # It waits to be told to go on, which had to wait for its turn.
            self.send_continue()

    def write_soon(self, data: bytes) -> int:
        """Send to the client what its socket takes, and keep the rest for the main loop.

        Waits while more than the high watermark is kept; or while there is no
        room on disk and more is kept than memory is meant for. Raises
        ClientDisconnected.
        """
        if not data:
            return 0
        with self.outbuf_lock:
            if not self.connected:  # asked here, as the main loop may be closing it
                raise ClientDisconnected
            if not self.total_outbufs_len:
                self.progress_at = time.monotonic()  # the target may have been silent for long
                rest = memoryview(data)[self._send_now(data) :]
                if not rest:
                    return len(data)
            else:
                rest = memoryview(data)
                self._flush_outbufs_below_high_watermark()
                self._wait_where_no_room()
                if not self.connected:
                    raise ClientDisconnected
            self._keep(bytes(rest))
        self._tell_of_changes()
        return len(data)

    def _keep(self, rest: bytes) -> None:
        if self.current_outbuf_count >= self.adj.outbuf_high_watermark:
            self._add_buffer(self.adj.outbuf_overflow)
        try:
            self.outbufs[-1].append(rest)
        except OSError as error:
            problem = f"the temporary directory cannot take it ({error.strerror})"
            log.warning("An answer waits in memory.", extra={"fields": {"Problem": problem}})
            self._add_buffer(None)
            self.outbufs[-1].append(rest)
        self.current_outbuf_count += len(rest)
        self.total_outbufs_len += len(rest)

    def _add_buffer(self, limit: int | None) -> None:
        self.outbufs.append(AnswerBuffer(limit))
        self.current_outbuf_count = 0

    def _wait_where_no_room(self) -> None:
        """Hold this thread, and so the target, where only memory takes what the client does not."""
        while (
            self.connected
            and self.outbufs[-1].limit is None
            and self.total_outbufs_len > self.adj.outbuf_overflow
        ):
            self.server.pull_trigger()
            self.outbuf_lock.wait()

    def _send_now(self, data: bytes) -> int:
        """Return how many bytes the socket took."""
        try:
            return self.send(data, do_close=False)
        except OSError:
            self.will_close = True
            self._tell_of_changes()
            raise ClientDisconnected from None

    def _tell_of_changes(self) -> None:
        if self.connected and interest(self) != self.interest:
            self.server.touch(self)
