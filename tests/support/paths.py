"""Hostile paths, and what programs behind the proxy could make of them."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable
from urllib.parse import unquote

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
    *("/a^b", "/a`b", "/[a]", "/a./b", "/a.", "/a..", "/a%20", "/a%20/b", "/a.%20/", "/%20a"),
    *("/a::$DATA", "/a:$I30:$INDEX_ALLOCATION/b", "/a%3a%3a$DATA", "/a:%24I30/b"),
]


def overlong(path: str) -> str:
    """Decode as careless decoders of UTF-8 do: without asking for the shortest form."""

    def run(found: re.Match[str]) -> str:
        data = bytes.fromhex(found[0].replace("%", ""))
        data = re.sub(
            rb"[\xc0\xc1]([\x80-\xbf])",
            lambda pair: bytes([(pair[0][0] & 1) << 6 | pair[1][0] & 0x3F]),
            data,
        )
        data = re.sub(rb"\xe0\x80\xaf|\xf0\x80\x80\xaf", b"/", data)
        return data.decode("utf-8", "replace")

    return re.sub("(?:%[0-9A-Fa-f]{2})+", run, path)


def unquote_bytewise(path: str) -> str:
    """Decode each byte to the character of its number."""
    return re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), path)


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


def best_fit(path: str) -> str:
    """What Windows makes of characters that a code page does not have."""
    return path.translate({0x2044: "/", 0x2215: "/", 0x2216: "\\", 0xA5: "\\", 0x20A9: "\\"})


def without_authority(path: str) -> str:
    """Resolve a request target as if it were a reference (RFC 3986 section 4.2)."""
    found = re.fullmatch("//+[^/]*(/.*)?", path, re.DOTALL)
    return (found[1] or "/") if found else path


#: What programs do to a path, each by itself.
READINGS: list[Callable[[str], str]] = [
    lambda path: re.sub("%u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), path),
    lambda path: re.sub("%(?![0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})", "", path),
    lambda path: path.replace("\\", "/"),
    lambda path: re.sub("/+", "/", path),
    without_authority,
    lambda path: path.partition("\0")[0],
    lambda path: re.split("[\0-\x1f]", path)[0],
    lambda path: re.sub("[\0-\x1f\x7f]", "", path),
    lambda path: path.partition("?")[0].partition("#")[0],
    lambda path: re.sub("[\t\r\n]", "", path),
    without_dot_segments,
    str.lower,
    each_segment(lambda segment: segment.partition(";")[0]),
    each_segment(lambda segment: re.split(":[:$]", segment)[0]),
    each_segment(lambda segment: segment if segment in (".", "..") else segment.rstrip(" .")),
    each_segment(str.strip),
]

#: The same for those who take what is beyond ASCII, which they have as UTF-8, for what it looks
#: like; and for those who have bytes, and drop them.
LOOKING_ALIKE = [
    *READINGS,
    unquote,
    overlong,
    lambda path: unicodedata.normalize("NFKC", path),
    best_fit,
]
ASCII_ALONE = [
    *READINGS,
    unquote_bytewise,
    lambda path: path.encode("ascii", "ignore").decode(),
]


def readings(path: str) -> set[str]:
    """Return what a path can become under any of these, in any order, again and again."""
    as_ascii = re.sub("[\x80-\xff]", lambda found: f"%{ord(found[0]):02x}", path)
    return _closure(as_ascii, LOOKING_ALIKE) | _closure(path, ASCII_ALONE)


def _closure(path: str, changes: list[Callable[[str], str]]) -> set[str]:
    found = {path}
    fresh = deque([path])
    while fresh and len(found) < 200:
        now = fresh.popleft()
        for change in changes:
            became = change(now)
            if became not in found:
                found.add(became)
                fresh.append(became)
    return found


PIECES = [
    *("/", "//", "/allowed", "/allowed/", "/open/", "/deep/a/x", "a", "b", "secret", "/secret"),
    *("/..;/", "/..%3b/", "SECRET", "sec", "ret", "%53ecret", "/%20", "%20/", "./", "%20"),
    *("..", ".", "/..", "/../", "/./", "...", "%2e", "%2E%2e", "%252e", "%25252e%25252e", "%u002e"),
    *("%2f", "%2F", "%252f", "%5c", "%255c", "\\", "\\..\\", "%c0%af", "%c0%ae", "%e0%80%af"),
    *(";", ";x", "%3b", "%253b", "?", "%3f", "%23", "%00", "%0a", "%09", "\t", "\x7f"),
    *("%41", "%61", "%77", "%", "%25", "%zz", "\xe9", "%ef%bc%8f", "%e2%80%a4", "*", "**", ","),
    *("%u002f", "%u0073", "%ef%bc%b3", "%ef%bc%85", "%e2%88%95", "::$DATA", ":", "2f", "u002f"),
]
_TAILS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)

#: Paths that try to leave /allowed, /open/a* and /deep/**/x.
PATHS = st.one_of(_TAILS, _TAILS.map("/allowed/".__add__), _TAILS.map("/open/a".__add__))

#: Paths that try to look like /secret, or to leave it.
SECRETIVE = st.one_of(
    _TAILS.map("/".__add__), _TAILS.map("/secret".__add__), _TAILS.map("/open/".__add__)
)
