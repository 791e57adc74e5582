"""Probes of the identity: our certificate, a token and its claims, the clock."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from string import Template
from typing import Any

from authproxy.clock import rfc3339
from authproxy.diagnose.steps import Finding, Outcome, ProbeFailed
from authproxy.diagnose.token_claims import (
    days_of,
    expiry,
    moment,
    printable,
    shown,
    text_of,
    utc,
)
from authproxy.errors import Advice, CredentialError, Explanation, Unusable
from authproxy.identity.credentials import FetchError, TokenFetcher
from authproxy.identity.entra_errors import FEDERATION_CODES, commands_for, explain
from authproxy.identity.lifetimes import FetchedToken
from authproxy.identity.provenance import claims_of, identifier
from authproxy.identity.rotation import EXPIRY_NOTICE
from authproxy.settings import Settings
from authproxy.settings.token_proxy import TOKEN_PROXY

#: Seconds between this machine's clock and others that are reported. Entra allows 300.
CLOCK_NOTICE = 60.0

#: A token is not used in its last seconds (`authproxy.identity.lifetimes`).
_LAST_SECONDS = 10.0

#: What clocks this machine's is compared with.
_CLOCKS = {"identity": "the identity endpoint", "token": "the token", "target": "the target"}

_OLD_TOKEN = Advice(
    "The identity endpoint gives out an old token from its cache",
    "Wait a few minutes; restart what runs the endpoint",
)

_FEDERATE = (
    "az identity federated-credential create --identity-name NAME --resource-group GROUP "
    "--name authproxy --issuer {iss} --subject {sub} --audiences {aud}"
)
_FEDERATE_APPLICATION = "az ad app federated-credential create --id {} --parameters {}"


@dataclass(frozen=True)
class Token:
    """A token that was fetched, and what it claims; None where it is opaque."""

    fetched: FetchedToken
    claims: Mapping[str, Any] | None

    @property
    def object_id(self) -> str | None:
        """Of the identity; what roles are assigned to. Safe to use in a command."""
        return identifier(self.claims, "oid")

    @property
    def audience(self) -> str:
        audience = (self.claims or {}).get("aud")
        return printable(audience) if isinstance(audience, str) else "an unknown audience"

    @property
    def tenant(self) -> str | None:
        tenant = (self.claims or {}).get("tid")
        return text_of(tenant) if tenant else None

    @property
    def is_user(self) -> bool:
        """Whether it is a person's (of the Azure CLI), and not an application's."""
        claims = self.claims or {}
        return claims.get("idtyp") == "user" or "upn" in claims or "scp" in claims


def certificate(settings: Settings, now: datetime) -> Finding:
    """Describe our own certificate and its end. Raises ProbeFailed where it cannot be used."""
    try:
        ours = settings.client_certificate()
        ours.require_valid(now)
    except (Unusable, CredentialError) as error:
        problem = settings.naming(error) if isinstance(error, Unusable) else str(error)
        raise ProbeFailed(Finding(problem, Outcome.FAILED)) from error
    left = ours.not_after - now
    subject = printable(ours.subject)
    facts = {
        "subject": subject,
        "thumbprint": ours.thumbprint,
        "not_before": rfc3339(ours.not_before.timestamp()),
        "not_after": rfc3339(ours.not_after.timestamp()),
    }
    summary = f"{subject}, thumbprint {ours.thumbprint}, good for {days_of(left)}"
    if left >= EXPIRY_NOTICE:
        return Finding(summary, facts=facts)
    advice = Advice(
        f"It expires on {ours.not_after:%Y-%m-%d %H:%M} UTC",
        "Issue a new one, add it to the application registration and replace the file: it is "
        "picked up while running",
    )
    return Finding(summary, Outcome.WARNING, facts=facts, advice=(advice,))


def token(
    settings: Settings, fetcher: TokenFetcher, now: float, challenge: str | None = None
) -> tuple[Finding, Token]:
    """Fetch a token and show what it claims, never the token. Raises ProbeFailed.

    `challenge` are the claims that a target demanded of it.
    """
    try:
        fetched = fetcher(challenge)
    except FetchError as error:
        finding = no_token(settings, error, fetcher.clock_offset, fetcher.assertion)
        raise ProbeFailed(finding) from error
    got = Token(fetched, claims_of(fetched.value))
    given = fetched.provenance
    facts: dict[str, Any] = {
        "scope": settings.scope,
        "endpoint": printable(given.endpoint) if given else None,
        "claims": shown(got.claims or {}),
        "expires_on": utc(fetched.expires_on),
    }
    if got.claims is None:
        claims = ["an opaque token: its claims are for its issuer only"]
    else:
        claims = [f"{name}: {value}" for name, value in facts["claims"].items()]
    notes = (
        f"given by {facts['endpoint']}",
        *claims,
        f"exp: {expiry(fetched.expires_on, now)}",
    )
    if given and given.mismatch:
        summary = f"that of another identity, for {settings.scope}"
        facts["code"] = given.mismatch.code
        advice = _explained(settings, given.mismatch, {})
        raise ProbeFailed(Finding(summary, Outcome.FAILED, facts, notes, (advice,)))
    if fetched.expires_on - now <= _LAST_SECONDS:
        summary = f"the token expired at {utc(fetched.expires_on)} by this machine's clock"
        late = (_clock_advice(fetched.expires_on - now), _OLD_TOKEN)
        raise ProbeFailed(Finding(summary, Outcome.FAILED, facts, notes, late))
    return Finding(f"for {settings.scope}", facts=facts, notes=notes), got


def no_token(
    settings: Settings,
    error: FetchError,
    clock_offset: float | None = None,
    proof: str | None = None,
) -> Finding:
    """Return what it means that no token was given, though this `proof` was shown."""
    facts: dict[str, Any] = {"scope": settings.scope, "message": printable(error.detail)}
    notes = [printable(error.detail)]
    advice = []
    if abs(clock_offset or 0) > CLOCK_NOTICE:
        advice.append(_clock_advice(clock_offset or 0))
    whose = _prover(settings)
    assertion = shown(claims_of(proof or "") or {}, ("iss", "sub", "aud")) if whose else {}
    if assertion:
        facts["assertion"] = assertion
        notes += [f"{whose} token has {name}: {assertion[name]}" for name in assertion]
    if error.explanation is not None:
        facts["code"] = error.explanation.code
        advice.append(_explained(settings, error.explanation, assertion))
    summary = f"none for {settings.scope}"
    return Finding(summary, Outcome.FAILED, facts, tuple(notes), tuple(advice))


def no_token_in_time(settings: Settings, seconds: float) -> Finding:
    """Return what it means that the identity endpoint kept silent."""
    return no_token(settings, FetchError(f"given up after {seconds:g} s", explain("timed out")))


def clock(offsets: Mapping[str, float | None]) -> Finding:
    """Compare this machine's clock with others: `offsets` are seconds that they are ahead of it.

    Their names are the keys of `_CLOCKS`.
    """
    known = {name: round(offset, 1) for name, offset in offsets.items() if offset is not None}
    if not known:
        return Finding("there is nothing to compare it with", Outcome.SKIPPED)
    name = max(known, key=lambda each: abs(known[each]))
    offset = known[name]
    facts = {"seconds_behind": offset, "compared_with": known}
    if abs(offset) <= CLOCK_NOTICE:
        return Finding(f"in step with {' and '.join(_CLOCKS[each] for each in known)}", facts=facts)
    return Finding(
        f"{abs(offset):.0f} s {'behind' if offset > 0 else 'ahead of'} {_CLOCKS[name]}",
        Outcome.WARNING,
        facts=facts,
        advice=(_clock_advice(offset),),
    )


def token_offset(token: Token, now: float) -> float | None:
    """Return by how many seconds a token is from the future of `now`, None if it is not.

    An older one says nothing: it may be from a cache.
    """
    times = [at for name in ("iat", "nbf") if (at := moment(token.claims, name)) is not None]
    return max(times) - now if times and max(times) > now else None


def _clock_advice(offset: float) -> Advice:
    return Advice(
        f"This machine's clock is {abs(offset):.0f} s {'slow' if offset > 0 else 'fast'}; Entra "
        "allows 5 minutes",
        "Let it be set from the network",
        ("timedatectl status", "chronyc tracking"),
    )


def _explained(
    settings: Settings, explanation: Explanation, assertion: Mapping[str, str]
) -> Advice:
    values = {name: shlex.quote(text) for name, text in settings.effective().items() if text}
    commands = [
        Template(command).safe_substitute(values)
        for command in commands_for(explanation, settings.identity_type, values)
    ]
    if explanation.code in FEDERATION_CODES and assertion.keys() >= {"iss", "sub", "aud"}:
        quoted = {name: shlex.quote(value) for name, value in assertion.items()}
        if settings.identity_type == "workloadidentity":
            if not os.environ.get(TOKEN_PROXY):
                commands.append(_FEDERATE.format_map(quoted))
        else:
            told = {"name": "authproxy", "issuer": assertion["iss"], "subject": assertion["sub"]}
            parameters = shlex.quote(json.dumps({**told, "audiences": [assertion["aud"]]}))
            client_id = shlex.quote(settings.aad_client_id or "")
            commands.append(_FEDERATE_APPLICATION.format(client_id, parameters))
    cause = printable(f"{explanation.cause} ({explanation.code})")
    return Advice(cause, explanation.hint, tuple(commands))


def _prover(settings: Settings) -> str:
    """Return whose token proves the identity, in words; empty where none does."""
    if settings.identity_type == "workloadidentity":
        return "the service account's"
    federated = settings.identity_type == "aadapplication" and settings.aad_federated_identity
    return "the managed identity's" if federated else ""
