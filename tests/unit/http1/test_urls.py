"""The target's URL, the raw request target, and how the two join."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.errors import BadRequest
from authproxy.http1.inbound_request import InboundRequest
from authproxy.http1.urls import TargetURL, origin_form, path_of
from tests.support.inbound import inbound

TARGET_CHARS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="#\x7f"), max_size=60
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("metrics.example.com", "https://metrics.example.com"),
        ("metrics.example.com:8443", "https://metrics.example.com:8443"),
        ("https://metrics.example.com/", "https://metrics.example.com/"),
        ("http://metrics.example.com", "https://metrics.example.com"),
        ("HTTPS://Metrics.Example.COM", "https://metrics.example.com"),
        ("metrics.example.com:443", "https://metrics.example.com"),
        ("127.0.0.1:9090", "https://127.0.0.1:9090"),
        ("[::1]:9090", "https://[::1]:9090"),
        ("metrics.example.com/a/b?c=d", "https://metrics.example.com/a/b?c=d"),
        ("metrics.example.com./x", "https://metrics.example.com./x"),
    ],
)
def test_a_target_may_be_a_host_a_host_and_port_or_a_url(value: str, expected: str) -> None:
    assert str(TargetURL.parse(value)) == expected


def test_http_is_honoured_only_where_it_is_allowed() -> None:
    assert str(TargetURL.parse("http://db.example.com", allow_http=True)) == "http://db.example.com"
    assert TargetURL.parse("http://db.example.com", allow_http=True).port == 80
    assert TargetURL.parse("db.example.com", allow_http=True).scheme == "https"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "names no host"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("ftp://files.example.com", "scheme 'ftp'"),
        ("user:secret@metrics.example.com", "user information"),
        ("https://user@metrics.example.com", "user information"),
        ("metrics.example.com:0", "port"),
        ("metrics.example.com:99999", "port"),
        ("metrics.example.com:", "port"),
        ("metrics.example.com:port", "port"),
        ("metrics.example.com/#top", "fragment"),
        ("metrics example.com", "blanks"),
        ("metrics.example.com\r\nX: y", "blanks"),
        ("m\u00e9trics.example.com", "non-ASCII"),
        ("-metrics.example.com", "names no host"),
        ("[::1", "host"),
    ],
)
def test_a_target_that_cannot_be_one_is_refused_with_the_reason(value: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        TargetURL.parse(value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "request_", "sent"),
    [
        ("h.example", "/", "/"),
        ("h.example", "/a%2fb/../c//d;x?y=%20&z", "/a%2fb/../c//d;x?y=%20&z"),
        ("h.example", "//other.example/x", "//other.example/x"),
        ("h.example", "/q?", "/q?"),
        ("h.example", "*", "*"),
        ("h.example/base", "/", "/base"),
        ("h.example/base", "/?q=1", "/base?q=1"),
        ("h.example/base", "/x", "/base/x"),
        ("h.example/base/", "/x", "/base/x"),
        ("h.example/base/", "//x", "/base//x"),
        ("h.example/", "/x", "/x"),
        ("h.example/write?v=1", "/", "/write?v=1"),
        ("h.example/write?v=1", "/?q=2", "/write?v=1&q=2"),
        ("h.example/write?v=1", "/x?q=2", "/write/x?v=1&q=2"),
        ("h.example?v=1", "/x", "/x?v=1"),
    ],
)
def test_paths_meet_in_one_slash_and_queries_in_one_ampersand(
    target: str, request_: str, sent: str
) -> None:
    assert TargetURL.parse(target).join(request_) == sent


@given(TARGET_CHARS)
def test_without_a_path_of_the_targets_own_every_byte_stays(rest: str) -> None:
    assert TargetURL.parse("h.example").join(f"/{rest}") == f"/{rest}"


@given(TARGET_CHARS)
def test_a_joined_target_always_starts_with_the_targets_own_path(rest: str) -> None:
    joined = TargetURL.parse("h.example/base?v=1").join(f"/{rest}")
    assert path_of(joined).startswith("/base")
    assert "?v=1" in joined


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/a%2Fb//c;x?y=%20&z", "/a%2Fb//c;x?y=%20&z"),
        ("http://elsewhere.example/a?b", "/a?b"),
        ("HTTP://elsewhere.example:80//a", "//a"),
        ("http://elsewhere.example", "/"),
        ("http://elsewhere.example?b=c", "/?b=c"),
        ("//elsewhere.example/x", "//elsewhere.example/x"),
        ("*", "*"),
    ],
)
def test_only_path_and_query_of_the_request_target_count(raw: str, expected: str) -> None:
    assert inbound(raw, PATH_INFO="/ignored").target == expected


@given(TARGET_CHARS)
def test_origin_form_is_taken_byte_for_byte(rest: str) -> None:
    assert origin_form(f"/{rest}") == f"/{rest}"


def test_below_a_mount_point_the_mount_point_is_taken_off() -> None:
    assert inbound("/metrics/api?x", SCRIPT_NAME="/metrics").target == "/api?x"
    assert origin_form("/metrics", "/metrics") == "/"
    assert origin_form("/metrics?x", "/metrics") == "/?x"
    assert origin_form("/metrics//x", "/metrics") == "//x"


@pytest.mark.parametrize("raw", ["/metricsx", "/%6Detrics/x", "/x/../metrics/y", "//metrics/x"])
def test_a_mount_point_that_is_written_otherwise_is_refused(raw: str) -> None:
    with pytest.raises(BadRequest, match="/metrics as it is written"):
        origin_form(raw, "/metrics")


def read(environ: dict[str, str]) -> str:
    return InboundRequest.read({"REQUEST_METHOD": "GET", **environ}).target


@pytest.mark.parametrize("name", ["REQUEST_URI", "RAW_URI"])
@pytest.mark.parametrize(
    "form", ["/a%sb", "/?%s", "http://h%s", "http://h/%s", "http://h/?a%s", "*%s"]
)
def test_a_blank_a_control_character_or_a_fragment_is_in_no_request_target(
    form: str, name: str
) -> None:
    for byte in (*range(0x21), 0x23, 0x7F):
        with pytest.raises(BadRequest, match="`#`"):
            read({name: form % chr(byte)})


@pytest.mark.parametrize("environ", [{}, {"REQUEST_URI": "nonsense"}])
def test_a_request_without_a_usable_raw_target_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        read(environ)
