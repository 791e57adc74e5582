"""No path is admitted that any program behind the proxy could take for another one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authproxy.path_rules import MAX_LENGTH, PathRules, ambiguity


def admitted(entries: str, path: str) -> bool:
    """Decide as the proxy does."""
    return ambiguity(path) is None and PathRules(entries.split(",")).admit(path)


@pytest.mark.parametrize(
    ("entries", "fitting", "others"),
    [
        (
            "/api/v1/write",
            ["/api/v1/write", "/api/v1/write/", "/api/v1/write/x"],
            ["/api/v1/writer", "/api/v1", "/API/v1/write", "/", "/x/api/v1/write", "api/v1/write"],
        ),
        ("/api/", ["/api/", "/api/v1"], ["/api", "/apis/"]),
        ("/", ["/", "/a", "/a/b"], ["*", ""]),
        (
            "/api/v1/label/*/values",
            ["/api/v1/label/job/values", "/api/v1/label/a%20b/values"],
            ["/api/v1/label/job", "/api/v1/label/a/b/values", "/api/v1/label/job/values/x"],
        ),
        ("/a/**/z", ["/a/z", "/a/b/c/z"], ["/a/b", "/az"]),
        ("/a,/b/*", ["/a", "/a/x", "/b/x"], ["/b", "/b/x/y", "/c"]),
        # Both readings have to fit: this one is `/aB/x` when decoded.
        ("/a*2/x", ["/a12/x"], ["/a%42/x"]),
        ("/write", ["/write"], ["/%77rite"]),
    ],
)
def test_prefixes_end_at_a_slash_and_globs_fit_whole_paths(
    entries: str, fitting: list[str], others: list[str]
) -> None:
    assert [path for path in fitting if not admitted(entries, path)] == []
    assert [path for path in others if admitted(entries, path)] == []


AMBIGUOUS = [
    *("/a/../b", "/a/..", "/a/.", "/./a", "/..", "/.", "/a/.../b", "/a/..../b"),
    *("/a/%2e%2e/b", "/a/.%2E/b", "/a/%2e/b", "/a%2etxt", "/a/%252e%252e/b", "/a/%25252e/b"),
    *("/a%2fb", "/a%2Fb", "/a%252fb", "/a/..%2fb", "/a%255cb"),
    *("/a\\b", "/a/..\\b", "/a%5cb", "/a%5C..%5Cb"),
    *("/a%00", "/a%00/../b", "/a%0a", "/a%0D%0Ab", "/a%09b", "/a%7f", "/a\x00", "/a\x7f"),
    *("/a/%c0%ae%c0%ae/b", "/a%c0%afb", "/a%e0%80%afb", "/a%f0%80%80%afb", "/a%c1%9cb"),
    *("/a/%ef%bc%8e%ef%bc%8e/b", "/a%ef%bc%8fb", "/a%e2%88%95b", "/caf%c3%a9", "/caf\xe9"),
    *("//a", "/a//b", "/a//", "/a;x", "/a;/b", "/a/..;/b", "/a;x=y/b", "/a%3bx", "/a%3B"),
    *("/a%3fb", "/a%23b", "/a#b", "/a#/../b", "/a%25", "/a%", "/a%2", "/a%zz", "/a%u002fb"),
    *("/a/..%20/b", "/a/%20/b", "/a/.%20./b", "/a/%20..", "/a b", '/a"b', "/a|b", "/{a}", "/<a>"),
    *("/a^b", "/a`b", "/[a]"),
]


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_ambiguous(path: str) -> None:
    what = ambiguity(path)
    assert what
    # It is told to clients and logged: of the path itself nothing is repeated.
    assert len(path) < 4 or path[1:] not in what


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/a", "/a/", "/api/v1/query_range", "/a.b/c..d/.e", "/a-b_c~d", "/a%20b", "/a%41"),
        *("/a:b@c", "/a=b&c", "/!$&'()*+,", "/..a", "/a..", "/%7Ea", "/a%22%3C%3E%7B%7D", "*"),
    ],
)
def test_what_means_the_same_to_all_is_not(path: str) -> None:
    assert ambiguity(path) is None


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("api", "does not begin with a slash"),
        ("*", "does not begin with a slash"),
        ("https://example.com/api", "does not begin with a slash"),
        ("/a?b", "a query"),
        ("/a%20b", "an encoded character"),
        ("/a/../b", "dots"),
        ("/a//b", "an empty segment"),
        ("/a;b", "a `;`"),
        ("/a b", "must be encoded"),
        ("/caf\xe9", "beyond ASCII"),
        ("/a/b**", "must stand alone"),
    ],
)
def test_an_entry_that_no_path_could_fit_is_refused(entry: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        PathRules(["/fine", entry])


def test_a_path_beyond_measure_is_not_admitted() -> None:
    longest = "/a" + "b" * (MAX_LENGTH - 2)
    assert admitted("/**", longest)
    assert not admitted("/**", longest + "b")


# What programs make of a path, each by itself.


def overlong(path: str) -> str:
    """Decode as careless decoders do: without asking for the shortest form."""
    data = unquote_to_bytes(path.encode("utf-8", "surrogateescape"))
    data = re.sub(
        rb"[\xc0\xc1]([\x80-\xbf])",
        lambda found: bytes([(found[0][0] & 1) << 6 | found[1][0] & 0x3F]),
        data,
    )
    return re.sub(rb"\xe0\x80\xaf|\xf0\x80\x80\xaf", b"/", data).decode("latin-1")


def without_dot_segments(path: str) -> str:
    """RFC 3986 section 5.2.4, climbing above the root as the worst do not."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    joined = "/".join(kept)
    return joined if joined.startswith("/") else f"/{joined}"


def each_segment(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda path: "/".join(map(change, path.split("/")))


READINGS: list[Callable[[str], str]] = [
    unquote,
    lambda path: unquote(path, "latin-1"),
    overlong,
    lambda path: re.sub("%u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), path),
    lambda path: path.replace("\\", "/"),
    lambda path: re.sub("/+", "/", path),
    lambda path: path.partition("\0")[0],
    lambda path: path.partition("?")[0].partition("#")[0],
    lambda path: re.sub("[\t\r\n]", "", path),
    lambda path: unicodedata.normalize("NFKC", path),
    without_dot_segments,
    each_segment(lambda segment: segment.partition(";")[0]),
    each_segment(lambda segment: segment if segment in (".", "..") else segment.rstrip(" .")),
    each_segment(str.strip),
]


def readings(path: str) -> set[str]:
    """Return what a path can become under any of these, in any order, again and again."""
    found = {path}
    fresh = [path]
    while fresh and len(found) < 500:
        now = fresh.pop()
        for read in READINGS:
            became = read(now)
            if became not in found:
                found.add(became)
                fresh.append(became)
    return found


PIECES = [
    *("/", "//", "/allowed", "/allowed/", "/open/", "/deep/a/x", "a", "b", "secret", "/secret"),
    *("/..;/", "/..%3b/"),
    *("..", ".", "/..", "/../", "/./", "...", "%2e", "%2E%2e", "%252e", "%25252e%25252e", "%u002e"),
    *("%2f", "%2F", "%252f", "%5c", "%255c", "\\", "\\..\\", "%c0%af", "%c0%ae", "%e0%80%af"),
    *(";", ";x", "%3b", "%253b", "?", "%3f", "#", "%23", "%00", "%0a", "%09", "\t", "\x7f", "%20"),
    *("%41", "%61", "%77", "%", "%25", "%zz", "\xe9", "%ef%bc%8f", "%e2%80%a4", "*", "**", ","),
]
PATHS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@settings(max_examples=1500)
@given(st.one_of(PATHS, PATHS.map("/allowed/".__add__), PATHS.map("/open/a".__add__)))
@example("/allowed/%2e%2e/secret")
@example("/allowed/..%5csecret")
@example("/open/a%2fsecret")
@example("/allowed/..;/secret")
def test_whatever_is_admitted_stays_under_the_rules_however_it_is_read(path: str) -> None:
    rules = PathRules(["/allowed", "/open/a*", "/deep/**/x"])
    if ambiguity(path) is not None or not rules.admit(path):
        return
    for reading in readings(path):
        # A slash less at the end is no other resource.
        assert rules.admit(reading) or rules.admit(f"{reading}/"), (path, reading)


@settings(max_examples=1500)
@given(st.text(alphabet="/.%25fFcCeE0;\\ ab*\x00\xc0\xaf", max_size=12).map("/allowed/".__add__))
def test_the_same_of_characters_at_random(path: str) -> None:
    test = test_whatever_is_admitted_stays_under_the_rules_however_it_is_read
    test.hypothesis.inner_test(path)  # type: ignore[attr-defined]
