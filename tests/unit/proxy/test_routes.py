"""Which route a request takes, and what is left of its path there."""

from __future__ import annotations

import pytest

from authproxy.errors import BadRequest, NoRoute
from authproxy.proxy.routes import RouteTable
from authproxy.settings.match import EVERYTHING, Match, host_pattern, path_prefix
from tests.support.inbound import inbound


def table(*matches: Match) -> RouteTable[Match]:
    return RouteTable((match, match) for match in matches)


QUERY, INGEST = Match(path="/query"), Match(path="/ingest")
ROUTES = table(
    EVERYTHING,
    QUERY,
    Match(path="/query/deep"),
    Match(host="a.example.com"),
    Match(host="a.example.com", path="/query"),
    Match(host="a.example.com:8443", path="/"),
    Match(host="[::1]"),
    Match(host="[::1]:9090"),
    Match(host="ports.example.com:80"),
    Match(host="secure.example.com:443"),
)


@pytest.mark.parametrize(
    ("target", "host", "label"),
    [
        ("/", "proxy.example.com", "/"),
        ("/quer", "proxy.example.com", "/"),
        ("/querying", "proxy.example.com", "/"),
        ("/query", "proxy.example.com", "/query"),
        ("/query?a=/deep", "proxy.example.com", "/query"),
        ("/query/", "proxy.example.com", "/query"),
        ("/query/deeper", "proxy.example.com", "/query"),
        ("/query/deep/er", "proxy.example.com", "/query/deep"),
        ("*", "proxy.example.com", "/"),
        # A host goes before any path, a port before none.
        ("/query/deep", "a.example.com", "a.example.com/query"),
        ("/other", "A.Example.COM:80", "a.example.com"),
        ("/query", "a.example.com:8443", "a.example.com:8443"),
        ("/query", "b.a.example.com", "/query"),
        ("/query", "", "/query"),
        # However the host is written (RFC 3986 section 6.2.2).
        ("/other", "a.example.com.", "a.example.com"),
        ("/other", "a.example.com:", "a.example.com"),
        ("/other", "a.example.com.:8443", "a.example.com:8443"),
        ("/other", "a.example.com:08443", "a.example.com:8443"),
        ("/other", "%61.example%2ecom", "a.example.com"),
        ("/other", "[::1]", "[::1]"),
        ("/other", "[0:0:0:0:0:0:0:1]:9000", "[::1]"),
        ("/other", "[::0001]:9090", "[::1]:9090"),
        ("/other", "ports.example.com:80", "ports.example.com:80"),
        ("/other", "ports.example.com", "ports.example.com:80"),
        ("/other", "ports.example.com:443", "/"),
        ("/other", "secure.example.com", "secure.example.com:443"),
        ("/other", "secure.example.com:8443", "/"),
        # Of an absolute form its own host counts (RFC 9112 section 3.2.2).
        ("http://a.example.com/query", "proxy.example.com", "a.example.com/query"),
        ("http://proxy.example.com/query", "a.example.com", "/query"),
        ("http://a.example.com?query", "proxy.example.com", "a.example.com"),
        ("http://user@a.example.com/", "proxy.example.com", "a.example.com"),
        ("http://A.example.com.:8443/", "proxy.example.com", "a.example.com:8443"),
        ("http://[0::1]?query", "proxy.example.com", "[::1]"),
    ],
)
def test_the_longest_match_takes_a_request(target: str, host: str, label: str) -> None:
    assert ROUTES.find(inbound(target, host)).label == label


@pytest.mark.parametrize(
    ("target", "host"),
    [
        *(("/x", host) for host in ("a b", "a:b", "a:99999", "[::1", "[::1]a", "[::g]", "a%zz")),
        *(("/x", host) for host in ("h%00", "h%2f", "[1:2]", "::1", "a:80:80", "user@a", "\xe4")),
        *((f"http://{host}/x", "a") for host in ("a:b", "[::1", "[::g]:80", "u@a:1:2", "a\\b")),
        *(("/x", f"a:{'1' * 5000}"), ("/x", f"[{':' * 5000}]"), ("/x", f"a:{'0' * 5000}x")),
    ],
)
def test_a_host_that_is_none_is_refused_where_hosts_decide(target: str, host: str) -> None:
    with pytest.raises(BadRequest, match="The host of the request cannot be one"):
        ROUTES.find(inbound(target, host))
    assert table(EVERYTHING, QUERY).find(inbound(target, host)) is EVERYTHING


def test_what_no_route_takes_has_none() -> None:
    routes = table(QUERY, INGEST)
    for target in ("/", "/querying", "*", "/ingest2/x"):
        with pytest.raises(NoRoute):
            routes.find(inbound(target))


@pytest.mark.parametrize(
    "target",
    [
        "/open/../secret",
        "/open/%2e%2e/secret",
        "/open/%252e%252e/secret",
        "/open/..%2fsecret",
        "/open/..%5csecret",
        "/open/..\\secret",
        "/open/..;/secret",
        "//secret",
        "/%73ecret",
        "/secret;x",
        "/secret%2fx",
        "/\\secret",
        "/open%2f..%2fsecret",
        "/open/%2e%2e/secret/%252e%252e/open/x",
        "/./secret",
    ],
)
def test_a_path_that_others_may_take_for_another_routes_is_refused(target: str) -> None:
    routes = table(EVERYTHING, Match(path="/open"), Match(path="/secret"))
    with pytest.raises(BadRequest):
        routes.find(inbound(target))


@pytest.mark.parametrize(
    "target",
    [
        "/query/api/v1/label/a%2Fb/values",
        "/query//x",
        "/query/a;b=1/c",
        "/query/%C3%A4",
        "/query/a%25b",
        "/query/%",
        "/query?x=/../../secret",
    ],
)
def test_odd_paths_that_stay_on_their_route_pass(target: str) -> None:
    assert table(EVERYTHING, QUERY, INGEST).find(inbound(target)) is QUERY


def test_where_one_route_takes_everything_nothing_is_judged() -> None:
    odd = inbound("/a/../b%2F..\\;//%00")
    assert table(EVERYTHING).find(odd) is EVERYTHING
    whole_host = Match(host="proxy.example.com")
    assert table(EVERYTHING, QUERY, whole_host).find(odd) is whole_host
    assert table(whole_host, Match(host="other.example.com")).find(odd) is whole_host


@pytest.mark.parametrize(
    "target", ["/open#", "/open#x", "/open?#", "#", "http://h/open#x", "http://h#x"]
)
@pytest.mark.parametrize("matches", [(EVERYTHING, QUERY), (QUERY, INGEST)])
def test_a_fragment_is_refused(target: str, matches: tuple[Match, ...]) -> None:
    with pytest.raises(BadRequest, match="holds a blank, a control character or a `#`"):
        table(*matches).find(inbound(target))


@pytest.mark.parametrize(
    ("target", "outbound"),
    [
        ("/query", "/"),
        ("/query/", "/"),
        ("/query?a", "/?a"),
        ("/query/?a", "/?a"),
        ("/query/a%2Fb//c;x?y=%20&z", "/a%2Fb//c;x?y=%20&z"),
        ("/query/query/a", "/query/a"),
    ],
)
def test_a_prefix_is_taken_off_where_that_is_asked_for(target: str, outbound: str) -> None:
    assert Match(path="/query", strip_path=True).outbound(target) == outbound
    assert Match(path="/query").outbound(target) == target


def test_everything_has_no_prefix_to_take_off() -> None:
    assert Match(strip_path=True).outbound("/a?b") == "/a?b"


@pytest.mark.parametrize(
    ("host", "path", "which"),
    [
        ("two words", None, "host"),
        ("http://a.example.com", None, "host"),
        ("a.example.com/", None, "host"),
        ("a:b", None, "host"),
        ("a:70000", None, "host"),
        ("[::g]", None, "host"),
        ("a%20b", None, "host"),
        ("a,b", None, "host"),
        (None, "query", "path"),
        (None, "/a?b", "path"),
        (None, "/a%20b", "path"),
        (None, "/a*", "path"),
        (None, "/a/../b", "path"),
        (None, "/a//b", "path"),
        (None, "/a b", "path"),
        (None, "/a./b", "path"),
        (None, "/a::b", "path"),
    ],
)
def test_what_can_be_no_host_or_path_is_told(host: str, path: str, which: str) -> None:
    rule, given = (host_pattern, host) if which == "host" else (path_prefix, path)
    with pytest.raises(ValueError, match=r"^it "):
        rule(given)


@pytest.mark.parametrize(
    ("host", "path", "label"),
    [
        (None, None, "/"),
        ("A.example.com", None, "a.example.com"),
        ("a.example.com:81", "/", "a.example.com:81"),
        ("[::1]:81", "/x/", "[::1]:81/x"),
        ("A.example.com.", None, "a.example.com"),
        ("a.example.com.:", "/", "a.example.com"),
        ("[0:0::1]:081", None, "[::1]:81"),
        (None, "/x/y/", "/x/y"),
    ],
)
def test_a_route_without_a_name_is_called_after_its_requests(
    host: str, path: str, label: str
) -> None:
    match = Match(host_pattern(host) if host else None, path_prefix(path or "/"))
    assert match.label == label
