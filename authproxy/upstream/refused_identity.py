"""Pure rules: why a target refuses the identity with 401 or 403, and the hints.

One set of rules for a response in place of the target's, the log and `authproxy check`.
What the target says comes first, then what the host implies, then roles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from authproxy.errors import Advice
from authproxy.settings.audiences import is_azure_monitor, scope_of, unfit
from authproxy.settings.azure_services import Kind, service_of

#: The statuses by which a target refuses an identity.
REFUSED_IDENTITY = (401, 403)

_PRIVATE_LINK = re.compile(r"private.?(link|endpoint)|public.?(network|access)|perimeter", re.I)
_RESOURCE = re.compile(r'\bresource(?:_id)?="?([^",\s]+)')
_EXPECTED = re.compile(r"\bexpected (?:one of )?'?(https?://[^\s',;]+|api://[^\s',;]+)", re.I)
_TENANT = re.compile(r'\bauthorization(?:_uri)?="?https://[^/",\s]+/([0-9A-Za-z.-]+)')

#: The scheme that a challenge begins with (RFC 9110 section 11.6.1).
_SCHEME = re.compile(r"\A([a-z][a-z0-9-]*)(?= |\Z)", re.I)

#: What validators of tokens say: Azure's own, Microsoft.IdentityModel (IDX), Envoy's and others.
_AUDIENCE = re.compile(r"audience|IDX10214|wrong resource", re.IGNORECASE)
_ISSUER = re.compile(r"issuer|IDX10205|(wrong|another|different) tenant|tenant mismatch", re.I)
_EXPIRED = re.compile(r"\bexpired\b|lifetime|not (yet|before)|IDX1022[23]", re.IGNORECASE)
_SIGNATURE = re.compile(r"signature|signing key|IDX105\d\d|jwt verification fail", re.IGNORECASE)


@dataclass(frozen=True)
class Refusal:
    """A target's 401 or 403, and what is known of the request.

    `text` and `challenge` (WWW-Authenticate) hold nothing secret. `rule` is the immutable id
    of the data collection rule in the path; the rest is what the token claims.
    """

    status: int
    host: str
    scope: str
    kind: Kind
    text: str = ""
    challenge: str = ""
    rule: str | None = None
    audience: str = ""
    tenant: str | None = None
    object_id: str | None = None
    is_user: bool = False

    @property
    def azure(self) -> bool:
        """Whether the target is an Azure Monitor workspace."""
        service = service_of(self.host)
        return service.kind is not Kind.OTHER if service else is_azure_monitor(self.scope)

    @property
    def sought(self) -> str:
        """The audience of the token, as claimed or asked for."""
        return self.audience or self.scope.removesuffix("/.default")


def causes(refusal: Refusal) -> tuple[Advice, ...]:
    """Return the likely causes, the most likely first."""
    rules = _unauthorized if refusal.status == 401 else _forbidden
    return tuple(advice for advice in rules(refusal) if advice.when)


def told(refusal: Refusal) -> str:
    """Return the two most likely causes and their hints as sentences."""
    return " Or: ".join(
        f"{advice.cause}. {advice.hint}".rstrip(". ") + "." for advice in causes(refusal)[:2]
    )


def _unauthorized(refusal: Refusal) -> Iterator[Advice]:
    said = f"{refusal.challenge} {refusal.text}"
    audience, ours = refusal.sought, refusal.tenant
    implied = unfit(refusal.host, audience)
    wanted = _found(_RESOURCE, refusal.challenge) or _found(_EXPECTED, said)
    wanted = None if wanted is None or scope_of(wanted) == refusal.scope else wanted
    home = _found(_TENANT, refusal.challenge)
    foreign = bool(ours and home not in (None, ours, "common", "organizations"))
    named = _AUDIENCE.search(said)
    bearer = "bearer" in refusal.challenge.lower()
    scheme = None if bearer else _found(_SCHEME, refusal.challenge)
    other_tenant = _ISSUER.search(said) and not named
    yield Advice(
        f"What responds wants {scheme} credentials and no token: it is not the target, or is not "
        "set up for Entra ID",
        "Check that TARGET_HOST names the service itself and not a portal or gateway before it, or "
        "have that accept Entra ID's tokens",
        when=scheme,
    )
    yield _other_audience(refusal)
    yield Advice(
        f"The target wants tokens for {wanted}, and this one is for {audience}",
        f"Set AUDIENCE={wanted}",
        when=wanted and not implied,
    )
    yield Advice(
        f"The target says that the token is for the wrong audience; it is for {audience}",
        "Set AUDIENCE to the application ID URI or client ID that it expects",
        when=named and not (wanted or implied),
    )
    yield Advice(
        f"The target belongs to the tenant {home}, and the token is of {ours}",
        f"Use an identity of that tenant: AAD_TENANT_ID={home}",
        when=foreign,
    )
    yield Advice(
        "The target says that the token is of the wrong issuer"
        + (f": it is of the tenant {ours}" if ours else ""),
        "Use an identity of the target's tenant and cloud (AAD_TENANT_ID, AAD_AUTHORITY_HOST). One "
        "that takes tokens of version 2 only needs requestedAccessTokenVersion 2 in its own "
        "registration",
        when=other_tenant and not foreign,
    )
    yield Advice(
        "The target says that the token has expired, or is not valid yet",
        "Compare this machine's clock and the target's",
        ("timedatectl status",),
        when=_EXPIRED.search(said),
    )
    yield Advice(
        "The target says that the token's signature is wrong: it does not have the keys of the "
        "token's issuer, or has old ones",
        "Have its operators look at where it takes Entra's signing keys from; check cloud and "
        "tenant",
        when=_SIGNATURE.search(said),
    )
    yield Advice(
        f"The target takes tokens for something else than {audience}",
        "Set AUDIENCE to the application ID URI or client ID that it expects",
        when=not (
            wanted or implied or named or scheme or refusal.azure or service_of(refusal.host)
        ),
    )
    yield Advice(
        "The target belongs to another tenant or cloud than the identity"
        + (f" ({ours})" if ours else ""),
        "Use an identity of the target's tenant",
        when=not (foreign or other_tenant or scheme),
    )
    yield _spreading(refusal)


def _forbidden(refusal: Refusal) -> Iterator[Advice]:
    #: Whether it is known which role is needed, and where.
    known = refusal.azure and refusal.kind is not Kind.OTHER
    writing = refusal.kind is Kind.INGESTION
    find_rule = (
        "az monitor data-collection rule list --query "
        f"\"[?immutableId=='{refusal.rule}'].id\" --output tsv"
        if refusal.rule
        else "az monitor account show --resource-group GROUP --name WORKSPACE --query "
        "defaultIngestionSettings.dataCollectionRuleResourceId --output tsv"
    )
    find_workspace = (
        "az monitor account list --query "
        f"\"[?metrics.prometheusQueryEndpoint=='https://{refusal.host.lower()}'].id\" "
        "--output tsv"
    )
    assign = (
        f"az role assignment create --assignee-object-id {refusal.object_id or 'OBJECT_ID'} "
        f"--assignee-principal-type {'User' if refusal.is_user else 'ServicePrincipal'}"
    )
    yield _other_audience(refusal)
    yield Advice(
        "The target takes requests from its private endpoints only",
        "Reach it through one (for Azure Monitor that of the private link scope, AMPLS, with its "
        "DNS zone), or allow public network access",
        when=_PRIVATE_LINK.search(refusal.text),
    )
    service = service_of(refusal.host)
    yield Advice(
        f"The target gives {refusal.object_id or 'the identity'} no right to this",
        f"Assign it a role there{f': {service.roles}, for example' if service else ''}",
        when=not known,
    )
    yield Advice(
        "A gateway or firewall before the target refuses", "Ask its operators", when=not known
    )
    yield Advice(
        'The identity lacks the role "Monitoring Metrics Publisher" on the data collection '
        "rule of the workspace",
        "Assign it there. On the workspace it has no effect",
        (
            f"RULE_ID=$({find_rule})",
            f'{assign} --role "Monitoring Metrics Publisher" --scope "$RULE_ID"',
        ),
        when=known and writing,
    )
    yield Advice(
        'The identity lacks the role "Monitoring Data Reader" on the Azure Monitor workspace',
        "Assign it there. On the data collection rule it has no effect, nor has "
        '"Monitoring Reader"',
        (
            f"WORKSPACE_ID=$({find_workspace})",
            f'{assign} --role "Monitoring Data Reader" --scope "$WORKSPACE_ID"',
        ),
        when=known and not writing,
    )
    yield _spreading(refusal)


def _spreading(refusal: Refusal) -> Advice:
    """Return advice for a role that is assigned, and not known everywhere yet."""
    later = "Wait and check again"
    writing = refusal.kind is Kind.INGESTION
    return Advice(
        f'The role "Monitoring {"Metrics Publisher" if writing else "Data Reader"}" is assigned, '
        "but Azure is still spreading it: that takes up to 30 minutes",
        f"{later}; what Prometheus writes meanwhile is not lost" if writing else later,
        when=refusal.azure and refusal.kind is not Kind.OTHER,
    )


def _other_audience(refusal: Refusal) -> Advice:
    """Return advice for a token for something else than the target's host implies."""
    wanted = unfit(refusal.host, refusal.sought)
    return Advice(
        f"The token is for {refusal.sought}, and {refusal.host} takes those for {wanted} only",
        f"Leave AUDIENCE out, or set AUDIENCE={wanted}/.default",
        when=wanted,
    )


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None
