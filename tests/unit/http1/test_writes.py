"""Which requests are writes of telemetry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.writes import is_otlp_write, is_write

PROTOBUF = {"Content-Type": "application/x-protobuf"}
SIGNALS = st.sampled_from(["metrics", "logs", "traces"])
PREFIXES = st.sampled_from(["", "/otlp", "/a%2Fb", "/dcr/streams/s/otlp"])


@given(
    SIGNALS, PREFIXES, st.sampled_from(["", "?", "?x=/v1/other"]), st.sampled_from(["", " ; x=y"])
)
def test_an_export_is_known_below_any_path(
    signal: str, prefix: str, query: str, parameter: str
) -> None:
    target = f"{prefix}/v1/{signal}{query}"
    for kind in ("application/x-protobuf", "Application/JSON"):
        assert is_otlp_write("POST", target, {"Content-Type": kind + parameter})


@given(SIGNALS, st.sampled_from(["GET", "PUT", "OPTIONS", "post"]))
def test_only_a_post_is_one(signal: str, method: str) -> None:
    assert not is_otlp_write(method, f"/v1/{signal}", PROTOBUF)


def test_other_paths_and_contents_are_none() -> None:
    for target in ("/v1/metrics/", "/v1/metric", "/xv1/metrics", "/V1/metrics", "/x?/v1/metrics"):
        assert not is_write("POST", target, PROTOBUF)
    for kind in ("", "text/plain", "application/grpc", "application/x-protobuf-x"):
        assert not is_write("POST", "/v1/metrics", {"Content-Type": kind})
    assert not is_write("POST", "/v1/metrics", {})


def test_a_remote_write_is_one_wherever_it_goes() -> None:
    assert is_write("POST", "/", {**PROTOBUF, "Content-Encoding": "snappy"})
    assert is_write("POST", "/x", {"X-Prometheus-Remote-Write-Version": "0.1.0"})
