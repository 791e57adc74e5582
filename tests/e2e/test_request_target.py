"""The raw request target reaches the target byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Launch
from tests.support.expect import assert_own_error
from tests.support.process import ProxyProcess
from tests.support.upstream import Upstream
from tests.support.wire import message

#: Targets that URL libraries like to mend.
TRICKY = {
    "root": b"/",
    "design-example": b"/a%2Fb//c;x?y=%20&z",
    "lower-case-percent": b"/a%2fb",
    "needless-percent": b"/%7e%41",
    "double-slash": b"/x//y",
    "many-slashes": b"////",
    "dot-segments": b"/x/../y/./z/..",
    "leading-dot-segments": b"/../../x",
    "encoded-dot-segments": b"/%2e%2e/x",
    "trailing-slash": b"/x/",
    "empty-query": b"/q?",
    "question-marks-in-query": b"/q??a=?",
    "bad-percent": b"/%zz",
    "lone-percent": b"/%",
    "encoded-nul": b"/a%00b",
    "encoded-line-end": b"/a%0d%0aX-Y:%20z",
    "braces": b"/{job}/{}",
    "quotes": b"/\"a'b`",
    "pipe-and-caret": b"/a|b^c",
    "backslash": b"/a\\b",
    "angle-brackets": b"/<a>",
    "square-brackets": b"/a[0]?match[]=up",
    "looks-like-a-host": b"//host.example/x",
    "looks-like-a-url": b"/http://host.example/x?u=https://y",
    "user-info": b"//user:password@host.example/x",
    "colon-first": b"/a:b",
    "parameters": b"/;params;v=1/x;y",
    "empty-pairs": b"/q?a=b&&c&=d&e=",
    "plus-and-percent-in-query": b"/q?a=+&b=%2B&c=%26",
    "promql": b'/api/v1/query?query=rate(http_requests_total{job="a"}[5m])',
    "favicon": b"/favicon.ico",
    "static": b"/static/app.js",
    "non-ascii-utf-8": "/café?ü".encode(),
    "non-ascii-latin-1": "/café?ü".encode("latin-1"),
    "any-high-byte": b"/\x80\xff",
    "eight-kilobytes": b"/" + b"a" * 8000,
}


@pytest.mark.parametrize("raw", TRICKY.values(), ids=TRICKY)
def test_the_request_target_arrives_byte_for_byte(
    proxy: ProxyProcess, target: Upstream, raw: bytes
) -> None:
    assert proxy.ask(message(b"GET " + raw)).status == 200
    assert target.only().target == raw


@pytest.mark.parametrize(
    ("raw", "arrives"),
    [
        (b"http://other.example/x?y", b"/x?y"),
        (b"https://other.example/a%2fb//c?", b"/a%2fb//c?"),
        (b"http://other.example", b"/"),
        (b"http://other.example?a=b", b"/?a=b"),
        (b"http://user:password@other.example:81/x", b"/x"),
        (b"HTTP://OTHER.EXAMPLE//x", b"//x"),
    ],
    ids=["path", "raw-path", "no-path", "only-query", "user-info", "upper-case"],
)
def test_of_the_absolute_form_only_path_and_query_count(
    proxy: ProxyProcess, target: Upstream, raw: bytes, arrives: bytes
) -> None:
    assert proxy.ask(message(b"GET " + raw)).status == 200
    request = target.only()
    assert request.target == arrives
    assert request.one("Host") == target.authority


def test_the_asterisk_form_passes(proxy: ProxyProcess, target: Upstream) -> None:
    assert proxy.ask(message("OPTIONS *")).status == 200
    assert target.only().target == b"*"


@pytest.mark.parametrize("raw", [b"x/y", b"host.example:443", b"?a=b"])
def test_what_is_neither_path_nor_url_is_refused(
    proxy: ProxyProcess, target: Upstream, raw: bytes
) -> None:
    assert_own_error(proxy.ask(message(b"GET " + raw)), 400, "BadRequest")
    assert target.requests == []


@pytest.mark.parametrize(
    "raw",
    [
        *(b"/x#y", b"/x#", b"/#/../y", b"/x?y#z", b"#", b"/health#", b"*#", b"/#x?y"),
        *(b"http://h/x#y", b"http://h#y", b"http://h?x#y", b"//h/x#y"),
    ],
)
def test_a_fragment_is_refused(proxy: ProxyProcess, target: Upstream, raw: bytes) -> None:
    """It is for the client alone, and servers disagree on whether it ends the path."""
    assert_own_error(proxy.ask(message(b"GET " + raw)), 400, "BadRequest")
    assert target.requests == []


def test_an_impossible_url_is_refused_with_an_answer(proxy: ProxyProcess, target: Upstream) -> None:
    response = proxy.ask(message("GET http://[::1/x"))
    assert response.status in (200, 400)
    if response.status == 400:
        assert_own_error(response, 400)
        assert target.requests == []
    else:
        assert target.only().target == b"/x"


@pytest.fixture(scope="module")
def joining(launch_for_module: Launch, base_settings: dict[str, str]) -> ProxyProcess:
    host = base_settings["TARGET_HOST"]
    return launch_for_module(TARGET_HOST=f"https://{host}/base/v%31?k=v%20w")


#: What a request target becomes behind `/base/v%31?k=v%20w`, by Go's rules.
JOINED = {
    b"/": b"/base/v%31?k=v%20w",
    b"/?": b"/base/v%31?k=v%20w",
    b"/?a=b": b"/base/v%31?k=v%20w&a=b",
    b"/x": b"/base/v%31/x?k=v%20w",
    b"/x/": b"/base/v%31/x/?k=v%20w",
    b"/a%2fb": b"/base/v%31/a%2fb?k=v%20w",
    b"/%7e": b"/base/v%31/%7e?k=v%20w",
    b"/x//y": b"/base/v%31/x//y?k=v%20w",
    b"/x/../y": b"/base/v%31/x/../y?k=v%20w",
    b"/../../y": b"/base/v%31/../../y?k=v%20w",
    b"/q?": b"/base/v%31/q?k=v%20w",
    b"/%zz": b"/base/v%31/%zz?k=v%20w",
    b'/{}"|': b'/base/v%31/{}"|?k=v%20w',
    b"//host.example/x": b"/base/v%31//host.example/x?k=v%20w",
    b"/;params": b"/base/v%31/;params?k=v%20w",
    b"/q?a=b&&c": b"/base/v%31/q?k=v%20w&a=b&&c",
    b"/q??a=?": b"/base/v%31/q?k=v%20w&?a=?",
    b"http://other.example/x?y": b"/base/v%31/x?k=v%20w&y",
    b"http://other.example": b"/base/v%31?k=v%20w",
}


@pytest.mark.parametrize(("raw", "arrives"), JOINED.items(), ids=map(repr, JOINED))
def test_path_and_query_of_the_target_go_in_front_and_the_rest_stays(
    joining: ProxyProcess, target: Upstream, raw: bytes, arrives: bytes
) -> None:
    assert joining.ask(message(b"GET " + raw)).status == 200
    assert target.only().target == arrives


#: Every byte that can stand in a request target but `#`, which cannot.
TARGET_BYTES = [byte for byte in range(0x21, 0x100) if byte not in (0x23, 0x7F)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=st.lists(st.sampled_from(TARGET_BYTES), max_size=60).map(bytes))
def test_any_target_stays_byte_identical(
    proxy: ProxyProcess, target: Upstream, rest: bytes
) -> None:
    raw = b"/r" + rest  # Never a probe's own path.
    target.reset()
    assert proxy.ask(message(b"GET " + raw)).status == 200
    assert target.only().target == raw
