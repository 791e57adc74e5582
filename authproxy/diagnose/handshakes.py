"""Pure rules: what it means that a TLS handshake failed, and what mends it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from datetime import datetime

from authproxy.diagnose.peer_certificates import PeerCertificate, foreign_issuer
from authproxy.diagnose.steps import Advice
from authproxy.diagnose.token_claims import days_of

#: OpenSSL's verification results (x509_vfy.h) that have an explanation here.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNTRUSTED = {18, 19, 20, 21}
_OTHER_NAME = {62, 64}


@dataclass(frozen=True)
class Handshake:
    """With whom a handshake was tried, through which proxy, and which setting says so."""

    host: str
    port: int
    proxy: str | None = None
    setting: str = "TARGET_HOST"

    @property
    def show_certificates(self) -> str:
        """A command that shows the certificates that are presented."""
        through = f" -proxy {self.proxy}" if self.proxy else ""
        at = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"openssl s_client -connect {at}:{self.port} -servername {self.host}{through} "
            "-showcerts </dev/null"
        )


def explain_handshake(
    error: OSError, handshake: Handshake, certificate: PeerCertificate | None, now: datetime
) -> tuple[str, tuple[Advice, ...]]:
    """Return what failed, in one line, and the likely causes in order.

    `certificate` is what the server presents to whoever does not verify it,
    where that could be found out.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error, handshake, certificate, now)
    if isinstance(error, TimeoutError):
        return "no answer to the handshake in time", (
            Advice(
                "A firewall or proxy takes the connection and drops what follows",
                f"Let TLS to {handshake.host} port {handshake.port} pass; HTTPS_PROXY where "
                "only a proxy may",
            ),
            Advice(
                f"What listens at port {handshake.port} does not speak TLS, and waits",
                f"Correct the port in {handshake.setting}",
            ),
            Advice("The target is overloaded", "Try again"),
        )
    reason = getattr(error, "reason", None) or ""
    if reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "UNKNOWN_PROTOCOL",
        "PACKET_LENGTH_TOO_LONG",
    ):
        return "what answers there does not speak TLS", (
            Advice(
                f"Port {handshake.port} is the one for plain HTTP, or something else's",
                f"Correct the port in {handshake.setting}",
            ),
            Advice(
                "The target has no TLS at all",
                "Put TLS in front of it. TARGET_ALLOW_HTTP=true with http:// in "
                f"{handshake.setting} sends tokens in clear: only for tests and for meshes that "
                "encrypt by themselves",
            ),
        )
    if "CERTIFICATE_REQUIRED" in reason or "BAD_CERTIFICATE" in reason:
        return "the target demands a client certificate for TLS", (
            Advice(
                "It authenticates its clients by certificate and not by token",
                "Use an address of it that takes Entra ID tokens alone",
            ),
        )
    named = reason.replace("_", " ").lower()
    if "ALERT" in reason or "UNRECOGNIZED_NAME" in reason:
        return f"the target refused the handshake ({named})", (
            Advice(
                f"What answers does not serve the name {handshake.host}",
                f"Correct {handshake.setting}: give the name, not an alias or an address",
                (handshake.show_certificates,),
            ),
            Advice("It speaks no version of TLS in common with this machine"),
        )
    if reason and "EOF" not in reason:
        return f"the handshake failed ({named})", (
            Advice(
                "The target's TLS is too old or too weak for this machine",
                f"Have whoever runs {handshake.host} bring it up to date",
                (handshake.show_certificates,),
            ),
        )
    return f"the connection was cut in the handshake ({_words(error)})", (
        Advice(
            f"A firewall cuts connections to the name {handshake.host}",
            f"Let TLS to {handshake.host} port {handshake.port} pass; HTTPS_PROXY where only a "
            "proxy may",
        ),
        Advice(
            f"What listens at port {handshake.port} does not speak TLS",
            f"Correct the port in {handshake.setting}",
        ),
    )


def _unverified(
    error: ssl.SSLCertVerificationError,
    handshake: Handshake,
    certificate: PeerCertificate | None,
    now: datetime,
) -> tuple[str, tuple[Advice, ...]]:
    if error.verify_code in _OTHER_NAME:
        return _other_name(handshake, certificate)
    if error.verify_code == _EXPIRED:
        return _expired(handshake, certificate, now)
    if error.verify_code == _NOT_YET_VALID:
        begins = f" before {certificate.not_before:%Y-%m-%d %H:%M} UTC" if certificate else ""
        return f"the certificate is not valid{begins}", (_clock("behind"), _renew(handshake))
    if error.verify_code in _UNTRUSTED:
        return _untrusted(error.verify_code, handshake, certificate)
    return f"the certificate is not accepted: {error.verify_message}", (
        Advice(
            "The certificate, or one of its chain, does not follow the rules for TLS servers",
            f"Have whoever runs {handshake.host} replace it",
            (handshake.show_certificates,),
        ),
    )


def _expired(
    handshake: Handshake, certificate: PeerCertificate | None, now: datetime
) -> tuple[str, tuple[Advice, ...]]:
    if certificate is not None and certificate.not_after > now:
        return "a certificate of the chain has expired, though not the target's own", (
            Advice(
                "The target presents an old intermediate certificate",
                f"Have whoever runs {handshake.host} replace the chain",
                (handshake.show_certificates,),
            ),
            Advice(
                "This machine's own list of authorities is old",
                "Update it",
                ("apt-get install --only-upgrade ca-certificates",),
            ),
        )
    ended = ""
    if certificate is not None:
        ago = days_of(now - certificate.not_after)
        ended = f" on {certificate.not_after:%Y-%m-%d %H:%M} UTC, {ago} ago"
    return f"the certificate has expired{ended}", (_renew(handshake), _clock("ahead"))


def _other_name(
    handshake: Handshake, certificate: PeerCertificate | None
) -> tuple[str, tuple[Advice, ...]]:
    names = certificate.names if certificate else ()
    some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "") or "other names"
    first = next((name for name in names if "*" not in name), None)
    named = f"host to {first}" if first else "host to a name that the certificate has"
    return f"the certificate is for {some}, not for {handshake.host}", (
        Advice(
            f"{handshake.setting} has an alias or an address of the target",
            f"Set its {named}",
        ),
        Advice(
            f"The name {handshake.host} leads to another machine here",
            "Check DNS (a private zone, /etc/hosts, hostAliases)",
        ),
    )


def _untrusted(
    code: int, handshake: Handshake, certificate: PeerCertificate | None
) -> tuple[str, tuple[Advice, ...]]:
    issuer = certificate.issuer if certificate else "an unknown authority"
    private = Advice(
        f"The target has its certificate from a private authority, {issuer}",
        "Set TARGET_CA_FILE to a PEM file with the authority's certificate",
    )
    intercepted = Advice(
        f"A proxy on the way opens TLS and signs as {issuer}: it would see the tokens",
        f"Have {handshake.host} exempted from inspection; or trust it: name its CA in "
        "TARGET_CA_FILE, and in REQUESTS_CA_BUNDLE for Entra",
    )
    incomplete = Advice(
        "The target does not present its intermediate certificate",
        f"Have whoever runs {handshake.host} complete the chain, or put the certificate into "
        "TARGET_CA_FILE",
    )
    outside = certificate is not None and foreign_issuer(handshake.host, certificate) is not None
    first, second = private, intercepted
    if outside or handshake.proxy:
        first, second = intercepted, private
    first = replace(first, commands=(handshake.show_certificates,))
    summary = f"the certificate is issued by {issuer}, which is not trusted"
    if code in (18, 19):  # the chain is there, down to its root
        return summary, (first, second)
    return summary, (first, second, incomplete)


def _renew(handshake: Handshake) -> Advice:
    return Advice(
        "The target's certificate was not renewed",
        f"Have whoever runs {handshake.host} renew it; there is nothing to set here",
        (handshake.show_certificates,),
    )


def _clock(way: str) -> Advice:
    return Advice(f"This machine's clock is {way}", "Set it", ("timedatectl status",))


def _words(error: OSError) -> str:
    return (getattr(error, "reason", None) or error.strerror or type(error).__name__).lower()
