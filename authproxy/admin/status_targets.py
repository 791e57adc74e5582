"""Pure rules: what /status tells of a target, and why it refuses the identity if it refuses all.

A valid token says nothing of that: a role may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from authproxy.http1.urls import TargetURL
from authproxy.settings.audiences import kind_of
from authproxy.settings.azure_services import Kind
from authproxy.upstream.refused_identity import Refusal, causes

Data = dict[str, Any]

#: Causes that are told: the likeliest.
_TOLD_CAUSES = 2


def of_target(route: Data, health: Data | None, failures: Iterable[Data]) -> Data:
    """Return what is told of a route's target.

    `health` is what `telemetry.target_health.together` has of it, None where no request
    came; `failures` are the latest ones of all routes, the latest first.
    """
    if health is None:
        return {"traffic": None, "refusing": []}
    traffic = {key: _rounded(health[key]) for key in ("requests", "rate", "p50_ms", "p99_ms")}
    refusing = [
        _refusing(route, requests, refusal, failures)
        for requests, refusal in health["refusing"].items()
    ]
    return {"traffic": traffic, "refusing": refusing}


def _rounded(number: float | None) -> float | None:
    return number if number is None or isinstance(number, int) else round(number, 2)


def _refusing(
    route: Mapping[str, Any], requests: str, refusal: Mapping[str, Any], failures: Iterable[Data]
) -> Data:
    url, status = TargetURL.parse(route["target"], allow_http=True), refusal["status"]
    kind = Kind.INGESTION if requests == "write" else kind_of(url, route["audience"])
    refused = Refusal(
        status,
        url.host,
        route["audience"],
        kind,
        text=_said(route["name"] or None, status, failures),
        tenant=route["identity"]["tenant_id"],
        object_id=next((token["oid"] for token in route["tokens"] if token["oid"]), None),
    )
    noun = "query" if kind is Kind.QUERY else "write" if requests == "write" else "request"
    return {
        "requests": requests,
        "summary": f"the target responds with {status} to every {noun}",
        **refusal,
        "causes": [
            {"cause": advice.cause, "hint": advice.hint, "commands": list(advice.commands)}
            for advice in causes(refused)[:_TOLD_CAUSES]
        ],
    }


def _said(route: str | None, status: int, failures: Iterable[Data]) -> str:
    """Return what the target said of its latest refusal, where that is kept."""
    for failure in failures:
        if failure["kind"].startswith("target") and (route, status) == (
            failure["route"],
            failure["status"],
        ):
            text: str = failure["text"]
            # Of a write that is to be sent again, the first line is ours.
            return text.partition("\n")[2] if failure["code"] else text
    return ""
