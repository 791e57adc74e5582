"""What the server refuses by itself: the client is told why, and so is the log, once."""

from __future__ import annotations

import json
import ssl
import time

import pytest

from authproxy.proxy.refusal_log import LINES_OF_ONE
from authproxy.proxy.repeated_failures import WINDOW_SECONDS
from tests.conftest import Launch
from tests.support import actions
from tests.support.expect import assert_failure_logged
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess, free_port
from tests.support.scrape import settled
from tests.support.upstream import Upstream
from tests.support.wire import Client, Response, chunks, message

#: Far less than the minute that a client has for its head.
AT_ONCE = 30.0

SMALL = {"MAX_REQUEST_BODY_BYTES": "1000", "MAX_REQUEST_HEADER_BYTES": "4096"}

REQUEST = message("GET /behind")
#: TCP over IPv4, and the addresses.
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)


@pytest.fixture(scope="module")
def small(launch_for_module: Launch) -> ProxyProcess:
    return launch_for_module(**SMALL)


def refused(proxy: ProxyProcess, raw: bytes) -> Response:
    """Send what is refused; return the response, behind which the connection ends."""
    with Client(proxy.address, timeout=AT_ONCE) as client:
        client.offer(raw)
        response = client.receive()
        assert client.is_closed_by_peer()
        return response


def lines_of(proxy: ProxyProcess, mark: int, text: str) -> list[dict[str, str]]:
    """Return the lines with this text since the mark, once there is one and no more come."""
    proxy.wait_for_line(text, after=mark)
    here = proxy.mark()
    return [parse_line(line) for line in proxy.log.split("\n")[mark:here] if text in line]


@pytest.mark.parametrize(
    ("raw", "status", "code", "method"),
    [
        (message("POST /a?q=secret", body=bytes(1001)), 413, "RequestBodyTooLarge", "POST"),
        (
            message("PUT /a", "Transfer-Encoding: chunked", body=chunks(bytes(1001))),
            *(413, "RequestBodyTooLarge", "PUT"),
        ),
        (message("GET /a", f"X: {'y' * 5000}"), 431, "RequestHeaderTooLarge", None),
        (message("GET /a", "X : y"), 400, "BadRequest", "GET"),
        (message("GET /a HTTP/1.1", host=None), 400, "BadRequest", "GET"),
        (
            message("POST /a", "Transfer-Encoding: chunked", body=b"xyz\r\n"),
            400,
            "BadRequest",
            "POST",
        ),
        (message("POST /a", "Transfer-Encoding: gzip", body=b""), 501, "NotImplemented", "POST"),
        (b"nonsense\r\n\r\n", 400, "BadRequest", None),
    ],
    ids=[
        *("long-body", "long-chunked-body", "long-head", "malformed-field", "no-host"),
        *("malformed-chunk", "coding", "nonsense"),
    ],
)
def test_a_refusal_is_one_line_that_says_who_and_why(
    small: ProxyProcess, target: Upstream, raw: bytes, status: int, code: str, method: str | None
) -> None:
    mark = small.mark()
    response = refused(small, raw)
    told = json.loads(response.body)
    assert (response.status, told["code"]) == (status, code)
    (line,) = lines_of(small, mark, f"StatusCode={status}")
    assert line["level"] == ("error" if status >= 500 else "warning")
    assert line["msg"] == "Request failed"
    assert (line["Code"], line["Error"]) == (code, told["message"])
    assert line["Client"] == "127.0.0.1"
    assert (line.get("Method"), line.get("Request")) == (method, method and "/a")
    assert target.requests == []


@pytest.mark.parametrize(
    ("raw", "name", "hint"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1024 80\r\n", "PROXY protocol", "disable"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 80\r\n" + REQUEST, "PROXY protocol", "disable"),
        (b"PROXY UNKNOWN\r\n" + REQUEST, "PROXY protocol", "disable"),
        (PROXY_2, "PROXY protocol", "disable"),
        (PROXY_2 + REQUEST, "PROXY protocol", "disable"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), "HTTP/2", "use HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n", "HTTP/2", "use HTTP/1.1"),
        (b"\x04\x01\0\x50\xc0\0\x02\x01\0", "SOCKS", "its URL"),
        (b"\x05\x02\x00\x02", "SOCKS", "its URL"),
    ],
    ids=[
        *("proxy-1-alone", "proxy-1-ipv6", "proxy-1-unknown", "proxy-2-alone", "proxy-2"),
        *("http-2", "http-2-begun", "socks-4", "socks-5"),
    ],
)
def test_other_protocols_are_named_at_once_with_a_hint(
    small: ProxyProcess, target: Upstream, raw: bytes, name: str, hint: str
) -> None:
    mark = small.mark()
    response = refused(small, raw)
    assert response.status == 400
    said = json.loads(response.body)["message"]
    assert name in said
    assert hint in said
    (line,) = lines_of(small, mark, "StatusCode=400")
    assert line["Error"] == said
    assert target.requests == []


def test_a_tls_client_is_told_of_the_scheme(small: ProxyProcess) -> None:
    context = ssl.create_default_context()
    mark = small.mark()
    with small.connect() as client, pytest.raises(ssl.SSLError):
        context.wrap_socket(client.sock, server_hostname="proxy.test")
    line = small.wait_for_event("Request failed", after=mark)
    assert line["Error"] == "TLS on a plain HTTP port: use http://, or end TLS in front."


def test_a_method_called_proxy_is_none_of_a_protocol(small: ProxyProcess, target: Upstream) -> None:
    assert small.ask(message("PROXY /TCP4")).status == 200
    assert small.ask(message("PRI /")).status == 200
    assert [request.method for request in target.requests] == [b"PROXY", b"PRI"]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"GET /lf HTTP/1.1\n", "line feed"),
        (b"GET /lf HTTP/1.1\nHost: a\n\n", "line feed"),
        (b"GET /lf HTTP/1.1\r\nHost: a\nX: y\n\n", "line feed"),
        (b"GET /cr HTTP/1.1\rHost: a\r\r", "control character"),
        (b"GET /nul HTTP/1.1\r\nHost: \0", "control character"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "request line"),
        (b"GET /old\r\n", "request line"),
    ],
    ids=["line", "head", "field", "carriage-returns", "nul", "ssh", "http-0.9"],
)
def test_what_can_become_no_request_is_refused_before_it_is_whole(
    small: ProxyProcess, target: Upstream, raw: bytes, problem: str
) -> None:
    mark = small.mark()
    response = refused(small, raw)
    assert response.status == 400
    assert problem in json.loads(response.body)["message"]
    assert_failure_logged(small, mark, response)
    assert target.requests == []


def test_a_head_that_comes_byte_by_byte_is_read(small: ProxyProcess) -> None:
    with small.connect() as client:
        for byte in message("GET /slowly", "X: y"):
            client.send(bytes([byte]))
        assert client.receive().status == 200


def test_a_flood_of_refusals_is_counted(launch: Launch) -> None:
    port, sent, began = free_port(), 300, time.monotonic()
    proxy = launch(METRICS_PORT=str(port), **SMALL)
    for _ in range(sent):
        assert refused(proxy, b"nonsense\r\n\r\n").status == 400
    # Another kind has its line nevertheless.
    assert refused(proxy, message("POST /large", body=bytes(1001))).status == 413
    assert settled(port).sum("aad_auth_proxy_requests_total", status_code="400") == sent
    proxy.stop()
    lines = [parse_line(line) for line in proxy.lines if "StatusCode=4" in line]
    single = [line["Code"] for line in lines if line["msg"] == "Request failed"]
    counted = [line for line in lines if line["msg"] == "Requests failed, without a line for each"]
    assert single.count("RequestBodyTooLarge") == 1
    windows = 2 + (time.monotonic() - began) // WINDOW_SECONDS
    assert single.count("BadRequest") <= LINES_OF_ONE * windows
    assert all(line["Code"] == "BadRequest" for line in counted)
    assert single.count("BadRequest") + sum(int(line["Count"]) for line in counted) == sent


def test_a_field_that_is_dropped_for_its_name_is_logged_once(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch()
    for _ in range(3):
        assert proxy.get("/", "X_Scope-OrgID: tenant", "X-Org: a_b", "User_Agent: x").status == 200
    proxy.wait_for_line("underscore.*User_Agent")
    proxy.mark()
    lines = [parse_line(line) for line in proxy.lines if "underscore" in line]
    assert [(line["level"], line["Name"], line["Client"]) for line in lines] == [
        ("warning", "X_Scope-OrgID", "127.0.0.1"),
        ("warning", "User_Agent", "127.0.0.1"),
    ]
    assert not [name for name in target.requests[-1].names if "_" in name]
    assert "tenant" not in proxy.log


def test_an_overload_leaves_a_line_for_who_was_refused(launch: Launch, target: Upstream) -> None:
    proxy = launch(THREADS="1", MAX_QUEUED_REQUESTS="0")
    gate = target.gate()
    target.on("/slow", actions.raw(gate, actions.answer(200, body=b"fine")))
    with proxy.connect() as client:
        client.send(message("GET /slow"))
        target.wait_for_requests(1)
        assert proxy.get("/too-many").status == 503
        line = proxy.wait_for_event("Request failed")
        gate.open()
        assert client.receive().status == 200
    assert (line["level"], line["Code"], line["Request"]) == ("error", "Overloaded", "/too-many")
