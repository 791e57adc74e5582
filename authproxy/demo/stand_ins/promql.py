"""The little of PromQL that an instant query to the stand-in store may use.

A selector (`up`, `up{job="a",instance!~"b.*"}`, `{__name__="up"}`) or a
constant (`vector(1)`, `1`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from authproxy.demo.stand_ins.remote_write import Sample

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SELECTOR = re.compile(rf"(?P<name>{_NAME})?\s*(?:\{{(?P<matchers>.*)\}})?", re.DOTALL)
_MATCHER = re.compile(
    r"""\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<operator>=~|!~|!=|=)\s*"""
    r"""(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*(?:,|$)""",
    re.DOTALL,
)
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|[iI]nf|NaN)"
_CONSTANT = re.compile(rf"(?P<vector>vector\(\s*)?(?P<value>{_NUMBER})(?(vector)\s*\))")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class BadQuery(ValueError):
    """Not a query that is understood here; the message says why."""


@dataclass(frozen=True)
class Constant:
    """A number, alone (`scalar`) or as a vector without labels."""

    value: float
    scalar: bool


@dataclass(frozen=True)
class Matcher:
    """A condition on one label; a missing label has the empty value."""

    label: str
    operator: str
    value: str

    def matches(self, labels: dict[str, str]) -> bool:
        """Tell whether a series with these labels is meant."""
        actual = labels.get(self.label, "")
        if self.operator in ("=~", "!~"):
            found = re.fullmatch(self.value, actual) is not None
        else:
            found = actual == self.value
        return found == (self.operator[0] == "=")


@dataclass(frozen=True)
class Selector:
    """An instant vector selector."""

    matchers: tuple[Matcher, ...]

    def latest(self, samples: list[Sample], at: float) -> list[Sample]:
        """Return of each matching series the latest sample up to `at` (epoch seconds)."""
        latest: dict[tuple[tuple[str, str], ...], Sample] = {}
        for sample in samples:
            if sample.timestamp > at * 1000:
                continue
            known = latest.get(sample.labels)
            if known is None or known.timestamp <= sample.timestamp:
                latest[sample.labels] = sample
        return [
            sample
            for labels, sample in latest.items()
            if all(matcher.matches(dict(labels)) for matcher in self.matchers)
        ]


def parse(query: str) -> Selector | Constant:
    """Read a query. Raises BadQuery."""
    query = query.strip()
    constant = _CONSTANT.fullmatch(query)
    if constant is not None:
        return Constant(float(constant["value"]), scalar=constant["vector"] is None)
    selector = _SELECTOR.fullmatch(query)
    if not query or selector is None:
        raise BadQuery(f"only a selector, a number or vector() is understood here, not {query!r}")
    matchers = list(_matchers(selector["matchers"] or ""))
    if selector["name"]:
        matchers.append(Matcher("__name__", "=", selector["name"]))
    if all(matcher.matches({}) for matcher in matchers):
        raise BadQuery("a selector must contain at least one matcher that demands something")
    return Selector(tuple(matchers))


def format_value(value: float) -> str:
    """Return a sample's value as Prometheus prints it."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _matchers(text: str) -> list[Matcher]:
    found = []
    position = 0
    while text[position:].strip():
        matcher = _MATCHER.match(text, position)
        if matcher is None:
            raise BadQuery(f"cannot read the matchers from {text[position:]!r} on")
        value = _ESCAPE.sub(r"\1", matcher["quoted"][1:-1])
        if matcher["operator"] in ("=~", "!~"):
            try:
                re.compile(value)
            except re.error as error:
                raise BadQuery(f"bad regular expression {value!r}: {error}") from error
        found.append(Matcher(matcher["label"], matcher["operator"], value))
        position = matcher.end()
    return found
