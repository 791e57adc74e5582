"""What is used of libraries that they do not promise to keep.

A release that renames one fails here, and so does a private member of
theirs that is used and not listed.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from http.client import HTTPResponse
from types import ModuleType

import opentelemetry._logs
import opentelemetry.sdk._logs
import pytest
from opentelemetry import instrumentation
from opentelemetry.instrumentation import _semconv
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetrySemanticConventionStability,
    _OpenTelemetryStabilitySignalType,
    _StabilityMode,
)
from requests import Response
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

import authproxy

#: Methods of a named tuple, and what abc makes.
_NOT_PRIVATE = ("_asdict", "_replace", "_abc_impl")
_LIBRARIES = ("requests", "urllib3", "http", "ssl", "opentelemetry")

_LOGS = "telemetry/ exports the log; OpenTelemetry has no public name for it yet"
_CONVENTIONS = "telemetry/sdk.py has the Flask instrumentation alone follow the stable conventions"

#: Class or module, member, and what it is used for.
USED: list[tuple[type | ModuleType, str, str]] = [
    (HTTPConnectionPool, "ConnectionCls", "identity/bounded_fetch.py replaces it"),
    (HTTPConnection, "_new_conn", "identity/bounded_fetch.py bounds the time of each connection"),
    (HTTPConnection, "_new_conn", "upstream/connecting.py opens each to one of its addresses"),
    (Response, "_content", "identity/bounded_fetch.py has read it already"),
    (HTTPResponse, "fp", "identity/bounded_fetch.py bounds what is read"),
    (HTTPConnection, "_tunnel", "upstream/connecting.py has TLS of its own behind CONNECT"),
    (HTTPConnection, "_tunnel_host", "the same"),
    (HTTPConnection, "_tunnel_scheme", "the same, for a forward proxy that is reached by TLS"),
    (opentelemetry, "_logs", _LOGS),
    (opentelemetry.sdk, "_logs", _LOGS),
    (instrumentation, "_semconv", _CONVENTIONS),
    (_semconv, "_OpenTelemetrySemanticConventionStability", _CONVENTIONS),
    (_OpenTelemetrySemanticConventionStability, "_initialize", _CONVENTIONS),
    (
        _OpenTelemetrySemanticConventionStability,
        "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING",
        _CONVENTIONS,
    ),
    (_semconv, "_OpenTelemetryStabilitySignalType", _CONVENTIONS),
    (_OpenTelemetryStabilitySignalType, "HTTP", _CONVENTIONS),
    (_semconv, "_StabilityMode", _CONVENTIONS),
    (_StabilityMode, "DEFAULT", _CONVENTIONS),
    (_StabilityMode, "HTTP", _CONVENTIONS),
]


@pytest.mark.parametrize(
    ("owner", "member"),
    [pytest.param(owner, member, id=f"{owner.__name__}-{member}") for owner, member, _ in USED],
)
def test_it_is_there_still(owner: type | ModuleType, member: str) -> None:
    assert hasattr(owner, member) or f"self.{member}" in inspect.getsource(owner)


def test_no_private_member_is_used_that_is_not_listed() -> None:
    listed = {member for _, member, _ in USED if member.startswith("_")}
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(authproxy.__path__, "authproxy.")
        if found.name not in ("authproxy.__main__", "authproxy.wsgi")
    ]
    used = {name for module in modules for name in overridden(module) | touched(module)}
    assert used == listed


def overridden(module: ModuleType) -> set[str]:
    """Return the private members that classes of ours define over one of the libraries'."""
    return {
        member
        for each in vars(module).values()
        if inspect.isclass(each) and each.__module__ == module.__name__
        for member in vars(each)
        if is_private(member)
        for base in each.__mro__[1:]
        if base.__module__.partition(".")[0] in _LIBRARIES and member in vars(base)
    }


def touched(module: ModuleType) -> set[str]:
    """Return the private members of others that a module uses which imports the libraries."""
    tree = ast.parse(inspect.getsource(module))
    imported = list(imports(tree))
    if not imported:
        return set()
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named -= defined(tree)
    return {name for name in named.union(*imported) if is_private(name)}


def imports(tree: ast.Module) -> Iterator[list[str]]:
    """Yield the parts of each name that a module imports from the libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in _LIBRARIES:
                yield name.split(".")


def defined(tree: ast.Module) -> set[str]:
    """Return the names that a module gives: its functions, and what it sets on `self`."""
    return {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    } | {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def is_private(name: str) -> bool:
    """Whether it is private, other than a named tuple's `_replace` and what `abc` leaves."""
    return name.startswith("_") and not name.endswith("__") and name not in _NOT_PRIVATE
