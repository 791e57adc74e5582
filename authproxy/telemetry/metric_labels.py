"""Pure rules: label values that clients choose, with a bound on how many there are.

A client that makes up paths, methods and user agents would otherwise make a
time series of each, here and in the store behind.
"""

from __future__ import annotations

import re
import threading

from authproxy.http1.grammar import TOKEN

#: What a value is counted as when its label has enough others.
OTHER = "other"

#: Distinct values of one label, and distinct combinations of the three.
MAX_VALUES = 100
MAX_COMBINATIONS = 1000

#: Characters of a value; a longer one is cut.
MAX_LENGTH = 200

#: User agents as sent that are remembered with what they are reduced to.
_MAX_RAW_AGENTS = 1000

#: Methods that the semantic conventions know; clients may send any other.
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)

_PRODUCT = re.compile(f"{TOKEN}(/{TOKEN})?")

#: method, path, user agent
ClientLabels = tuple[str, str, str]


def known_method(method: str) -> str:
    """Return the method, or what the semantic conventions call all others."""
    return method if method in _METHODS else "_OTHER"


def product_of(user_agent: str) -> str:
    """Return product and version of a User-Agent, `Prometheus/2.42.0` say (RFC 9110 10.1.5).

    Empty where there is none, OTHER where it does not begin with a product.
    """
    if not user_agent:
        return ""
    product = _PRODUCT.match(user_agent)
    return product[0][:MAX_LENGTH] if product else OTHER


class BoundedValues:
    """The first values of one label; all later ones are OTHER."""

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self._limit = limit
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def __call__(self, value: str) -> str:
        known = self._known.get(value)
        return self._first_met(value[:MAX_LENGTH]) if known is None else known

    def _first_met(self, value: str) -> str:
        with self._lock:
            if value in self._known or len(self._known) < self._limit:
                return self._known.setdefault(value, value)
        return OTHER


class BoundedLabels:
    """The labels that a client chooses, bounded one by one and in combination."""

    def __init__(self) -> None:
        self._methods, self._paths, self._agents = (BoundedValues() for _ in range(3))
        self._products: dict[str, str] = {}
        self._combinations: dict[ClientLabels, ClientLabels] = {}
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str, user_agent: str) -> ClientLabels:
        """Return what to count a request under."""
        product = self._products.get(user_agent)
        if product is None:
            product = product_of(user_agent)
            if len(self._products) < _MAX_RAW_AGENTS and len(user_agent) <= MAX_LENGTH:
                self._products[user_agent] = product
        labels = self._methods(method), self._paths(path), self._agents(product)
        return self._combinations.get(labels) or self._first_met(labels)

    def _first_met(self, labels: ClientLabels) -> ClientLabels:
        with self._lock:
            if labels in self._combinations or len(self._combinations) < MAX_COMBINATIONS:
                return self._combinations.setdefault(labels, labels)
        return labels[0], OTHER, OTHER
