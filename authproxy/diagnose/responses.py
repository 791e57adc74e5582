"""Pure rules: what a target's response to a harmless request means, and the hints."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from authproxy.diagnose.identity import Token
from authproxy.diagnose.kinds import HarmlessRequest, Kind, is_azure_monitor
from authproxy.diagnose.steps import Advice, Finding, Outcome, Rule, first
from authproxy.http1.urls import TargetURL
from authproxy.settings.audiences import scope_for_host, scope_of

_PRIVATE_LINK = re.compile(r"private.?(link|endpoint)|public.?(network|access)|perimeter", re.I)
_EMPTY = re.compile(r"empty|payload|body|no (data|time.?series|samples)", re.IGNORECASE)
_WRONG_ENDPOINT = re.compile(r"stream|immutable|collection.?rule|api.?version", re.IGNORECASE)
_API_STATUS = re.compile(r'^\{.*?"status" ?: ?"(success|error)"')
_RESOURCE = re.compile(r'\bresource(?:_id)?="?([^",\s]+)')
_TENANT = re.compile(r'\bauthorization(?:_uri)?="?https://[^/",\s]+/([0-9A-Za-z.-]+)')


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
        return is_azure_monitor(scope_for_host(self.url.host) or self.scope)


def judge(response: Response, asked: Asked) -> Finding:
    """Return what the response means."""
    meaning = _meaning(response, asked)
    request = asked.request
    url = f"{asked.url.origin}{request.target}"
    summary = f"{request.method} {url} was answered with {response.status} {response.reason}"
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
        Rule(status == 401, "it does not take the token", *_unauthorized(response, asked)),
        Rule(status == 403, "it refuses the identity", *_forbidden(response, asked)),
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
            "that is no answer of Prometheus's API",
            Advice(
                "Something else than Prometheus's API answers: a sign-in page, a portal, a gateway",
                "Look at the answer, and correct TARGET_HOST",
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


def _unauthorized(response: Response, asked: Asked) -> tuple[Advice, ...]:
    other_audience = _other_audience(asked)
    audience, ours = asked.token.audience, asked.token.tenant
    wanted = _found(_RESOURCE, response.challenge)
    wanted = wanted if wanted and scope_of(wanted) != asked.scope else None
    home = _found(_TENANT, response.challenge)
    foreign = ours and home not in (None, ours, "common", "organizations")
    return (
        other_audience,
        Advice(
            f"The target wants tokens for {wanted}, and this one is for {audience}",
            f"Set AUDIENCE={wanted}",
            when=wanted and not other_audience.when,
        ),
        Advice(
            f"The target takes tokens for something else than {audience}",
            "Set AUDIENCE to the application ID URI or client ID that it expects",
            when=not (wanted or other_audience.when or asked.azure),
        ),
        Advice(
            f"The target belongs to the tenant {home}, and the token is of {ours}",
            f"Use an identity of that tenant: AAD_TENANT_ID={home}",
            when=foreign,
        ),
        Advice(
            "The target belongs to another tenant or cloud than the identity"
            + (f" ({ours})" if ours else ""),
            "Use an identity of the target's tenant",
            when=not foreign,
        ),
    )


def _forbidden(response: Response, asked: Asked) -> tuple[Advice, ...]:
    #: Whether it is known which role is needed, and where.
    known = asked.azure and asked.request.kind is not Kind.OTHER
    writing = asked.request.kind is Kind.INGESTION
    find_rule = (
        "az monitor data-collection rule list --query "
        f"\"[?immutableId=='{asked.request.rule}'].id\" --output tsv"
        if asked.request.rule
        else "az monitor account show --resource-group GROUP --name WORKSPACE --query "
        "defaultIngestionSettings.dataCollectionRuleResourceId --output tsv"
    )
    find_workspace = (
        "az monitor account list --query "
        f"\"[?metrics.prometheusQueryEndpoint=='https://{asked.url.host.lower()}'].id\" "
        "--output tsv"
    )
    assign = (
        f"az role assignment create --assignee-object-id {asked.token.object_id or 'OBJECT_ID'} "
        f"--assignee-principal-type {'User' if asked.token.is_user else 'ServicePrincipal'}"
    )
    later = "Wait and check again"
    return (
        _other_audience(asked),
        Advice(
            "The target takes requests from its private endpoints only",
            "Reach it through one, or allow public network access",
            when=_PRIVATE_LINK.search(response.text),
        ),
        Advice(
            f"The target gives {asked.token.object_id or 'the identity'} no right to this",
            "Assign it a role there",
            when=not known,
        ),
        Advice(
            "A gateway or firewall before the target refuses", "Ask whoever runs it", when=not known
        ),
        Advice(
            'The identity lacks the role "Monitoring Metrics Publisher" on the data collection '
            "rule of the workspace",
            "Assign it there. On the workspace it has no effect",
            (
                f"RULE_ID=$({find_rule})",
                f'{assign} --role "Monitoring Metrics Publisher" --scope "$RULE_ID"',
            ),
            when=known and writing,
        ),
        Advice(
            'The identity lacks the role "Monitoring Data Reader" on the Azure Monitor workspace',
            "Assign it there. On the data collection rule it has no effect, nor has "
            '"Monitoring Reader"',
            (
                f"WORKSPACE_ID=$({find_workspace})",
                f'{assign} --role "Monitoring Data Reader" --scope "$WORKSPACE_ID"',
            ),
            when=known and not writing,
        ),
        Advice(
            "The role is assigned, but Azure is still spreading it: that takes up to 30 minutes",
            f"{later}; what Prometheus writes meanwhile is not lost" if writing else later,
            when=known,
        ),
    )


def _other_audience(asked: Asked) -> Advice:
    """Return advice for a token for something else than the target's host implies.

    Version 2.0 tokens have a client ID for audience, of which nothing can be said.
    """
    audience, wanted = asked.token.audience, scope_for_host(asked.url.host) or ""
    return Advice(
        f"The token is for {audience}, and {asked.url.host} takes those for "
        f"{wanted.removesuffix('/.default')} only",
        f"Leave AUDIENCE out, or set AUDIENCE={wanted}",
        when=wanted and "://" in audience and scope_of(audience.rstrip("/").lower()) != wanted,
    )


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None
