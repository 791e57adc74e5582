"""Which requests the target may get twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.upstream.repeatable import is_repeatable

REMOTE_WRITE = [("X-Prometheus-Remote-Write-Version", "0.1.0")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND", "QUERY"])
def test_what_is_idempotent_is_repeatable(method: str) -> None:
    assert is_repeatable(method, "/x", [])


@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK", "get", "Query", "WHATEVER"])
def test_another_method_is_not(method: str) -> None:
    assert not is_repeatable(method, "/x", [])


@pytest.mark.parametrize(
    "target",
    ["/api/v1/query", "/api/v1/query_range?x=/", "/a/b/api/v1/labels", "/api/v1/read?"],
)
def test_a_query_of_prometheus_by_post_is(target: str) -> None:
    assert is_repeatable("POST", target, [])
    assert not is_repeatable("PATCH", target, [])


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/admin/tsdb/delete_series",
        "/api/v1/query/x",
        "/x?/api/v1/query",
        "/xapi/v1/query",
        "/api/v1/notes",
        "/api/v1/queries",
        "/api/v1%2Fquery",
    ],
)
def test_a_path_that_only_looks_like_one_is_not(target: str) -> None:
    assert not is_repeatable("POST", target, [])


def test_a_remote_write_is() -> None:
    assert is_repeatable("POST", "/ingest", REMOTE_WRITE)
    snappy = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")]
    assert is_repeatable("POST", "/ingest", snappy)
    assert not is_repeatable("POST", "/ingest", snappy[:1])


@given(st.text(), st.lists(st.tuples(st.text(), st.text())))
def test_only_a_post_is_looked_at_closer(target: str, fields: list[tuple[str, str]]) -> None:
    assert is_repeatable("GET", target, fields)
    assert not is_repeatable("PATCH", target, [*fields, *REMOTE_WRITE])
    is_repeatable("POST", target, fields)
