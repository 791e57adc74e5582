"""A stand-in that records what it is asked, and misbehaves on order."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response
from authproxy.demo.stand_ins.stand_in import StandIn

#: What a captive portal or a broken gateway sends in place of JSON.
_GARBAGE = Response(200, b"<html><body>Please sign in</body></html>", {"Content-Type": "text/html"})


@dataclass
class _Fault:
    answer: Response | None
    path: str
    remaining: int | None
    over: threading.Event = field(default_factory=threading.Event)


class FaultyStandIn(StandIn):
    """Records every request; every method may be called from any thread, at any time."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of the stand-in that it is mixed into."""
        self.requests: list[Request] = []
        self._arrived = threading.Condition()
        self._fault: _Fault | None = None
        super().__init__(**options)

    def listen(
        self,
        answer: Callable[[Request], Response],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> LoopbackServer:
        """Add a listener for `start` to open; `answer` gets what no fault takes."""

        def serve(request: Request) -> Response:
            self._record(request)
            fault = self._fault_for(request)
            if fault is None:
                return answer(request)
            if fault.answer is not None:
                return fault.answer
            fault.over.wait()
            return answer(request)

        return super().listen(serve, port=port, tls=tls)

    def shut(self) -> None:
        """End every connection, and the requests that hang."""
        super().shut()
        self.recover()

    def fail_with(
        self,
        status: int,
        body: object = "",
        headers: Mapping[str, str] | None = None,
        *,
        times: int | None = None,
        path: str = "",
    ) -> None:
        """Respond with this from now on, `times` often or until `recover`.

        A `body` that is neither text nor bytes is sent as JSON. Only requests
        with `path` in their path are concerned.
        """
        if isinstance(body, (str, bytes)):
            answer = Response(
                status, body.encode() if isinstance(body, str) else body, headers or {}
            )
        else:
            answer = Response.of_json(status, body, headers)
        self._misbehave(_Fault(answer, path, times))

    def garbage(self, *, times: int | None = None, path: str = "") -> None:
        """Respond 200 with an HTML page, as what stands between may do."""
        self._misbehave(_Fault(_GARBAGE, path, times))

    def hang(self, *, times: int | None = None, path: str = "") -> None:
        """Take requests and say nothing until `recover`; then answer them."""
        self._misbehave(_Fault(None, path, times))

    def recover(self) -> None:
        """End the fault that is on, if any."""
        self._misbehave(None)

    def wait_for_requests(
        self, count: int, timeout: float = 30, *, path: str = ""
    ) -> list[Request]:
        """Wait until `count` requests with `path` in their path have come; return them.

        Raises TimeoutError after `timeout` seconds.
        """

        def matching() -> list[Request]:
            return [request for request in self.requests if path in request.path]

        with self._arrived:
            if not self._arrived.wait_for(lambda: len(matching()) >= count, timeout):
                raise TimeoutError(f"{len(matching())} of {count} requests within {timeout} s")
            return matching()

    def _record(self, request: Request) -> None:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()

    def _misbehave(self, fault: _Fault | None) -> None:
        with self._arrived:
            previous, self._fault = self._fault, fault
        if previous is not None:
            previous.over.set()

    def _fault_for(self, request: Request) -> _Fault | None:
        with self._arrived:
            fault = self._fault
            if fault is None or fault.path not in request.path or fault.remaining == 0:
                return None
            if fault.remaining is not None:
                fault.remaining -= 1
            return fault
