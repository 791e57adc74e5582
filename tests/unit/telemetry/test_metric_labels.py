"""Label values that clients choose are bounded, whatever clients do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.telemetry.metric_labels import (
    MAX_COMBINATIONS,
    MAX_LENGTH,
    MAX_VALUES,
    OTHER,
    BoundedLabels,
    BoundedValues,
    product_of,
)


@pytest.mark.parametrize(
    ("user_agent", "product"),
    [
        ("Prometheus/2.42.0", "Prometheus/2.42.0"),
        ("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/130.0", "Mozilla/5.0"),
        ("curl", "curl"),
        ("otelcol/0.1 (linux/amd64)", "otelcol/0.1"),
        ("a b/1", "a"),
        ("", ""),
        ("(comment only)", OTHER),
        ("x" * 1000, "x" * MAX_LENGTH),
    ],
)
def test_a_user_agent_is_reduced_to_product_and_version(user_agent: str, product: str) -> None:
    assert product_of(user_agent) == product


def test_the_first_values_keep_their_names_and_later_ones_are_other() -> None:
    bounded = BoundedValues(limit=3)
    assert [bounded(value) for value in "abcdab"] == ["a", "b", "c", OTHER, "a", "b"]


def test_a_long_value_is_cut_and_known_again() -> None:
    bounded = BoundedValues(limit=1)
    assert bounded("/" + "x" * 5000) == bounded("/" + "x" * 6000) == "/" + "x" * (MAX_LENGTH - 1)


def test_each_label_is_bounded_by_itself() -> None:
    labels = BoundedLabels()
    for number in range(MAX_VALUES):
        labels("GET", f"/{number}", "agent")
    assert labels("GET", "/one-more", "agent") == ("GET", OTHER, "agent")
    assert labels("PUT", "/1", "another") == ("PUT", "/1", "another")


def test_combinations_are_bounded_too() -> None:
    labels = BoundedLabels()
    met = {
        labels(f"M{method}", f"/{path}", f"agent{agent}")
        for method in range(12)
        for path in range(20)
        for agent in range(20)
    }
    assert len(met) <= MAX_COMBINATIONS + 12
    assert ("M11", OTHER, OTHER) in met


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=50))
def test_the_same_request_is_always_counted_in_one_place(
    requests: list[tuple[str, str, str]],
) -> None:
    labels = BoundedLabels()
    first = [labels(*request) for request in requests]
    assert [labels(*request) for request in requests] == first
    assert all(len(value) <= MAX_LENGTH for each in first for value in each)
