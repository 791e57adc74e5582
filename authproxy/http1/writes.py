"""Pure rules: which requests write telemetry, in batches that senders drop for good on 4xx."""

from __future__ import annotations

from collections.abc import Mapping

from authproxy.http1.headers import is_remote_write
from authproxy.http1.urls import path_of

#: How the paths end to which OTLP exporters post (OTLP specification, "OTLP/HTTP Request").
_OTLP_PATHS = ("/v1/metrics", "/v1/logs", "/v1/traces")

#: Binary and JSON encoding there.
_OTLP_TYPES = frozenset({"application/x-protobuf", "application/json"})


def is_otlp_write(method: str, target: str, fields: Mapping[str, str]) -> bool:
    """Tell an OTLP export over HTTP by its method, the end of its path, and its content.

    `target` is the request target as the target sees it, `fields` are those of the request,
    by canonical names.
    """
    if method != "POST" or not path_of(target).endswith(_OTLP_PATHS):
        return False
    media_type = fields.get("Content-Type", "").partition(";")[0].strip(" \t").lower()
    return media_type in _OTLP_TYPES


def is_write(method: str, target: str, fields: Mapping[str, str]) -> bool:
    """Tell a Prometheus remote write or an OTLP export; parameters as of `is_otlp_write`."""
    return is_remote_write(fields) or is_otlp_write(method, target, fields)
