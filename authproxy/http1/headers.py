"""Pure rules: which header fields cross the proxy, each way.

WSGI hands request fields over without order or case, so the canonical case is
sent (`x-foo` becomes `X-Foo`); values are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache

from authproxy.http1.grammar import TOKEN

Field = tuple[str, str]

#: Fields that end at this hop (RFC 9110 section 7.6.1; the Proxy- ones are
#: from section 11.7 and from practice).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

#: Request fields by which a client proves who it is.
INBOUND_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-authproxy-token"})

#: Request fields that never pass as they came: every inbound credential, what
#: this proxy writes itself, and Expect, which the server in front of us has
#: already met (RFC 9110 section 10.1.1).
_ENDS_HERE = (
    HOP_BY_HOP
    | INBOUND_CREDENTIALS
    | {
        "host",
        "content-length",
        "x-forwarded-for",
        "expect",
    }
)

#: Request fields that have some servers and frameworks serve another path or method
#: than those of the request line (IIS URL Rewrite, Symfony, Express, OData).
OVERRULING = frozenset(
    {
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    }
)

#: CONNECT asks for a tunnel and TRACE for the request's own fields, with the
#: token among them: neither may reach the target (RFC 9110 section 9.3).
REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})

_TOKEN = re.compile(TOKEN)


def is_token(text: str) -> bool:
    """Tell whether `text` can name a field or a method (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


@lru_cache(maxsize=512)
def canonical(name: str) -> str:
    """Return a field name in its usual case, from any case or a CGI name."""
    return "-".join(part.capitalize() for part in name.replace("_", "-").split("-"))


def list_members(value: str) -> list[str]:
    """Return the lower-case members of a comma-separated field value."""
    return [member for part in value.split(",") if (member := part.strip(" \t").lower())]


def forwardable(
    fields: Sequence[Field],
    *,
    overrides: Mapping[str, str],
    client: str | None,
    dropped: Set[str] = frozenset(),
) -> list[Field]:
    """Return the request fields that go on to the target.

    Left out are hop-by-hop fields, those that Connection names, every inbound
    credential, the fields that `overrides` replaces, and those `dropped`, by
    lower-case names (OVERRULING, where path or method decide). `overrides` has
    canonical names and is added whole, as is `client`, the client's address,
    at the end of X-Forwarded-For. Connection can name away only what came
    from the client, never what is added here or by the sender of the request.
    """
    left_out = _ENDS_HERE
    if dropped or overrides:
        left_out = left_out.union(dropped, map(str.lower, overrides))
    if named := [m for name, value in fields if name == "Connection" for m in list_members(value)]:
        left_out = left_out.union(named)
    kept = [field for field in fields if field[0].lower() not in left_out]
    kept += overrides.items()
    if "X-Forwarded-For" not in overrides:
        came_by = [
            v for name, v in fields if name == "X-Forwarded-For" and name.lower() not in named
        ]
        if hops := ", ".join([*came_by, client] if client else came_by):
            kept.append(("X-Forwarded-For", hops))
    return kept


def returnable(fields: Iterable[Field]) -> list[Field]:
    """Return the response fields that go back to the client, in order, repeats kept.

    Left out are hop-by-hop fields and those that Connection names.
    """
    fields = list(fields)
    kept = [field for field in fields if field[0].lower() not in HOP_BY_HOP]
    if len(kept) == len(fields):
        return kept
    named = {
        member
        for name, value in fields
        if name.lower() == "connection"
        for member in list_members(value)
    }
    return kept if named <= HOP_BY_HOP else [f for f in kept if f[0].lower() not in named]


_WRITE_VERSIONS = frozenset(
    {"X-Prometheus-Remote-Write-Version", "X-Victoriametrics-Remote-Write-Version"}
)


def is_remote_write(fields: Mapping[str, str]) -> bool:
    """Tell a Prometheus remote write by its version field or by its content.

    `fields` are those of the request, by canonical names. See the Prometheus
    remote-write specification, "Protocol": a snappy-packed protobuf body with
    X-Prometheus-Remote-Write-Version. vmagent's own protocol has another field
    (VictoriaMetrics, app/vmagent/remotewrite/client.go), and is packed with zstd.
    """
    if not fields.keys().isdisjoint(_WRITE_VERSIONS):
        return True
    is_protobuf = fields.get("Content-Type", "").lower().startswith("application/x-protobuf")
    return is_protobuf and fields.get("Content-Encoding", "").lower() == "snappy"
