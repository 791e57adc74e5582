"""Small models of what servers read a path as before they look for what serves it.

Each takes a raw path and returns the path that it compares with its locations, None where it
refuses the request. Those of nginx and Apache httpd are held to the real ones by tests. The others
are of no certain version: they take what any version is known to have taken, as an attacker hopes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from urllib.parse import unquote

from tests.support.paths import best_fit, each_segment, overlong, without_authority


class _Refused(Exception):
    """The server refuses such a path."""


def _decoded(path: str, *, keep: str = "", refuse: str = "\0") -> str:
    """Decode once, byte by byte; leave these characters encoded, or refuse them."""

    def one(found: re.Match[str]) -> str:
        char = chr(int(found[1], 16)) if found[1] else "\0"
        if char in refuse:
            raise _Refused
        return found[0] if char in keep else char

    return re.sub("%([0-9A-Fa-f]{2})?", one, path)


def _resolved(path: str, *, merge: bool = True) -> str:
    """Remove dot segments, and empty ones; a path that climbs above the root is refused."""
    *segments, last = path.split("/")[1:] or [""]
    kept: list[str] = []
    for segment in [*segments, last]:
        if segment == "..":
            if not kept:
                raise _Refused
            kept.pop()
        elif segment != "." and (segment or not merge):
            kept.append(segment)
    if last in (".", "..") or (merge and not last):
        kept.append("")
    return "/" + "/".join(kept)


def _nginx(path: str) -> str:
    """ngx_http_parse_complex_uri."""
    return _resolved(_decoded(path))


def _apache(path: str) -> str:
    """ap_normalize_path, then ap_unescape_url, with AllowEncodedSlashes off as by default."""
    if re.search("%(?![0-9A-Fa-f]{2})", path):
        raise _Refused
    unreserved = "%(2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])"
    text = re.sub(unreserved, lambda found: chr(int(found[1], 16)), path)
    return _decoded(_resolved(text), refuse="\0/")


def _iis(path: str) -> str:
    """HTTP.sys before a folder of NTFS."""
    if re.search("%(?![0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})", path):
        raise _Refused
    encoded = re.sub("[\x80-\xff]", lambda found: f"%{ord(found[0]):02x}", path)
    text = re.sub("%u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), overlong(encoded))
    text = best_fit(unicodedata.normalize("NFKC", text))
    text = text.partition("\0")[0].replace("\\", "/").lower()
    text = each_segment(lambda each: re.split(":[:$]", each)[0])(text)
    return _resolved(each_segment(lambda each: each if each == ".." else each.rstrip(" ."))(text))


def _kestrel(path: str) -> str:
    """Kestrel and the routing of ASP.NET Core: `%2F` stays, case does not count."""
    return _resolved(_decoded(path, keep="/"), merge=False).rstrip("/").lower() or "/"


def _servlet(path: str) -> str:
    """Tomcat with ALLOW_BACKSLASH and decoded slashes: parameters go before anything is decoded."""
    text = each_segment(lambda each: each.partition(";")[0])(path)
    return _resolved(_decoded(text).replace("\\", "/"))


def _url_parser(path: str) -> str:
    """`new URL(request.url, base)` of the WHATWG, whose pathname is then decoded."""
    text = without_authority(path.replace("\\", "/"))
    dots = each_segment(lambda each: re.sub("%2e", ".", each, flags=re.IGNORECASE))
    segments = [each if set(each) <= {"."} else raw for each, raw in _pairs(dots(text), text)]
    return unquote(_resolved("/".join(segments), merge=False))


def _pairs(first: str, second: str) -> list[tuple[str, str]]:
    return list(zip(first.split("/"), second.split("/"), strict=True))


def _twice(path: str) -> str:
    """Two servers in a row, of which each decodes, and the last one in C."""
    return _resolved(_decoded(_resolved(_decoded(path)), refuse="").partition("\0")[0])


def _lenient(path: str) -> str:
    """A framework that decodes and keeps what ASCII can print."""
    return _resolved(re.sub("[^ -~]", "", unquote(path)))


MODELS: dict[str, Callable[[str], str]] = {
    "nginx": _nginx,
    "apache2": _apache,
    "IIS": _iis,
    "Kestrel": _kestrel,
    "servlets": _servlet,
    "URL parser": _url_parser,
    "two in a row": _twice,
    "lenient": _lenient,
}


def read_by(server: str, path: str) -> str | None:
    """Return what a server compares with its locations, None where it refuses the path."""
    try:
        return MODELS[server](path)
    except _Refused:
        return None
