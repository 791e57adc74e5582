"""Pure rule: whether the target may get a request twice.

A connection that ends without a byte of a response says nothing of whether the target
processed what it had been sent (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

from authproxy.http1.headers import Field, is_remote_write
from authproxy.http1.urls import path_of

#: The idempotent methods of RFC 9110 section 9.2.2, and the safe ones that IANA's registry
#: has besides. All others, unknown ones too, are not.
_IDEMPOTENT = frozenset(
    ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "QUERY", "REPORT", "SEARCH")
)

#: What Prometheus's HTTP API takes by POST without changing anything: long queries, and remote
#: read. Its paths that change something (`/api/v1/admin/...`) have other ends.
_QUERIES = tuple(
    f"/api/v1/{name}"
    for name in (
        "format_query",
        "labels",
        "parse_query",
        "query",
        "query_exemplars",
        "query_range",
        "read",
        "series",
    )
)


def is_repeatable(method: str, target: str, fields: Sequence[Field]) -> bool:
    """Whether sending a request twice has the effect of sending it once.

    So it is with an idempotent method, a query of Prometheus's API, and a remote write, whose
    samples carry their time: the second of two is discarded. `target` is the request target as
    the upstream gets it, `fields` have canonical names.
    """
    if method in _IDEMPOTENT:
        return True
    if method != "POST":
        return False
    return path_of(target).endswith(_QUERIES) or is_remote_write(dict(fields))
