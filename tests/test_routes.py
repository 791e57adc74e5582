"""Which route a request takes, and what is left of its path there."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authproxy.errors import BadRequest, NoRoute
from authproxy.routes import EVERYTHING, Match, RouteTable


def table(*matches: Match) -> RouteTable[Match]:
    return RouteTable((match, match) for match in matches)


def environ(target: str, host: str = "proxy.example.com") -> dict[str, str]:
    return {"REQUEST_URI": target, "HTTP_HOST": host, "SCRIPT_NAME": ""}


QUERY, INGEST = Match(path="/query"), Match(path="/ingest")
ROUTES = table(
    EVERYTHING,
    QUERY,
    Match(path="/query/deep"),
    Match(host="a.example.com"),
    Match(host="a.example.com", path="/query"),
    Match(host="a.example.com:8443", path="/"),
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
        ("/Query", "proxy.example.com", "/"),
        ("*", "proxy.example.com", "/"),
        # A host goes before any path, a port before none.
        ("/query/deep", "a.example.com", "a.example.com/query"),
        ("/other", "A.Example.COM:80", "a.example.com"),
        ("/query", "a.example.com:8443", "a.example.com:8443"),
        ("/query", "b.a.example.com", "/query"),
        ("/query", "", "/query"),
        # Of an absolute form its own host counts (RFC 9112 section 3.2.2).
        ("http://a.example.com/query", "proxy.example.com", "a.example.com/query"),
        ("http://proxy.example.com/query", "a.example.com", "/query"),
        ("http://a.example.com?query", "proxy.example.com", "a.example.com"),
        ("http://user@a.example.com/", "proxy.example.com", "a.example.com"),
    ],
)
def test_the_longest_match_takes_a_request(target: str, host: str, label: str) -> None:
    assert ROUTES.find(environ(target, host)).label == label


def test_what_no_route_takes_has_none() -> None:
    routes = table(QUERY, INGEST)
    for target in ("/", "/querying", "*", "/ingest2/x"):
        with pytest.raises(NoRoute):
            routes.find(environ(target))


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
        routes.find(environ(target))


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
    assert table(EVERYTHING, QUERY, INGEST).find(environ(target)) is QUERY


def test_where_one_route_takes_everything_nothing_is_judged() -> None:
    assert table(EVERYTHING).find(environ("/a/../b%2F..\\;//")) is EVERYTHING


@given(st.text("ab./;%2eF5C\\\u00e4", max_size=12), st.sampled_from(["/open", "/secret"]))
@example("/..", "/open")
def test_no_reading_leads_from_one_route_to_another(rest: str, prefix: str) -> None:
    """However a target decodes a path that was let through, it stays on its route."""
    routes = table(Match(path="/open"), Match(path="/secret"))
    try:
        found = routes.find(environ(f"{prefix}{quote(rest, safe='./;%' + chr(92))}"))
    except (BadRequest, NoRoute):
        return
    assert found.path == prefix


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
        (None, "query", "path"),
        (None, "/a?b", "path"),
        (None, "/a%20b", "path"),
        (None, "/a*", "path"),
        (None, "/a/../b", "path"),
        (None, "/a//b", "path"),
        (None, "/a b", "path"),
    ],
)
def test_what_can_be_no_host_or_path_is_told(host: str, path: str, which: str) -> None:
    with pytest.raises(ValueError, match=which) as told:
        Match.of(host, path)
    assert told.value.args[0] == which


@pytest.mark.parametrize(
    ("host", "path", "label"),
    [
        (None, None, "/"),
        ("A.example.com", None, "a.example.com"),
        ("a.example.com:81", "/", "a.example.com:81"),
        ("[::1]:81", "/x/", "[::1]:81/x"),
        (None, "/x/y/", "/x/y"),
    ],
)
def test_a_route_without_a_name_is_called_after_its_requests(
    host: str, path: str, label: str
) -> None:
    assert Match.of(host, path).label == label
