"""Pure rules about URLs: the target's, the request's, and how they join."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address
from urllib.parse import unquote, urlsplit

from authproxy.errors import BadRequest

#: The one path that is forwarded where INGESTION_URL is set.
REMOTE_WRITE_PATH = "/api/v1/write"

DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")

#: What no request target holds, as a regular expression has it within brackets: blanks and control
#: characters, which end it or hide; and `#`, as a fragment is for the client alone (RFC 9112
#: section 3.2, RFC 3986 section 3.5), and servers disagree on whether it ends the path. All else
#: passes as it came, though the grammar has neither bytes from 0x80 on nor any of "<>\^`{|}.
NOT_IN_REQUEST_TARGETS = r"\x00-\x20#\x7f"
_NO_REQUEST_TARGET = re.compile(f"[{NOT_IN_REQUEST_TARGETS}]")

#: uri-host and port (RFC 9110 section 7.2, RFC 3986 section 3.2.2).
_HOST_AND_PORT = re.compile(
    r"(\[[0-9a-f:.]{2,45}\]|(?:[0-9a-z._~!$&'()*+,;=-]|%[0-9a-f]{2})*)(?::(?:0*([0-9]{1,5}))?)?"
)
_NAME = re.compile(r"[0-9a-z._~!$&'()*+,;=-]*")


@dataclass(frozen=True)
class TargetURL:
    """Where requests are forwarded to."""

    scheme: str
    host: str
    port: int
    path: str = ""
    query: str = ""

    @classmethod
    def parse(cls, value: str, *, allow_http: bool = False) -> TargetURL:
        """Read `host`, `host:port` or a URL.

        The scheme is https whatever the value says, as the retired proxy had
        it, unless `allow_http`. Raises ValueError with a sentence that says
        what is wrong with the value (never quoting it: it may hold a password).
        """
        if any(not "!" <= char <= "~" for char in value):
            raise ValueError("it holds blanks, control or non-ASCII characters")
        try:
            parts = urlsplit(value if _SCHEME.match(value) else f"https://{value}")
        except ValueError:  # unbalanced brackets
            raise ValueError("it names no host") from None
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError(f"its scheme {parts.scheme!r} is neither https nor http")
        if "@" in parts.netloc:
            raise ValueError("it holds user information (the part before '@')")
        if parts.fragment:
            raise ValueError("it has a fragment (the part after '#')")
        try:
            port = parts.port
        except ValueError:
            raise ValueError("its port is not a number from 1 to 65535") from None
        if port == 0 or parts.netloc.endswith(":"):
            raise ValueError("its port is not a number from 1 to 65535")
        if not parts.hostname or not _HOST.fullmatch(parts.hostname):
            raise ValueError("it names no host")
        scheme = parts.scheme if allow_http else "https"
        return cls(scheme, parts.hostname, port or DEFAULT_PORTS[scheme], parts.path, parts.query)

    @cached_property
    def authority(self) -> str:
        """The value of Host: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @cached_property
    def origin(self) -> str:
        """Scheme and authority, without a trailing slash."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.origin}{self.path}" + (f"?{self.query}" if self.query else "")

    def join(self, request_target: str) -> str:
        """Return the request target to send for the one that came in.

        Paths meet in exactly one slash and queries in one `&`, as in Go's
        `httputil.NewSingleHostReverseProxy`, with one difference: a request
        for `/` alone reaches the target's own path with no slash added, so
        that a whole ingestion endpoint can be the target. Without a path or
        query of the target's own, every byte stays as it came.
        """
        if not self.path and not self.query:
            return request_target
        path, mark, query = request_target.partition("?")
        if path == "/" and self.path:
            path = self.path
        elif self.path:
            path = f"{self.path.removesuffix('/')}/{path.removeprefix('/')}"
        if self.query:
            query = f"{self.query}&{query}" if query else self.query
            mark = "?"
        return f"{path}{mark}{query}"


def origin_form(raw: str, mount: str = "") -> str:
    """Return a raw request target in origin form: the one reading of it.

    Everything that decides on a path decides on this, never on PATH_INFO,
    which servers decode and normalise each in their own way. Of an absolute
    form only path and query count (RFC 9112 section 3.2.2); `//host/x` is a
    path. Where the application is mounted below `mount` (SCRIPT_NAME), that part
    is taken off; a server may find it also in `/x/../mount` and `/%6Dount`, but
    what is left of those is ambiguous.

    Raises BadRequest there, for what cannot be a request target, and where the
    server provides none.
    """
    if not raw:
        raise BadRequest("the WSGI server provides no REQUEST_URI")
    if _NO_REQUEST_TARGET.search(raw):
        raise BadRequest("the request target holds a blank, a control character or a `#`")
    if not has_origin_form(raw):
        absolute = _SCHEME.match(raw)
        if not absolute:
            raise BadRequest("the request target is neither a path nor a URL")
        rest = raw[absolute.end() :]
        path_at = re.search(r"[/?]", rest)
        raw = rest[path_at.start() :] if path_at else "/"
        if not raw.startswith("/"):
            raw = f"/{raw}"
    if mount:
        if raw != mount and not raw.startswith((f"{mount}/", f"{mount}?")):
            raise BadRequest(f"the request target does not begin with {mount} as it is written")
        raw = raw[len(mount) :]
        raw = raw if raw.startswith("/") else f"/{raw}"
    return raw


def has_origin_form(raw: str) -> bool:
    """Tell whether a request target came as a path, or as `*`: neither URL nor authority."""
    return raw.startswith("/") or raw == "*"


def requested_host(raw: str, host: str) -> str:
    """Return the host that a request is for, with its port if it has one, as `canonical_host` does.

    `raw` is its request target, `host` its Host field: that of an absolute form counts
    more (RFC 9112 section 3.2.2). Raises BadRequest for one that is none.
    """
    absolute = None if has_origin_form(raw) else _SCHEME.match(raw)
    if absolute:
        host = re.split(r"[/?]", raw[absolute.end() :], maxsplit=1)[0].rpartition("@")[2]
    try:
        return canonical_host(host.strip(" \t"))
    except ValueError as error:
        raise BadRequest(f"the host of the request cannot be one: {error}") from None


def canonical_host(text: str) -> str:
    """Return a host, with its port if it has one, as all ways to write it have in common.

    In small letters, nothing encoded, without the dot of the root and without
    an empty port; IPv6 addresses in their shortest form (RFC 3986 section 6.2.2,
    RFC 5952). Raises ValueError with a sentence that does not quote it.
    """
    match = _HOST_AND_PORT.fullmatch(text.lower())
    if match is None or int(match[2] or 0) > 65535:
        raise ValueError("it is neither a host name nor host:port")
    if match[1].startswith("["):
        try:
            name = f"[{IPv6Address(match[1][1:-1]).compressed}]"
        except ValueError:
            raise ValueError("it has brackets and no IPv6 address in them") from None
    else:
        name = unquote(match[1]).lower().removesuffix(".")
        if not _NAME.fullmatch(name):
            raise ValueError("it holds an encoded character that no host has")
    return f"{name}:{match[2]}" if match[2] else name


def path_of(target: str) -> str:
    """Return a request target without its query."""
    return target.partition("?")[0]
