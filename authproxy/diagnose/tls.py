"""The probe of TLS with the target, also through a proxy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from urllib3.util.ssltransport import SSLTransport

from authproxy.diagnose.handshakes import explain_handshake
from authproxy.diagnose.network import Way
from authproxy.diagnose.peer_certificates import PeerCertificate, foreign_issuer
from authproxy.diagnose.steps import Advice, Finding, Outcome, ProbeFailed
from authproxy.diagnose.token_claims import days_of
from authproxy.errors import AuthProxyError


def secure(
    way: Way,
    channel: socket.socket,
    context: ssl.SSLContext,
    *,
    again: Callable[[], socket.socket],
    now: datetime,
) -> Finding:
    """Do the handshake as requests will, and tell of the certificate.

    `again` opens another such channel: where the certificate is not accepted,
    it is looked at over that. Raises ProbeFailed.
    """
    try:
        certificate, protocol = _shake_hands(way, channel, context)
    except OSError as error:
        seen = None
        if isinstance(error, ssl.SSLCertVerificationError):
            seen = _looked_at(way, again)
        summary, advice = explain_handshake(error, way.handshake, seen, now)
        raise ProbeFailed(summary, *advice, facts=seen.facts if seen else None) from error
    return _told(certificate, protocol, way, now)


def _shake_hands(
    way: Way, channel: socket.socket, context: ssl.SSLContext
) -> tuple[PeerCertificate | None, str]:
    name = way.url.host.rstrip(".")
    secured: ssl.SSLSocket | SSLTransport
    if isinstance(channel, ssl.SSLSocket):  # TLS within the TLS of an https:// proxy
        secured = SSLTransport(channel, context, server_hostname=name)
    else:
        secured = context.wrap_socket(channel, server_hostname=name)
    with secured:
        der = secured.getpeercert(binary_form=True) or b""
        try:
            return PeerCertificate.from_der(der), str(secured.version())
        except ValueError:  # OpenSSL takes certificates that cryptography finds too odd
            return None, str(secured.version())


def _looked_at(way: Way, again: Callable[[], socket.socket]) -> PeerCertificate | None:
    """Return the certificate that is presented to whoever does not verify it."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE  # nothing is ever sent over this connection
    try:
        with again() as channel:
            return _shake_hands(way, channel, unverified)[0]
    except (OSError, AuthProxyError):
        return None  # then the fault is told without it


def _told(certificate: PeerCertificate | None, protocol: str, way: Way, now: datetime) -> Finding:
    if certificate is None:
        return Finding(
            f"{protocol}, and a certificate that is accepted", facts={"protocol": protocol}
        )
    notes: tuple[str, ...] = ()
    if (issuer := foreign_issuer(way.url.host, certificate)) is not None:
        notes = (
            f"Azure's own certificates are issued by Microsoft or DigiCert, and not by {issuer}: "
            "who opens TLS on the way sees the tokens",
        )
    finding = Finding(
        f"{protocol}, certificate of {certificate.subject}, issued by {certificate.issuer}, "
        f"good for {days_of(certificate.not_after - now)}",
        facts={"protocol": protocol, **certificate.facts},
        notes=notes,
    )
    if not certificate.ends_soon(now):
        return finding
    advice = Advice(
        f"The target's certificate ends on {certificate.not_after:%Y-%m-%d %H:%M} UTC",
        f"See that whoever runs {way.url.host} renews it",
    )
    return replace(finding, outcome=Outcome.WARNING, advice=(advice,))
