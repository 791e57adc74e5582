"""Series of requests and exchanges: found by bounded labels, and shown as the SDK shows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider

from authproxy.telemetry.instruments import Instruments
from authproxy.telemetry.metric_labels import MAX_VALUES, OTHER
from authproxy.telemetry.metrics_registry import MetricsRegistry
from authproxy.telemetry.series import BOUNDARIES_SECONDS, EndedExchange, EndedRequest, RequestTable

FINE = EndedRequest("GET", "/x", "Prometheus/3.5.0 (linux)", "http", "t.test", 200, 200)


def test_requests_that_differ_in_no_label_have_one_series() -> None:
    table = RequestTable()
    series = table.find(FINE)
    assert table.find(FINE._replace(request_bytes=9, text="x", user_agent="Prometheus/3.5.0")) is (
        series
    )
    assert table.find(FINE._replace(seen_status=503)) is not series
    assert len(table.every()) == 2


def test_what_clients_make_up_is_bounded_and_a_known_method_keeps_its_name() -> None:
    table = RequestTable()
    for number in range(3000):
        of_number = f"/{number}"
        table.find(FINE._replace(method=f"M{number}", path=of_number, user_agent=f"a{of_number}"))
    assert len(table.every()) < 2 * MAX_VALUES
    series = table.find(FINE)
    assert dict(series.labels)["method"] == dict(series.labels)["path"] == OTHER
    assert dict(series.attributes)["http.request.method"] == "GET"
    assert table.find(FINE) is series


_ENDS = st.tuples(
    st.builds(
        FINE._replace,
        method=st.sampled_from(["GET", "POST", "BREW"]),
        path=st.sampled_from(["/", '/"\\\n', "/é"]),
        status=st.sampled_from([200, 403, 500]),
        seen_status=st.sampled_from([200, 503]),
        error=st.sampled_from([None, "TargetTimeout"]),
        scheme=st.sampled_from(["http", "https"]),
    ),
    st.sampled_from([0.0, *BOUNDARIES_SECONDS, 0.0015, 61.0]),
)


def page(ends: list[tuple[EndedRequest, float]], *, measured: bool) -> dict[object, float]:
    """Return the samples of all histograms, as the SDK measured them or as we did."""
    registry = MetricsRegistry()
    provider = MeterProvider([registry.reader], shutdown_on_exit=False)
    instruments = Instruments(provider.get_meter("test"), measured=measured)
    if not measured:
        registry.histograms = instruments.histograms
    for request, seconds in ends:
        instruments.request_ended(request._replace(began=False), seconds)
        status = request.status if request.error is None else None
        exchange = EndedExchange("GET", "t.test", 443, status, request.error)
        instruments.exchange_ended(exchange, seconds)
    samples: dict[object, float] = {}
    for family in registry.collect():
        if family.type == "histogram":
            for sample in family.samples:
                labels = sorted(sample.labels.items())
                named = family.name, family.documentation, family.unit, sample.name
                samples[named, tuple(labels)] = sample.value
    provider.shutdown()
    return samples


@given(st.lists(_ENDS, max_size=10))
def test_our_histograms_are_shown_as_the_sdk_shows_its_own(
    ends: list[tuple[EndedRequest, float]],
) -> None:
    ours = page(ends, measured=False)
    assert ours == pytest.approx(page(ends, measured=True))
    assert bool(ours) == bool(ends)
