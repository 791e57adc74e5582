"""Hostile paths, and what programs behind the proxy could make of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote, unquote_to_bytes

from hypothesis import strategies as st

#: Each can be read in more than one way.
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
_TAILS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)

#: Paths that try to leave /allowed, /open/a* and /deep/**/x.
PATHS = st.one_of(_TAILS, _TAILS.map("/allowed/".__add__), _TAILS.map("/open/a".__add__))
