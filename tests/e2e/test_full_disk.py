"""Where no file can take a long body, its sender gets an honest 503, and all else is served."""

from __future__ import annotations

import json
import resource

import pytest

from authproxy.server.memory_body import LARGEST_BYTES
from tests.conftest import Launch
from tests.support.process import ProxyProcess
from tests.support.upstream import Upstream
from tests.support.wire import message

LONG = b"x" * (LARGEST_BYTES + 1)


def limit_files(proxy: ProxyProcess, size: int) -> None:
    """Have the kernel refuse to let a file of the process grow further: as on a full disk."""
    _, hard = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.mark.parametrize(
    "long_request",
    [
        message("POST /x", body=LONG),
        message("POST /x", "Transfer-Encoding: chunked")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(LONG), LONG),
    ],
    ids=["length", "chunked"],
)
def test_a_long_body_is_answered_with_503_until_there_is_room(
    launch: Launch, target: Upstream, long_request: bytes
) -> None:
    proxy = launch()
    limit_files(proxy, 100_000)
    for _ in range(2):
        with proxy.connect() as client:
            client.offer(long_request)
            answer = client.receive()
        assert (answer.status, answer.one("Retry-After")) == (503, "5")
        assert json.loads(answer.body)["code"] == "RequestBodyNotKept"
    assert target.requests == []
    assert "File too large" in proxy.wait_for_event("Request failed")["Error"]
    assert proxy.ask(message("POST /x", body=LONG[:LARGEST_BYTES])).status == 200
    limit_files(proxy, resource.RLIM_INFINITY)
    assert proxy.ask(long_request).status == 200
