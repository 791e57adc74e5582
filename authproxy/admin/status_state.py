"""Pure rules: the state of the service in a word or a few, and the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Data = dict[str, Any]

READY, TROUBLE, NOT_READY, DRAINING = "ready", "ready, with trouble", "not ready", "draining"


def state_of(workers: Sequence[Data], reasons: Sequence[str]) -> str:
    """Return the state, given what is amiss."""
    if any(worker["draining"] for worker in workers):
        return DRAINING
    if not any(worker["ready"] for worker in workers):
        return NOT_READY
    return TROUBLE if reasons else READY


def headline(state: str, reasons: Sequence[str]) -> str:
    """Return the state for people: with the reason where requests pass all the same."""
    return f"ready, but {'; '.join(reasons)}" if state == TROUBLE else state


def reasons_of(
    workers: Iterable[Data],
    silent: Sequence[object],
    routes: Sequence[Data],
    certificate: Data | None,
) -> list[str]:
    """Return what is amiss, each once, in the order in which it matters."""
    found = [
        *(reason for route in routes for reason in _of_route(route, several=len(routes) > 1)),
        *(["a worker is not ready"] if not all(worker["ready"] for worker in workers) else []),
        *(["a worker does not respond"] if silent else []),
        *(
            ["the certificate that clients are shown has expired"]
            if certificate is not None and certificate["state"] == "expired"
            else []
        ),
    ]
    return list(dict.fromkeys(found))


def _of_route(route: Data, *, several: bool) -> Iterator[str]:
    where = f" (route {route['name']})" if several else ""
    for refusing in route["refusing"]:
        yield f"{refusing['summary']}{where}"
    tokens = route["tokens"]
    if not all(token["valid"] for token in tokens):
        yield f"there is no valid token{where}"
    elif not route["ready"]:
        yield f"a route is not ready{where}"
    elif any(token["error"] for token in tokens):
        yield f"the token is not refreshed{where}"
    if any(token["mismatch"] for token in tokens):
        yield f"the token is of another identity{where}"
