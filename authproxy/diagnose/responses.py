"""Pure rules: what a target's response to a harmless request means, and the hints."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from authproxy.diagnose.identity import Token
from authproxy.diagnose.kinds import HarmlessRequest
from authproxy.diagnose.steps import Finding, Outcome, Rule, first
from authproxy.errors import Advice
from authproxy.http1.urls import TargetURL
from authproxy.settings.audiences import is_azure_monitor
from authproxy.settings.azure_services import Kind, service_of
from authproxy.upstream.refused_identity import Refusal, causes

_EMPTY = re.compile(r"empty|payload|body|no (data|time.?series|samples)", re.IGNORECASE)
_WRONG_ENDPOINT = re.compile(r"stream|immutable|collection.?rule|api.?version", re.IGNORECASE)
_API_STATUS = re.compile(r'^\{.*?"status" ?: ?"(success|error)"')


@dataclass(frozen=True)
class Response:
    """What is looked at in a response. `text` is one line, without anything secret."""

    status: int
    reason: str
    text: str = ""
    challenge: str = ""
    location: str = ""


@dataclass(frozen=True)
class Asked:
    """What was asked, of whom, and with which token."""

    url: TargetURL
    scope: str
    request: HarmlessRequest
    token: Token

    @property
    def azure(self) -> bool:
        service = service_of(self.url.host)
        return service.kind is not Kind.OTHER if service else is_azure_monitor(self.scope)


def judge(response: Response, asked: Asked) -> Finding:
    """Return what the response means."""
    meaning = _meaning(response, asked)
    request = asked.request
    url = f"{asked.url.origin}{request.target}"
    summary = f"{request.method} {url} got {response.status} {response.reason}"
    facts = {
        "kind": request.kind.value,
        "method": request.method,
        "url": url,
        "status": response.status,
    }
    notes = []
    if response.text and meaning.outcome is not Outcome.OK:
        notes.append(f"the target says: {response.text}")
        facts["message"] = response.text
    if response.challenge:
        notes.append(f"WWW-Authenticate: {response.challenge}")
    return replace(
        meaning,
        summary=summary.rstrip() + (f": {meaning.summary}" if meaning.summary else ""),
        facts=facts,
        notes=tuple(notes),
    )


def _meaning(response: Response, asked: Asked) -> Finding:
    status, text, request = response.status, response.text, asked.request
    exact, writing = request.exact, request.kind is Kind.INGESTION
    #: Whether the response is to have the form of Prometheus's HTTP API.
    querying = exact and request.kind is Kind.QUERY and request.method == "GET"
    api_status = _found(_API_STATUS, text)
    look_at = (
        "https://status.azure.com and the workspace's health" if asked.azure else "its own log"
    )
    paste = Advice(
        "Data collection rule or stream in the URL are not the workspace's",
        'Paste the "Metrics ingestion endpoint" of the workspace\'s overview page anew, and have '
        "senders keep its whole path",
        (
            "az monitor data-collection rule list "
            "--query '[].[immutableId, name, resourceGroup]' --output table",
        ),
    )
    return first(
        Rule(status == 401, "it does not take the token", *_causes(response, asked)),
        Rule(status == 403, "it refuses the identity", *_causes(response, asked)),
        Rule(
            status == 429,
            "it takes the identity, but is throttling",
            Advice("The target's limits are reached", "Ask for less, or for higher limits"),
            outcome=Outcome.WARNING,
        ),
        Rule(
            status >= 500,
            "it is in trouble itself",
            Advice(
                "The target, or a gateway before it, is failing", f"Try again; look at {look_at}"
            ),
        ),
        Rule(
            300 <= status < 400,
            f"it leads to {response.location or 'elsewhere'}",
            Advice(
                "The target wants a person to sign in, or knows the path under another URL",
                "Set TARGET_HOST to where it leads, if that takes tokens: authproxy passes "
                "redirects on and follows none",
            ),
            outcome=Outcome.FAILED if exact else Outcome.WARNING,
        ),
        Rule(
            writing and not exact,  # no client asks for HEAD /
            "it is reached; that tells nothing of the role",
            Advice(
                "TARGET_HOST has no path, so that the data collection rule is not known here",
                "Name the path that Prometheus writes to (of the Metrics ingestion endpoint), to "
                "see whether the identity may write",
                (
                    "authproxy check --path '/dataCollectionRules/dcr-0123456789abcdef/streams/"
                    "Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24'",
                ),
            ),
            outcome=Outcome.WARNING,
        ),
        Rule(
            querying and status == 404,
            "there is no Prometheus API",
            Advice(
                "TARGET_HOST is not the query endpoint, or has a path that does not belong to it",
                'Set it to the "Query endpoint" of the workspace\'s overview page',
            ),
        ),
        Rule(
            querying and api_status is None,
            "that is no response of Prometheus's API",
            Advice(
                "Something else than Prometheus's API responds: a sign-in page, portal or gateway",
                "Look at the response, and correct TARGET_HOST",
            ),
        ),
        Rule(
            querying and (api_status != "success" or status >= 300),
            "it takes the identity, but not the query",
            outcome=Outcome.WARNING,
        ),
        Rule(status < 300, "", outcome=Outcome.OK),
        Rule(not exact, "it is reached", outcome=Outcome.OK),
        Rule(writing and status == 404, "there is nothing to write to", paste),
        Rule(
            writing and status == 400 and _WRONG_ENDPOINT.search(text) and not _EMPTY.search(text),
            "it cannot do anything with the URL",
            paste,
        ),
        Rule(
            writing and status == 400,
            "it takes the identity, and finds nothing in an empty write",
            outcome=Outcome.OK,
        ),
        Rule(
            status == 404,
            "it takes the request, and finds nothing",
            Advice("There is nothing at this path", "Correct the path"),
        ),
        Rule(True, f"it is reached, and does not like {request.method}", outcome=Outcome.WARNING),
    )


def _causes(response: Response, asked: Asked) -> tuple[Advice, ...]:
    token, request = asked.token, asked.request
    return causes(
        Refusal(
            response.status,
            asked.url.host,
            asked.scope,
            request.kind,
            text=response.text,
            challenge=response.challenge,
            rule=request.rule,
            audience=token.audience,
            tenant=token.tenant,
            object_id=token.object_id,
            is_user=token.is_user,
        )
    )


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None
