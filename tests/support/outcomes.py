"""Traffic of every outcome that a request can have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import actions
from tests.support.process import ProxyProcess
from tests.support.upstream import Connection, Upstream
from tests.support.wire import WireError, message

#: Settings under which all of it can be had; the limit is the body's.
SETTINGS = {"MAX_REQUEST_BODY_BYTES": "1000", "TARGET_READ_TIMEOUT_SECONDS": "2"}

AGENT = "User-Agent: Prometheus/2.42.0 (test)"
REMOTE_WRITE = "X-Prometheus-Remote-Write-Version: 0.1.0"

#: What is sent, and the status that it counts under: method and path to status.
EXPECTED = {
    ("GET", "/fine"): 200,
    ("POST", "/upload"): 204,
    ("GET", "/missing"): 404,
    ("GET", "/replayed"): 200,
    ("POST", "/api/v1/write"): 403,
    ("GET", "/silent"): 504,
    ("GET", "/nonsense"): 502,
    ("GET", "/cut"): 200,
    ("TRACE", "/traced"): 405,
    ("POST", "/too-large"): 413,
}

ANSWER = b"0123456789"
BODY = b"b" * 300


def drive(proxy: ProxyProcess, target: Upstream) -> None:
    """Send one request of each, and check what the client sees."""
    target.on("/fine", actions.raw(actions.answer(200, body=ANSWER)))
    target.on("/upload", actions.raw(actions.head("204 No Content")))
    target.on("/missing", actions.raw(actions.answer("404 Not Found", body=ANSWER)))
    target.on("/api/v1/write", actions.raw(actions.answer("403 Forbidden", body=b"role")))
    target.on("/silent", actions.stall(target.gate()))
    target.on("/nonsense", actions.then_close(b"what?\r\n\r\n"))
    target.on("/cut", actions.then_cut(actions.head(200, "Content-Length: 10") + b"01234"))

    def ask(start: str, *lines: str, body: bytes | None = None) -> int:
        return proxy.ask(message(start, AGENT, *lines, body=body)).status

    assert ask("GET /fine?secret=query") == 200
    assert ask("POST /upload", body=BODY) == 204
    assert ask("GET /missing") == 404
    target.script(
        actions.raw(actions.answer("401 Unauthorized")),
        actions.raw(actions.answer(200, body=ANSWER)),
    )
    assert ask("GET /replayed") == 200
    assert ask("POST /api/v1/write", REMOTE_WRITE, body=BODY) == 503
    assert ask("GET /silent") == 504
    assert ask("GET /nonsense") == 502
    try:
        ask("GET /cut")
    except WireError:
        pass  # as it must be: the client sees the cut
    else:
        raise AssertionError("a cut answer looked whole")
    assert ask("TRACE /traced") == 405
    assert ask("POST /too-large", body=b"x" * 1001) == 413
    assert ask("GET /health") == 200
    assert ask("GET /ready") == 200


@contextmanager
def unreachable(target: Upstream) -> Iterator[None]:
    """Have the target take no connection, and keep none, as long as the context lasts."""
    before = target.before_tls
    target.before_tls = Connection.reset
    target.close_idle()
    try:
        yield
    finally:
        target.before_tls = before
