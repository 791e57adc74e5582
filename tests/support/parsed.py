"""What the server takes for requests, without a socket: its own parts, fed with bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from waitress.adjustments import Adjustments

from authproxy.server.budget import Budget
from authproxy.server.head_buffer import HeadBuffer
from authproxy.server.memory_body import BodyMemory
from authproxy.server.refusals import Refusal
from authproxy.server.request_body import BodyStore, RequestBody
from authproxy.server.request_head import Request


@dataclass
class Parsed:
    """The requests that bytes hold, and why the next one was refused."""

    body_limit: int
    header_limit: int
    requests: list[tuple[Request, bytes]] = field(default_factory=list)
    refusal: Refusal | None = None

    def __post_init__(self) -> None:
        budget = Budget(2 * self.body_limit, self.body_limit)
        self._bodies = BodyStore(self.body_limit, BodyMemory(), budget)
        self._input = HeadBuffer(self.header_limit)
        self._request: Request | None = None

    @property
    def begun(self) -> bool:
        """Whether another request has begun."""
        return self._request is not None or self._input.skip_empty_lines()

    def feed(self, data: bytes) -> None:
        """Take what has come, in the order in which a connection does."""
        self._input += data
        while self.refusal is None and (self._request or self._begin()):
            if not self._receive():
                return

    def _begin(self) -> bool:
        head = self._input.next_head()
        if head is None:
            return False
        if isinstance(head, Refusal):
            self.refusal = head
            return False
        request = Request(head, _ADJUSTMENTS, self.body_limit)
        self.refusal = request.refusal
        if request.refusal is None:
            self._request = request
            if request.has_body:
                request.body_rcv = RequestBody(request.body_length, self._bodies, lambda: None)
        return self.refusal is None

    def _receive(self) -> bool:
        """Return whether the request is whole, and another may follow."""
        request = self._request
        assert request is not None
        body = request.body_rcv
        content = b""
        if body is not None:
            if self._input:
                self._input.drop(body.take(bytes(self._input)))
            self.refusal = body.refusal
            if body.refusal is not None or not body.completed:
                return False
            request.body_received()
            content = request.get_body_stream().read()
        request.close()
        self.requests.append((request, content))
        self._request = None
        return True

    def close(self) -> None:
        if self._request is not None:
            self._request.close()


_ADJUSTMENTS = Adjustments(ident=None, clear_untrusted_proxy_headers=False)
