"""Pure rules: what a target's answer to a harmless request means, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from authproxy.diagnose.identity import Token
from authproxy.diagnose.kinds import HarmlessRequest, Kind, is_azure_monitor
from authproxy.diagnose.steps import Advice, Finding, Outcome
from authproxy.diagnose.token_claims import text_of
from authproxy.http1.urls import TargetURL
from authproxy.settings.audiences import scope_for_host, scope_of

_PUBLISHER, _READER = "Monitoring Metrics Publisher", "Monitoring Data Reader"
_PRIVATE_LINK = re.compile(r"private.?(link|endpoint)|public.?(network|access)|perimeter", re.I)
_EMPTY = re.compile(r"empty|payload|body|no (data|time.?series|samples)", re.IGNORECASE)
_WRONG_ENDPOINT = re.compile(r"stream|immutable|collection.?rule|api.?version", re.IGNORECASE)
_API_STATUS = re.compile(r'\{.*?"status" ?: ?"(success|error)"')
_RESOURCE = re.compile(r'\bresource(?:_id)?="?([^",\s]+)')
_TENANT = re.compile(r'\bauthorization(?:_uri)?="?https://[^/",\s]+/([0-9A-Za-z.-]+)')


@dataclass(frozen=True)
class Seen:
    """What is looked at in an answer. `text` is one line, without anything secret."""

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


def judge(seen: Seen, asked: Asked) -> Finding:
    """Return what the answer means."""
    outcome, meaning, advice = _judged(seen, asked)
    request = asked.request
    answered = f"{seen.status} {seen.reason}".rstrip()
    notes = [f"the target says: {seen.text}"] if seen.text and outcome is not Outcome.OK else []
    if seen.challenge:
        notes.append(f"WWW-Authenticate: {seen.challenge}")
    return Finding(
        f"{request.method} {asked.url.origin}{request.target} was answered with {answered}"
        + (f": {meaning}" if meaning else ""),
        outcome,
        facts={
            "kind": request.kind.value,
            "method": request.method,
            "url": f"{asked.url.origin}{request.target}",
            "status": seen.status,
            **({"message": seen.text} if seen.text and outcome is not Outcome.OK else {}),
        },
        notes=tuple(notes),
        advice=tuple(advice),
    )


_Judgement = tuple[Outcome, str, list[Advice]]


def _judged(seen: Seen, asked: Asked) -> _Judgement:
    status, kind = seen.status, asked.request.kind
    if status == HTTPStatus.UNAUTHORIZED:
        return Outcome.FAILED, "it does not take the token", list(_unauthorized(seen, asked))
    if status == HTTPStatus.FORBIDDEN:
        return Outcome.FAILED, "it refuses the identity", list(_forbidden(seen, asked))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        limits = Advice("The target's limits are reached", "Ask for less, or for higher limits")
        return Outcome.WARNING, "it takes the identity, but is throttling", [limits]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.FAILED, "it is in trouble itself", [_trouble(asked)]
    if 300 <= status < 400:
        return _redirected(seen, asked)
    if not asked.request.exact:
        return _reached(seen, asked)
    if kind is Kind.INGESTION:
        return _written(seen, asked)
    if kind is Kind.QUERY and asked.request.method == "GET":
        return _queried(seen)
    if status < 300:
        return Outcome.OK, "", []
    return _odd(seen, asked)


def _reached(seen: Seen, asked: Asked) -> _Judgement:
    """Judge an answer to HEAD /, which no client will ask for."""
    if asked.request.kind is not Kind.INGESTION:
        return Outcome.OK, "" if seen.status < 300 else "it is reached", []
    path = (
        "/dataCollectionRules/dcr-0123456789abcdef/streams/Microsoft-PrometheusMetrics"
        "/api/v1/write?api-version=2023-04-24"
    )
    advice = Advice(
        "TARGET_HOST has no path, so that the data collection rule is not known here",
        "Name the path that Prometheus writes to (of the Metrics ingestion endpoint), to see "
        "whether the identity may write",
        (f"authproxy check --path '{path}'",),
    )
    return Outcome.WARNING, "it is reached; that tells nothing of the role", [advice]


def _written(seen: Seen, asked: Asked) -> _Judgement:
    """Judge an answer to an empty remote write."""
    if seen.status < 300:
        return Outcome.OK, "", []
    paste = Advice(
        "Data collection rule or stream in the URL are not the workspace's",
        'Paste the "Metrics ingestion endpoint" of the workspace\'s overview page anew, and have '
        "senders keep its whole path",
        (
            "az monitor data-collection rule list "
            "--query '[].[immutableId, name, resourceGroup]' --output table",
        ),
    )
    if seen.status == HTTPStatus.NOT_FOUND:
        return Outcome.FAILED, "there is nothing to write to", [paste]
    if seen.status == HTTPStatus.BAD_REQUEST:
        if _WRONG_ENDPOINT.search(seen.text) and not _EMPTY.search(seen.text):
            return Outcome.FAILED, "it cannot do anything with the URL", [paste]
        return Outcome.OK, "it takes the identity, and finds nothing in an empty write", []
    return _odd(seen, asked)


def _queried(seen: Seen) -> _Judgement:
    """Judge an answer to a query, by the rules of Prometheus's HTTP API."""
    if seen.status == HTTPStatus.NOT_FOUND:
        advice = Advice(
            "TARGET_HOST is not the query endpoint, or has a path that does not belong to it",
            'Set it to the "Query endpoint" of the workspace\'s overview page',
        )
        return Outcome.FAILED, "there is no Prometheus API", [advice]
    status = _API_STATUS.match(seen.text)
    if status and status[1] == "success" and seen.status < 300:
        return Outcome.OK, "", []
    if status:
        return Outcome.WARNING, "it takes the identity, but not the query", []
    advice = Advice(
        "Something else than Prometheus's API answers: a sign-in page, a portal, a gateway",
        "Look at the answer, and correct TARGET_HOST",
    )
    return Outcome.FAILED, "that is no answer of Prometheus's API", [advice]


def _redirected(seen: Seen, asked: Asked) -> _Judgement:
    advice = [
        Advice(
            "The target wants a person to sign in, or knows the path under another URL",
            "Set TARGET_HOST to where it leads, if that takes tokens: authproxy passes redirects "
            "on and follows none",
        )
    ]
    outcome = Outcome.FAILED if asked.request.exact else Outcome.WARNING
    return outcome, f"it leads to {seen.location or 'elsewhere'}", advice


def _odd(seen: Seen, asked: Asked) -> _Judgement:
    if seen.status == HTTPStatus.NOT_FOUND:
        advice = Advice("There is nothing at this path", "Correct the path")
        return Outcome.FAILED, "it takes the request, and finds nothing", [advice]
    return Outcome.WARNING, f"it is reached, and does not like {asked.request.method}", []


def _trouble(asked: Asked) -> Advice:
    where = "https://status.azure.com and the workspace's health" if asked.azure else "its own log"
    return Advice("The target, or a gateway before it, is failing", f"Try again; look at {where}")


def _unauthorized(seen: Seen, asked: Asked) -> Iterator[Advice]:
    mixed_up = audience_mix_up(asked.url, asked.scope, asked.token)
    if mixed_up is not None:
        yield mixed_up
    wanted = _RESOURCE.search(seen.challenge)
    if mixed_up is None and wanted and scope_of(wanted[1]) != asked.scope:
        yield Advice(
            f"The target wants tokens for {wanted[1]}, and this one is for {asked.token.audience}",
            f"Set AUDIENCE={wanted[1]}",
        )
    elif mixed_up is None and not asked.azure:
        yield Advice(
            f"The target takes tokens for something else than {asked.token.audience}",
            "Set AUDIENCE to the application ID URI or client ID that it expects",
        )
    tenant = (asked.token.claims or {}).get("tid")
    home = _TENANT.search(seen.challenge)
    if home and tenant and home[1] not in (tenant, "common", "organizations"):
        yield Advice(
            f"The target belongs to the tenant {home[1]}, and the token is of {tenant}",
            f"Use an identity of that tenant: AAD_TENANT_ID={home[1]}",
        )
    else:
        ours = f" ({text_of(tenant)})" if tenant else ""
        yield Advice(
            f"The target belongs to another tenant or cloud than the identity{ours}",
            "Use an identity of the target's tenant",
        )


def _forbidden(seen: Seen, asked: Asked) -> Iterator[Advice]:
    mixed_up = audience_mix_up(asked.url, asked.scope, asked.token)
    if mixed_up is not None:
        yield mixed_up
    if _PRIVATE_LINK.search(seen.text):
        yield Advice(
            "The target takes requests from its private endpoints only",
            "Reach it through one, or allow public network access",
        )
    if not asked.azure or asked.request.kind is Kind.OTHER:
        who = asked.token.object_id or "the identity"
        yield Advice(f"The target gives {who} no right to this", "Assign it a role there")
        yield Advice("A gateway or firewall before the target refuses", "Ask whoever runs it")
        return
    writes = asked.request.kind is Kind.INGESTION
    role, place = (
        (_PUBLISHER, "data collection rule of the workspace")
        if writes
        else (_READER, "Azure Monitor workspace")
    )
    other = (
        "On the workspace it has no effect"
        if writes
        else 'On the data collection rule it has no effect, nor has "Monitoring Reader"'
    )
    yield Advice(
        f'The identity lacks the role "{role}" on the {place}',
        f"Assign it there. {other}",
        role_commands(asked, role),
    )
    yield Advice(
        "The role is assigned, but Azure is still spreading it: that takes up to 30 minutes",
        "Wait and check again; what Prometheus writes meanwhile is not lost"
        if writes
        else "Wait and check again",
    )


def role_commands(asked: Asked, role: str) -> tuple[str, str]:
    """Return the commands that find the scope of a role and assign it there."""
    if role == _READER:
        variable = "WORKSPACE_ID"
        host = asked.url.host.lower()
        find = (
            "az monitor account list --query "
            f"\"[?metrics.prometheusQueryEndpoint=='https://{host}'].id\" --output tsv"
        )
    elif asked.request.rule is not None:
        variable = "RULE_ID"
        find = (
            "az monitor data-collection rule list --query "
            f"\"[?immutableId=='{asked.request.rule}'].id\" --output tsv"
        )
    else:
        variable = "RULE_ID"
        find = (
            "az monitor account show --resource-group GROUP --name WORKSPACE --query "
            "defaultIngestionSettings.dataCollectionRuleResourceId --output tsv"
        )
    principal = asked.token.object_id or "OBJECT_ID"
    kind = "User" if asked.token.is_user else "ServicePrincipal"
    return (
        f"{variable}=$({find})",
        f"az role assignment create --assignee-object-id {principal} "
        f'--assignee-principal-type {kind} --role "{role}" --scope "${variable}"',
    )


def audience_mix_up(url: TargetURL, scope: str, token: Token) -> Advice | None:
    """Return advice where the token is for something else than the target's host implies.

    Version 2.0 tokens have a client ID there, of which nothing can be said.
    """
    wanted = scope_for_host(url.host)
    audience = token.audience
    if wanted is None or audience is None or "://" not in audience:
        return None
    if scope_of(audience.rstrip("/").lower()) == wanted:
        return None
    return Advice(
        f"The token is for {text_of(audience)}, and {url.host} takes those for "
        f"{wanted.removesuffix('/.default')} only",
        f"Leave AUDIENCE out, or set AUDIENCE={wanted}",
    )
