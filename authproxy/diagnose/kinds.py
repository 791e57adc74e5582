"""Pure rules: what kind of target there is, and which request does it no harm."""

from __future__ import annotations

import re
from dataclasses import dataclass

from authproxy.http1.headers import Field
from authproxy.http1.urls import REMOTE_WRITE_PATH, TargetURL, path_of
from authproxy.settings.audiences import kind_of
from authproxy.settings.azure_services import Kind

QUERY_PATH = "/api/v1/query?query=vector(1)"

#: A WriteRequest without series is no byte of protobuf, and that in snappy's block format
#: is the length alone.
EMPTY_WRITE = b"\0"
_WRITE_FIELDS = (
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
)

_READING = re.compile(r"/api/v1/(query|query_range|series|labels?|metadata|status)\b")
_RULE = re.compile(r"/dataCollectionRules/(dcr-[0-9A-Za-z]+)(?=/)", re.IGNORECASE)


@dataclass(frozen=True)
class HarmlessRequest:
    """What is asked of the target: `kind` is what its response can tell about.

    `exact` is false where the settings do not name the path that clients use.
    """

    kind: Kind
    method: str
    target: str
    fields: tuple[Field, ...] = ()
    body: bytes | None = None
    exact: bool = True

    @property
    def rule(self) -> str | None:
        """The immutable id of the data collection rule in the path."""
        found = _RULE.search(self.target)
        return found[1] if found else None


def request_for(
    url: TargetURL, scope: str, *, path: str | None = None, only_remote_write: bool = False
) -> HarmlessRequest:
    """Return the request that fits the target, or that fits `path` where one is given.

    `path` is what a client would ask for, with its query; the target's own is
    put in front of it. With `only_remote_write` (INGESTION_URL) there is one
    URL. Nothing is written and nothing is changed: an empty remote write, a
    reading query, or HEAD.
    """
    if only_remote_write:
        return _empty_write(url.join("/"))
    kind = kind_of(url, scope)
    if path is None and kind is Kind.INGESTION and url.path.strip("/"):
        path = "/" if url.path.endswith(REMOTE_WRITE_PATH) else REMOTE_WRITE_PATH
    elif path is None and kind is Kind.QUERY:
        path = QUERY_PATH
    target = url.join(path or "/")
    plain = path_of(target)
    if plain.endswith(REMOTE_WRITE_PATH):
        return _empty_write(target)
    if _READING.search(plain):
        return HarmlessRequest(Kind.QUERY, "GET", target)
    return HarmlessRequest(kind, "HEAD", target, exact=path is not None)


def _empty_write(target: str) -> HarmlessRequest:
    return HarmlessRequest(Kind.INGESTION, "POST", target, _WRITE_FIELDS, EMPTY_WRITE)
