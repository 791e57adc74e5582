"""How an application proves itself with a signed assertion (RFC 7523 section 3).

Two kinds: signed with a certificate of the application's own, or by a cluster
that the application trusts (workload identity federation).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from authproxy.demo.stand_ins.signing import verify_signature
from tests.support.stand_ins import refusals
from tests.support.stand_ins.applications import Application

#: azure-identity signs with PS256 where it knows the SHA-256 thumbprint.
_ALGORITHMS = ("RS256", "PS256")


def check_assertion(
    application: Application, assertion: str, audiences: frozenset[str], now: float
) -> None:
    """Check a client assertion that is meant to be the application's.

    `audiences` are the names of this token endpoint, `now` is in epoch
    seconds. Raises refusals.Refusal.
    """
    try:
        header = jwt.get_unverified_header(assertion)
        claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise refusals.malformed_assertion() from None
    if claims.get("iss") == application.client_id or "x5t" in header or "x5t#S256" in header:
        _check_certificate_assertion(application, assertion, header, claims)
        if claims.get("aud") not in audiences:
            raise refusals.assertion_audience_mismatch(claims.get("aud"))
        if not claims.get("iss") == claims.get("sub") == application.client_id:
            raise refusals.assertion_names_another(application.client_id)
    else:
        _check_federated_assertion(application, assertion, claims)
    if not claims.get("nbf", 0) <= now + 300 or not now < claims.get("exp", 0):
        raise refusals.assertion_out_of_time()


def _check_certificate_assertion(
    application: Application, assertion: str, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    thumbprint = _hex(header.get("x5t") or header.get("x5t#S256") or "")
    certificate = _registered(application, thumbprint) or _of_trusted_issuer(application, header)
    if certificate is None:
        raise refusals.invalid_assertion_signature(
            application.client_id, "The key was not found.", thumbprint
        )
    key = certificate.public_key()
    try:
        if not isinstance(key, rsa.RSAPublicKey):
            raise jwt.InvalidKeyError("not an RSA key")
        verify_signature(assertion, key, *_ALGORITHMS)
    except jwt.PyJWTError:
        raise refusals.invalid_assertion_signature(
            application.client_id,
            "Key was found, but use of the key to verify the signature failed.",
            thumbprint,
        ) from None


def _registered(application: Application, thumbprint: str) -> x509.Certificate | None:
    for certificate in application.certificates:
        # SHA-1 because x5t is that by definition (RFC 7515 section 4.1.7).
        known = (certificate.fingerprint(hashes.SHA1()), certificate.fingerprint(hashes.SHA256()))
        if thumbprint in (fingerprint.hex().upper() for fingerprint in known):
            return certificate
    return None


def _of_trusted_issuer(application: Application, header: dict[str, Any]) -> x509.Certificate | None:
    """Return the leaf of the assertion's chain, if it leads to the trusted issuer."""
    if application.trusted_issuer is None:
        return None
    try:
        chain = [
            x509.load_der_x509_certificate(base64.b64decode(text)) for text in header.get("x5c", [])
        ]
        for child, parent in zip(chain, [*chain[1:], application.trusted_issuer], strict=True):
            if child != application.trusted_issuer:
                child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return None
    return chain[0] if chain else None


def _check_federated_assertion(
    application: Application, assertion: str, claims: dict[str, Any]
) -> None:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    for credential in application.federated:
        if (
            claims.get("iss") == credential.cluster.issuer
            and claims.get("sub") == credential.subject
            and credential.audience in named
        ):
            try:
                verify_signature(assertion, credential.cluster.public_key, "RS256")
            except jwt.PyJWTError:
                raise refusals.malformed_assertion() from None
            return
    raise refusals.no_matching_federation(
        claims.get("iss"), claims.get("sub"), ", ".join(map(str, named))
    )


def _hex(thumbprint: str) -> str:
    """Return a base64url thumbprint as Entra shows it; empty if it is none."""
    try:
        return base64.urlsafe_b64decode(thumbprint + "=" * (-len(thumbprint) % 4)).hex().upper()
    except (binascii.Error, ValueError):
        return ""
