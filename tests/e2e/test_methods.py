"""Every method is forwarded, but CONNECT and TRACE."""

from __future__ import annotations

import pytest

from tests.support import actions
from tests.support.expect import assert_own_error
from tests.support.process import ProxyProcess
from tests.support.upstream import Upstream
from tests.support.wire import message


@pytest.mark.parametrize(
    "method",
    [
        *("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
        *("PROPFIND", "MKCOL", "REPORT", "QUERY", "PURGE", "M-SEARCH", "X"),
    ],
)
@pytest.mark.parametrize("path", ["/x", "/favicon.ico", "/"])
def test_any_method_is_forwarded_and_answered_by_the_target(
    proxy: ProxyProcess, target: Upstream, method: str, path: str
) -> None:
    target.respond(actions.answer(299, ("Allow", "NOTHING"), body=b"by the target"))
    response = proxy.ask(message(f"{method} {path}", body=b"content"))
    assert (response.status, response.body) == (299, b"by the target")
    assert response.one("Allow") == "NOTHING"
    request = target.only()
    assert (request.method, request.body) == (method.encode(), b"content")


def test_head_is_forwarded_as_head(proxy: ProxyProcess, target: Upstream) -> None:
    target.respond(actions.head(200, ("Content-Length", "1234")))
    assert proxy.ask(message("HEAD /x")).one("Content-Length") == "1234"
    assert target.only().method == b"HEAD"


@pytest.mark.parametrize(
    "line", ["TRACE /x", "CONNECT host.example:443", "CONNECT /x", "TRACE /health"]
)
def test_connect_and_trace_are_not_allowed(
    proxy: ProxyProcess, target: Upstream, line: str
) -> None:
    assert_own_error(proxy.ask(message(line)), 405, "MethodNotAllowed")
    assert target.requests == []


@pytest.mark.parametrize("line", ["get /x", "Post /x", "G(T /x"])
def test_what_is_no_method_is_refused(proxy: ProxyProcess, target: Upstream, line: str) -> None:
    assert_own_error(proxy.ask(message(line)), 400)
    assert target.requests == []
