"""Whatever a server behind the proxy takes a path for is known before anything is decided."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authproxy.errors import BadRequest, NoRoute
from authproxy.http1.path_readings import oddity, readings_of, spelling
from authproxy.proxy.routes import RouteTable
from authproxy.settings.match import Match
from tests.support.examples import examples
from tests.support.inbound import inbound
from tests.support.path_models import MODELS, read_by
from tests.support.path_spellings import SERVERS, SPELLINGS, TABLE
from tests.support.paths import AMBIGUOUS, PATHS, SECRETIVE, readings

OPEN, SECRET = Match(path="/"), Match(path="/secret")
ROUTES = RouteTable((match, match) for match in (OPEN, SECRET))


def taken(path: str, routes: RouteTable[Match] = ROUTES) -> Match | None:
    """Return whose a request for this path is, None where it is refused."""
    try:
        return routes.find(inbound(path))
    except (BadRequest, NoRoute):
        return None


# -- what servers read ---------------------------------------------------------------------


@pytest.mark.parametrize("path", TABLE)
def test_the_models_read_what_the_table_says(path: str) -> None:
    assert tuple(read_by(server, path) for server in SERVERS) == TABLE[path]


# -- what is decided -----------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in SPELLINGS if not SECRET.covers(path)])
def test_no_trick_comes_in_by_the_open_route(path: str) -> None:
    assert taken(path) is None


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/secret%00", "a control character"),
        ("/secret./x", "a dot or blank at a segment's end"),
        ("/secret%20/x", "a dot or blank at a segment's end"),
        ("/secret%3fx", "an encoded slash, backslash, dot, percent sign, `;`, `?` or `#`"),
        ("/secret%c0%af", "a character beyond ASCII"),
        ("/secret\\x", "a backslash"),
        ("/secret;x", "a `;`"),
        ("/secret%u002fx", "a `%` that encodes nothing"),
        ("/secret::$DATA", "`::` or `:$`"),
        ("//secret", "an empty segment (`//`)"),
        ("/x/../secret", "a segment of dots or blanks alone"),
        ("/%73ecret", "an encoded character"),
        ("/Secret", "letters in another case"),
    ],
)
def test_a_refusal_says_what_the_path_holds(path: str, what: str) -> None:
    with pytest.raises(BadRequest, match=f"another route: it holds {re.escape(what)}\\.$"):
        ROUTES.find(inbound(path))


@pytest.mark.parametrize(
    "path",
    [
        *("/secretly", "/secret-x", "/secret.json", "/secret~1", "/secret+", "/a%2Fb", "/a;b=1/c"),
        *("/caf%c3%a9", "/a%20b", "/a%", "/a.", "/a/b./c", "/%e6%97%a5%e6%9c%ac", "/a%3Fb", "//a"),
        *("/a%00b", "/a\\b", "/x/secret", "/A::b", "/%252525252541", "/secre", "/secre%00"),
        "/%" + "25" * 5000 + "41",
    ],
)
def test_odd_paths_that_nobody_takes_for_another_routes_pass(path: str) -> None:
    assert taken(path) is OPEN


#: Nested and not, so that a reading can leave in every direction.
NESTED = [Match(path=path) for path in ("/", "/secret", "/open", "/open/a/b", "/allowed")]


@examples(2.5)
@given(st.one_of(SECRETIVE, PATHS))
@example("/secret%%0041")
@example("/%%%00373ecret")
@example("/se%ef%00%bc%8fcret")
@example("/open%ef%bc%8fa%20.;/b%00")
@example("//open/secret")
def test_no_reading_leads_from_one_route_to_another(path: str) -> None:
    """Whoever does whatever to a path that was let through, it stays on its route."""
    path = path.partition("?")[0]
    found = taken(path, RouteTable((match, match) for match in NESTED))
    if found is None:
        return
    models = {read_by(server, path) for server in MODELS} - {None}
    for reading in (readings(path) | models) - {"*"}:
        assert reading is not None
        covering = [match for match in NESTED if match.covers(reading or "/")]
        assert max(covering, key=lambda match: len(match.path)) is found, (path, reading)


# -- what a path without an oddity is ------------------------------------------------------


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_told(path: str) -> None:
    what = oddity(path)
    assert what
    # It is told to clients and logged: of the path itself nothing is repeated.
    assert len(path) < 4 or path[1:] not in what


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/a", "/a/", "/api/v1/query_range", "/a.b/c..d/.e", "/a-b_c~d", "/a%20b", "/a%41"),
        *("/a:b@c", "/a=b&c", "/!$&'()*+,", "/..a", "/%7Ea", "/a%22%3C%3E%7B%7D", "*", "/a:b:c"),
    ],
)
def test_what_means_the_same_to_all_holds_nothing_odd(path: str) -> None:
    assert oddity(path) is None


@given(st.one_of(SECRETIVE, PATHS))
def test_without_an_oddity_decoding_and_case_are_all_there_is(path: str) -> None:
    if not path.startswith("/") or oddity(path) is not None:
        return
    expected = [each.casefold().rstrip("/") for each in readings_of(path).texts]
    assert {reading.casefold().rstrip("/") for reading in readings(path)} <= {
        path.casefold().rstrip("/"),
        *expected,
    }


def test_a_prefix_is_found_however_it_is_spelled() -> None:
    prefix = spelling("/a.b/c")
    for path in ("/a.b/c", "/A%2eb//c/d", "/a.b\\c;x", "/a.%00b/c.", "/a.b./c%20%00/"):
        assert any(prefix.match(text) for text in readings_of(path).texts), path
    for path in ("/a.b/cd", "/a.b", "/axb/c", "/a.b/d/c", "/a.%41b/c"):
        assert not any(prefix.match(text) for text in readings_of(path).texts), path
