"""Which request fields reach the target."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Launch
from tests.support import actions
from tests.support.expect import assert_own_error
from tests.support.process import ProxyProcess
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Recorded, Upstream
from tests.support.wire import message

#: What the proxy puts on every request, for a client on TCP.
ADDED = {"host", "authorization", "x-forwarded-for"}


def forwarded(proxy: ProxyProcess, target: Upstream, *lines: bytes | str) -> Recorded:
    """Send a GET with `lines` and return it as the target got it."""
    response = proxy.ask(message("GET /x", *lines))
    assert response.status == 200, response
    return target.only()


def test_nothing_is_added_but_host_authorization_and_forwarded_for(
    proxy: ProxyProcess, target: Upstream
) -> None:
    assert forwarded(proxy, target).names == ADDED


def test_the_request_goes_out_as_http_1_1(proxy: ProxyProcess, target: Upstream) -> None:
    assert proxy.ask(message("GET /x HTTP/1.0")).status == 200
    assert target.only().version == b"HTTP/1.1"


def test_host_is_the_targets(proxy: ProxyProcess, target: Upstream) -> None:
    assert forwarded(proxy, target, "Host: evil.example").one("Host") == target.authority


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_several_or_no_host_fields_make_one_the_targets(
    proxy: ProxyProcess, target: Upstream, version: str
) -> None:
    several = message(f"GET /x HTTP/{version}", "Host: one.example", "Host: two.example")
    none = message(f"GET /x HTTP/{version}", host=None)
    for raw in (several, none):
        target.reset()
        response = proxy.ask(raw)
        if response.status == 400:  # RFC 9112 section 3.2 asks for this.
            assert_own_error(response, 400)
            assert target.requests == []
        else:
            assert target.only().one("Host") == target.authority


def test_the_token_is_put_on_as_a_bearer(
    proxy: ProxyProcess, target: Upstream, shared_entra: StandInEntra
) -> None:
    value = forwarded(proxy, target).one("Authorization")
    assert value in [f"Bearer {token.value}" for token in shared_entra.issued]


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer inbound",
        "authorization: Basic aW5ib3VuZA==",
        "Proxy-Authorization: Basic aW5ib3VuZA==",
        "X-Authproxy-Token: inbound",
    ],
)
def test_no_inbound_credential_passes(proxy: ProxyProcess, target: Upstream, line: str) -> None:
    request = forwarded(proxy, target, line)
    assert request.names == ADDED
    assert b"inbound" not in request.head
    assert b"aW5ib3VuZA" not in request.head
    assert (request.one("Authorization") or "").startswith("Bearer ey")


@pytest.mark.parametrize(
    "line",
    [
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authenticate: Basic",
        "TE: trailers",
        "Trailer: X-Sum",
        "Upgrade: h2c",
    ],
)
def test_hop_by_hop_fields_end_here(proxy: ProxyProcess, target: Upstream, line: str) -> None:
    assert forwarded(proxy, target, line).names == ADDED


@pytest.mark.parametrize(
    "lines",
    [
        ["Connection: X-Private", "X-Private: 1"],
        ["Connection: close, X-Private ,x-other", "X-PRIVATE: 1", "X-Other: 2"],
        ["Connection: X-Private", "Connection: X-Other", "X-Private: 1", "X-Other: 2"],
        ["X-Private: 1", "Connection: ,, x-private"],
    ],
    ids=["one", "list", "repeated", "after"],
)
def test_fields_that_connection_names_end_here(
    proxy: ProxyProcess, target: Upstream, lines: list[str]
) -> None:
    assert forwarded(proxy, target, *lines).names == ADDED


def test_connection_cannot_name_away_what_the_proxy_adds(
    proxy: ProxyProcess, target: Upstream
) -> None:
    request = forwarded(
        proxy, target, "Connection: Authorization, Host, X-Forwarded-For, Content-Length"
    )
    assert request.names == ADDED
    assert request.one("Host") == target.authority


def test_connection_cannot_name_content_length_away(proxy: ProxyProcess, target: Upstream) -> None:
    raw = message("POST /x", "Connection: Content-Length", body=b"content")
    assert proxy.ask(raw).status == 200
    request = target.only()
    assert (request.one("Content-Length"), request.body) == ("7", b"content")


@pytest.mark.parametrize(
    "line",
    [
        "User-Agent: Prometheus/3.0",
        "Accept: */*;q=0.5",
        "Accept-Encoding: gzip, br;q=0.1, identity;q=0",
        "Cookie: a=b; c=d",
        "Range: bytes=0-1",
        'If-None-Match: W/"x"',
        'Content-Type: text/plain; charset="x"',
        "X-Prometheus-Remote-Write-Version: 0.1.0",
        "X-Request-ID: abc",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: there.example",
        "Forwarded: for=10.0.0.1;proto=https",
        "Via: 1.1 other",
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Max-Forwards: 0",
        "Referer: http://x.example/?a=%zz",
        "X-Many--Dashes-: 1",
        "X-Empty:",
        # Nothing restricts path or method here, so that these change nothing that was decided.
        "X-Original-URL: /x",
        "X-HTTP-Method-Override: GET",
        "X-Inner: a  b\tc , d",
        'X-Quoted: "a,b"; c="\\""',
        "X-Latin: caf\xe9",
        "X-Utf-8: caf\xc3\xa9 \xe2\x82\xac",
        "X-Long: " + "v" * 8000,
        "!#$%&'*+.^`|~09: tchar",
    ],
    ids=lambda line: line.partition(":")[0],
)
def test_other_fields_pass_untouched(proxy: ProxyProcess, target: Upstream, line: str) -> None:
    name, _, value = line.partition(":")
    request = forwarded(proxy, target, line)
    assert request.all(name) == [value.lstrip(" ")]
    assert request.names == ADDED | {name.lower()}


def test_repeated_fields_keep_their_values_in_order(proxy: ProxyProcess, target: Upstream) -> None:
    request = forwarded(proxy, target, "X-A: 1", "X-B: other", "X-A: 2, 3", "x-a: 4")
    assert ", ".join(request.all("X-A")) == "1, 2, 3, 4"
    assert request.one("X-B") == "other"


@pytest.mark.parametrize(
    ("lines", "arrives"),
    [
        ([], "127.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1"], "10.0.0.1, 127.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1, ::1"], "10.0.0.1, ::1, 127.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: unknown"], "10.0.0.1, unknown, 127.0.0.1"),
    ],
    ids=["none", "one", "list", "repeated"],
)
def test_the_clients_address_is_appended_to_forwarded_for(
    proxy: ProxyProcess, target: Upstream, lines: list[str], arrives: str
) -> None:
    assert forwarded(proxy, target, *lines).one("X-Forwarded-For") == arrives


@pytest.mark.parametrize(
    "line",
    [
        "X_Private: 1",
        "X_Forwarded_For: 10.0.0.1",
        "X_Request-ID: forged",
        "Content_Length: 5",
        "Transfer_Encoding: chunked",
        "X-Authproxy_Token: inbound",
        "X_Prometheus_Remote_Write_Version: 0.1.0",
    ],
)
def test_names_with_underscores_shadow_nothing(
    proxy: ProxyProcess, target: Upstream, line: str
) -> None:
    request = forwarded(proxy, target, line)
    assert request.names == ADDED
    assert request.one("X-Forwarded-For") == "127.0.0.1"


# -- overrides -----------------------------------------------------------------


@pytest.fixture(scope="module")
def overriding(launch_for_module: Launch) -> ProxyProcess:
    fields = {"X-Tenant": "ours", "cookie": "o=1", "User-Agent": "fleet/2 (é)"}
    return launch_for_module(OVERRIDE_REQUEST_HEADERS=json.dumps(fields))


def test_overrides_are_added_to_every_request(overriding: ProxyProcess, target: Upstream) -> None:
    request = forwarded(overriding, target)
    assert request.names == ADDED | {"x-tenant", "cookie", "user-agent"}
    assert request.one("X-Tenant") == "ours"
    assert request.one("Cookie") == "o=1"
    assert request.one("User-Agent") == "fleet/2 (é)"


def test_overrides_replace_what_the_client_sent(overriding: ProxyProcess, target: Upstream) -> None:
    request = forwarded(overriding, target, "x-tenant: theirs", "X-Tenant: again", "Cookie: c=1")
    assert request.one("X-Tenant") == "ours"
    assert request.one("Cookie") == "o=1"


def test_connection_cannot_name_overrides_away(overriding: ProxyProcess, target: Upstream) -> None:
    request = forwarded(overriding, target, "Connection: X-Tenant, Cookie, User-Agent")
    assert request.names == ADDED | {"x-tenant", "cookie", "user-agent"}


# -- Expect --------------------------------------------------------------------


def test_expect_100_continue_is_answered_here_and_not_forwarded(
    proxy: ProxyProcess, target: Upstream
) -> None:
    head = message("POST /x", "Expect: 100-continue", "Content-Length: 7")
    with proxy.connect() as client:
        client.send(head)
        assert client.stream.until(b"\r\n\r\n", "the 100").startswith(b"HTTP/1.1 100 ")
        assert target.requests == []
        client.send(b"content")
        assert client.receive().status == 200
    request = target.only()
    assert request.body == b"content"
    assert request.names == ADDED | {"content-length"}


# -- request IDs ---------------------------------------------------------------


def test_a_request_id_comes_back_with_an_own_error(proxy: ProxyProcess, target: Upstream) -> None:
    target.respond(actions.then_close())
    target.close_idle()
    response = proxy.ask(message("GET /x", "X-Request-ID: id-{1}"))
    assert_own_error(response, 502, "TargetProtocolError")
    assert response.one("X-Request-ID") == "id-{1}"


def test_no_request_id_is_made_up_for_the_target(proxy: ProxyProcess, target: Upstream) -> None:
    assert "x-request-id" not in forwarded(proxy, target).names


# -- framing that could smuggle --------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        message("POST /x", "Content-Length: +5", body=b"hello"),
        message("POST /x", "Content-Length: -5", body=b"hello"),
        message("POST /x", "Content-Length: 0x5", body=b"hello"),
        message("POST /x", "Content-Length: 5, 6", body=b"hello!"),
        message("POST /x", "Content-Length: 5", "Content-Length: 6", body=b"hello!"),
        message("POST /x", "Content-Length : 5", body=b"hello"),
        message("POST /x", "Content-Length: 5 5", body=b"hello"),
        message("POST /x", "X-A: b\rX-C: d", body=b"hello"),
        message("POST /x", "X-A: b\nX-C: d", body=b"hello"),
        message("POST /x", "X-A: b\0c", body=b"hello"),
        message("POST /x", "no colon", body=b"hello"),
        message("POST /x", ": no name", body=b"hello"),
        message("POST /x y", body=b"hello"),
        message("POST  /x", body=b"hello"),
    ],
    ids=[
        *("plus-length", "minus-length", "hex-length", "length-list", "two-lengths"),
        *("blank-before-colon", "length-with-blank", "bare-cr", "bare-lf", "nul"),
        *("no-colon", "no-name", "blank-in-target", "two-blanks"),
    ],
)
def test_an_ambiguous_head_is_refused_and_the_connection_closed(
    proxy: ProxyProcess, target: Upstream, raw: bytes
) -> None:
    with proxy.connect() as client:
        assert_own_error(client.ask(raw), 400)
        assert client.is_closed_by_peer()
    assert target.requests == []


@pytest.mark.parametrize(
    "coding", ["gzip, chunked", "gzip", "identity", "chunked, identity", "xchunked", "chunked;a"]
)
def test_a_transfer_coding_other_than_chunked_is_refused(
    proxy: ProxyProcess, target: Upstream, coding: str
) -> None:
    raw = message("POST /x", f"Transfer-Encoding: {coding}", body=b"0\r\n\r\n")
    with proxy.connect() as client:
        response = client.ask(raw)
        assert response.status in (400, 501)
        assert_own_error(response, response.status)
        assert client.is_closed_by_peer()
    assert target.requests == []


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        message(
            "POST /x",
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            body=b"0\r\n\r\n" + SMUGGLED,
        ),
        message(
            "POST /x",
            "Transfer-Encoding: chunked",
            f"Content-Length: {5 + len(SMUGGLED)}",
            body=b"0\r\n\r\n" + SMUGGLED,
        ),
        message(
            "POST /x HTTP/1.0",
            "Transfer-Encoding: chunked",
            "Connection: keep-alive",
            body=SMUGGLED,
        ),
    ],
    ids=["length-and-chunked", "chunked-and-length", "chunked-in-http-1.0"],
)
def test_two_framings_never_make_two_requests(
    proxy: ProxyProcess, target: Upstream, raw: bytes
) -> None:
    """RFC 9112 section 6.1: whatever is answered, the connection closes after it."""
    with proxy.connect() as client:
        response = client.ask(raw)
        assert response.status in (200, 400)
        assert client.is_closed_by_peer()
    assert all(request.target == b"/x" for request in target.requests)


def test_a_folded_line_makes_no_second_field(proxy: ProxyProcess, target: Upstream) -> None:
    response = proxy.ask(message("GET /x", "X-A: b\r\n X-C: d"))
    if response.status == 400:  # RFC 9112 section 5.2 leaves the choice.
        assert_own_error(response, 400)
        assert target.requests == []
    else:
        request = target.only()
        assert request.names == ADDED | {"x-a"}
        assert (request.one("X-A") or "").split() == ["b", "X-C:", "d"]


# -- any fields ------------------------------------------------------------------

_NAMES = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^`|~", min_size=1, max_size=12)
_VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f")
_WITHIN = st.characters(
    min_codepoint=0x20, max_codepoint=0xFF, include_characters="\t", exclude_characters="\x7f"
)
_VALUES = st.one_of(
    st.just(""),
    st.builds(lambda a, b, c: a + b + c, _VISIBLE, st.text(_WITHIN, max_size=40), _VISIBLE),
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(
        _NAMES.map(lambda name: f"x-{name}".lower()), _VALUES, max_size=8
    ).filter(lambda fields: "x-authproxy-token" not in fields and "x-forwarded-for" not in fields)
)
def test_any_fields_pass_untouched(
    proxy: ProxyProcess, target: Upstream, fields: dict[str, str]
) -> None:
    target.reset()
    request = forwarded(proxy, target, *(f"{name}: {value}" for name, value in fields.items()))
    arrived = {name.lower(): value for name, value in request.fields}
    assert {name: arrived[name] for name in arrived if name not in ADDED} == fields
