"""Pure rules: where on the proxy the references and cookies of a target's response lead.

Facts. A client resolves a reference of the response against the URL that it requested, which is
one of the proxy (RFC 9110 section 10.2.2): a reference with the target's own authority leads it
past the proxy, where it has no token. A path of the target is another one on the proxy where the
target's URL has a path of its own, which goes in front of each request's (`TargetURL.join`), or
where a route takes a prefix off. A cookie is for the host and the path that it names (RFC 6265
section 5.3), and clients drop one that names another host than they asked.

What follows. What is on the target's origin becomes a path on the proxy, provided that the proxy
leads from that path to just the one that the target named; else it stays, or becomes, the whole URL
that the target meant. All other origins pass untouched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from authproxy.http1.headers import Field
from authproxy.http1.urls import DEFAULT_PORTS, TargetURL, canonical_host, path_of

#: Fields whose whole value is a reference (RFC 9110 sections 10.2.2 and 8.7).
_REFERENCES = frozenset({"location", "content-location"})

#: Fields whose whole value is an absolute URL, of the state of a long-running operation: clients
#: take no other (Microsoft Azure REST API Guidelines, "Long-Running Operations"; Azure Resource
#: Manager, "Track asynchronous Azure operations").
_URLS = frozenset({"operation-location", "azure-asyncoperation"})
_REWRITTEN = _REFERENCES | _URLS | {"link", "refresh", "set-cookie"}

#: Scheme, authority, path, and query with fragment (RFC 3986 appendix B): it fits every text.
_PARTS = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(.*)", re.DOTALL)

#: Browsers take these out of a reference, so that what is left may lead elsewhere (URL Standard).
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: A reference of a Link field, or a quoted string, in which there is none (RFC 8288 section 3).
_LINK = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|<([^<>]*)>', re.DOTALL)

#: What stands before the reference of a Refresh field (HTML Standard, "shared declarative
#: refresh").
_REFRESH = re.compile(r"[0-9. \t]*[;,]?[ \t]*(?:url[ \t]*=[ \t]*)?", re.IGNORECASE)


@dataclass(frozen=True)
class TargetOnProxy:
    """A target's URL, and the prefix of the proxy's paths below which its paths are."""

    target: TargetURL
    prefix: str = ""

    def returned(
        self, fields: Iterable[Field], requested: str, origin: Callable[[], str]
    ) -> list[Field]:
        """Return the fields of a response with references and cookies as they hold on the proxy.

        `requested` is the request target that the target was sent, `origin` returns the proxy's
        as the client knows it. Order and repeats are kept.
        """
        return [
            (name, self._value(key, value, requested, origin) if key in _REWRITTEN else value)
            for name, value in fields
            for key in (name.lower(),)
        ]

    def _value(self, key: str, value: str, requested: str, origin: Callable[[], str]) -> str:
        if key == "set-cookie":
            return self.cookie(value)
        if key in _REFERENCES:
            return self.reference(value, requested)
        if key in _URLS:
            reference = self.reference(value, requested)
            # Behind `//` comes the name of another host.
            is_path = reference.startswith("/") and not reference.startswith("//")
            return f"{origin()}{reference}" if is_path else reference
        if key == "link":
            return self.link(value, requested)
        return self.refresh(value, requested)

    def reference(self, value: str, requested: str) -> str:
        """Return a URI reference of a response as it holds on the proxy."""
        if _CONTROL.search(value):
            return value
        scheme, authority, path, rest = _PARTS.fullmatch(value).groups()  # type: ignore[union-attr]
        if authority is None:
            if scheme is not None or not path or self._is_whole:
                return value
            if not path.startswith("/"):
                path = f"{path_of(requested).rpartition('/')[0]}/{path}"
        elif not self._is_own(scheme, authority):
            return value
        path = without_dot_segments(path or "/")
        inside = self._inside(path)
        if inside is None:
            return f"{self.target.origin}{path}{rest}" if authority is None else value
        reference = f"{self.prefix}{inside}{self._without_own_query(rest)}"
        # `//host` names a host, and browsers take `/\host` for it (RFC 3986 section 4.2).
        return f"/.{reference}" if reference[1:2] in ("/", "\\") else reference

    def link(self, value: str, requested: str) -> str:
        """Return a Link field with its references as they hold on the proxy."""

        def returned(match: re.Match[str]) -> str:
            reference: str | None = match[1]
            return match[0] if reference is None else f"<{self.reference(reference, requested)}>"

        return _LINK.sub(returned, value)

    def refresh(self, value: str, requested: str) -> str:
        """Return a Refresh field with its reference as it holds on the proxy."""
        at = _REFRESH.match(value).end()  # type: ignore[union-attr]  # it fits every text
        quote = value[at : at + 1]
        if quote not in ("'", '"'):
            return value[:at] + self.reference(value[at:], requested)
        reference, closing, behind = value[at + 1 :].partition(quote)
        return f"{value[: at + 1]}{self.reference(reference, requested)}{closing}{behind}"

    def cookie(self, value: str) -> str:
        """Return a Set-Cookie field with Path and Domain as they hold on the proxy.

        A Domain that is the target's host is left out: the cookie is for the proxy's host then.
        """
        pair, *attributes = value.split(";")
        # Clients drop one that is named so unless its Path is `/` (RFC 6265bis section 4.1.3.2).
        keeps_path = pair.lstrip(" \t").lower().startswith("__host-") or self._is_whole
        kept = [pair]
        for attribute in attributes:
            name, _, given = (part.strip(" \t") for part in attribute.partition("="))
            if name.lower() == "domain" and given.lower().removeprefix(".") == self.target.host:
                continue
            if name.lower() == "path" and given.startswith("/") and not keeps_path:
                attribute = f" {name}={self._cookie_path(given)}"
            kept.append(attribute)
        return ";".join(kept)

    @cached_property
    def _is_whole(self) -> bool:
        """Whether all of the target's paths are the same on the proxy."""
        return not (self.prefix or self.target.path or self.target.query)

    @cached_property
    def _own_hosts(self) -> frozenset[str]:
        """The target's authority, with and without the scheme's own port."""
        target = self.target
        host = canonical_host(f"[{target.host}]" if ":" in target.host else target.host)
        is_default = target.port == DEFAULT_PORTS[target.scheme]
        return frozenset({f"{host}:{target.port}", *([host] if is_default else [])})

    def _is_own(self, scheme: str | None, authority: str) -> bool:
        if scheme is not None and scheme.lower() != self.target.scheme:
            return False
        try:
            return canonical_host(authority) in self._own_hosts
        except ValueError:  # with user information, for one
            return False

    def _inside(self, path: str) -> str | None:
        """Return the path that the target's own goes in front of, None where there is none."""
        own = self.target.path
        base = own.removesuffix("/")
        if path == own:
            inside = "/"
        elif path.startswith(f"{base}/"):
            inside = path[len(base) :]
        else:
            return None
        return inside if path_of(self.target.join(inside)) == path else None

    def _without_own_query(self, rest: str) -> str:
        """Return query and fragment without the target's own query, which goes in front again."""
        own = f"?{self.target.query}"
        behind = rest[len(own) :]
        if own == "?" or not rest.startswith(own) or behind[:1] not in ("", "&", "#"):
            return rest
        return f"?{behind[1:]}" if behind.startswith("&") else behind

    def _cookie_path(self, path: str) -> str:
        """Return the prefix below which the proxy has what is below this path of the target."""
        own = self.target.path.rstrip("/")
        covered = path.rstrip("/")
        if own == covered or own.startswith(f"{covered}/"):
            return self.prefix or "/"
        return self.prefix + (path[len(own) :] if path.startswith(f"{own}/") else path)


def without_dot_segments(path: str) -> str:
    """Return an absolute path without its dot segments (RFC 3986 section 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
