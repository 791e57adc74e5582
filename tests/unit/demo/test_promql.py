"""The little of PromQL that the store understands."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.demo.stand_ins.promql import BadQuery, Constant, Selector, format_value, parse
from authproxy.demo.stand_ins.remote_write import Sample

SAMPLES = [
    Sample.of("up", 1, 1000, job="a"),
    Sample.of("up", 2, 2000, job="b"),
    Sample.of("up", 3, 3000, job="a"),
    Sample.of("down", 4, 1000, job="a", path='C:\\"x"'),
]


def values(query: str, at: float = 10) -> list[float]:
    selector = parse(query)
    assert isinstance(selector, Selector)
    return sorted(sample.value for sample in selector.latest(SAMPLES, at))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("up", [2, 3]),
        (" up ", [2, 3]),
        ("up{}", [2, 3]),
        ('up{job="a"}', [3]),
        ("up{job='a'}", [3]),
        ('up { job = "a" , }', [3]),
        ('up{job!="a"}', [2]),
        ('up{job=~"a|b"}', [2, 3]),
        ('up{job=~"."}', [2, 3]),
        ('up{job!~"a.*"}', [2]),
        ('{job="a"}', [3, 4]),
        ('{__name__=~"up|down",job="a"}', [3, 4]),
        ('up{missing=""}', [2, 3]),
        ('up{missing!=""}', []),
        (r'{path="C:\\\"x\""}', [4]),
        ('{path="a,b}"}', []),
        ("other", []),
    ],
)
def test_a_selector_finds_the_latest_of_each_series(query: str, expected: list[float]) -> None:
    assert values(query) == expected


def test_an_expression_has_to_match_the_whole_value() -> None:
    assert values('up{job=~"x?"}') == []


def test_what_comes_later_than_the_time_does_not_count() -> None:
    assert values("up", at=2) == [1, 2]
    assert values("up", at=0.5) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("1", Constant(1, scalar=True)),
        ("-1.5e3", Constant(-1500, scalar=True)),
        ("vector(1)", Constant(1, scalar=False)),
        ("vector( +Inf )", Constant(math.inf, scalar=False)),
    ],
)
def test_a_constant_is_itself(query: str, expected: Constant) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "",
        "{}",
        '{job=""}',
        '{job=~".*"}',
        "sum(up)",
        "up + 1",
        "vector(1",
        'up{job="a"',
        'up{job="a}',
        "up{job=a}",
        'up{"a"="b"}',
        'up{job=~"("}',
        'up{job="a"} {job="b"}',
    ],
)
def test_other_queries_are_refused(query: str) -> None:
    with pytest.raises(BadQuery):
        parse(query)


@given(st.text())
def test_any_text_is_parsed_or_refused(query: str) -> None:
    with suppress(BadQuery):
        parse(query)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_any_value_can_be_asked_for(value: str) -> None:
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    selector = parse(f"up{{job={quoted},x!={json.dumps('y')}}}")
    assert isinstance(selector, Selector)
    assert [matcher.value for matcher in selector.matchers] == [value, "y", "up"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.5, "-0.5"),
        (1e300, "1e+300"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_values_print_as_prometheus_prints_them(value: float, text: str) -> None:
    assert format_value(value) == text
