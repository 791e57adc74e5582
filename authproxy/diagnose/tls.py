"""The probe of TLS with the target, also through a proxy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from urllib3.util.ssl_ import ssl_wrap_socket

from authproxy.diagnose.handshakes import explain_handshake
from authproxy.diagnose.network import Way
from authproxy.diagnose.peer_certificates import PeerCertificate, foreign_issuer
from authproxy.diagnose.steps import Finding, Outcome, ProbeFailed
from authproxy.diagnose.token_claims import days_of
from authproxy.errors import Advice, AuthProxyError


def secure(
    way: Way,
    channel: socket.socket,
    context: ssl.SSLContext,
    *,
    again: Callable[[], socket.socket],
    now: datetime,
) -> Finding:
    """Do the handshake as requests will, and describe the certificate.

    `again` opens another such channel: where the certificate is not accepted,
    it is looked at over that. Raises ProbeFailed.
    """
    try:
        certificate, protocol = _shake_hands(way, channel, context)
    except OSError as error:
        seen = None
        if isinstance(error, ssl.SSLCertVerificationError):
            seen = _unverified(way, again)
        raise ProbeFailed(explain_handshake(error, way, seen, now)) from error
    return _secured(certificate, protocol, way, now)


def _shake_hands(
    way: Way, channel: socket.socket, context: ssl.SSLContext
) -> tuple[PeerCertificate | None, str]:
    name = way.url.host.rstrip(".")
    within_tls = isinstance(channel, ssl.SSLSocket)  # that of an https:// proxy
    with ssl_wrap_socket(
        channel, ssl_context=context, server_hostname=name, tls_in_tls=within_tls
    ) as secured:
        der = secured.getpeercert(binary_form=True) or b""
        return PeerCertificate.from_der(der), str(secured.version())


def _unverified(way: Way, again: Callable[[], socket.socket]) -> PeerCertificate | None:
    """Return the certificate that is presented to a client that does not verify it."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE  # nothing is ever sent over this connection
    try:
        with again() as channel:
            return _shake_hands(way, channel, unverified)[0]
    except (OSError, AuthProxyError):
        return None  # then the fault is described without it


def _secured(
    certificate: PeerCertificate | None, protocol: str, way: Way, now: datetime
) -> Finding:
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
        f"Ask the operator of {way.url.host} to renew it",
    )
    return replace(finding, outcome=Outcome.WARNING, advice=(advice,))
