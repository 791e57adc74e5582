"""Pure rules: what it means that a TLS handshake failed, and the hints."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import datetime

from authproxy.diagnose.network import Way
from authproxy.diagnose.peer_certificates import PeerCertificate, foreign_issuer
from authproxy.diagnose.steps import Finding, Rule, first
from authproxy.diagnose.token_claims import days_of
from authproxy.errors import Advice

#: OpenSSL's verification results (x509_vfy.h) that have an explanation here.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNTRUSTED = (18, 19, 20, 21)
_WHOLE_CHAIN = (18, 19)  # the chain is there, down to its root
_OTHER_NAME = (62, 64)

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG")


def explain_handshake(
    error: OSError, way: Way, certificate: PeerCertificate | None, now: datetime
) -> Finding:
    """Return what it means that a handshake failed.

    `certificate` is what the server presents to a client that does not verify it,
    where that could be found out.
    """
    host, port = way.url.host, way.url.port
    show = (way.show_certificates,)
    let_pass = f"Let TLS to {host} port {port} pass; HTTPS_PROXY where only a proxy may"
    correct_port = f"Correct the port in {way.setting}"
    reason = getattr(error, "reason", None) or ""
    words = reason.replace("_", " ").lower()
    cut = (reason or error.strerror or type(error).__name__).lower()

    #: OpenSSL's verification result, None where it was not the certificate.
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None
    names = certificate.names if certificate else ()
    some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "") or "other names"
    usable = next((name for name in names if "*" not in name), "a name that the certificate has")
    issuer = certificate.issuer if certificate else "an unknown authority"
    intercepted = way.proxy or (certificate and foreign_issuer(host, certificate))
    begin = ended = ""
    if certificate is not None:
        end = certificate.not_after
        begin = f"{certificate.not_before:%Y-%m-%d %H:%M} UTC"
        ended = f" on {end:%Y-%m-%d %H:%M} UTC, {days_of(now - end)} ago"
    untrusted = f"the certificate is issued by {issuer}, which is not trusted"

    renew = Advice(
        "The target's certificate was not renewed",
        f"Ask the operator of {host} to renew it; there is nothing to set here",
        show,
    )
    private = Advice(
        f"The target has its certificate from a private authority, {issuer}",
        "Set TARGET_CA_FILE to a PEM file with the authority's certificate",
    )
    intercepting = Advice(
        f"A proxy on the way opens TLS and signs as {issuer}: it would see the tokens",
        f"Have {host} exempted from inspection; or trust it: name its CA in TARGET_CA_FILE, and "
        "in REQUESTS_CA_BUNDLE for Entra",
    )
    incomplete = Advice(
        "The target does not present its intermediate certificate",
        f"Ask the operator of {host} to complete the chain, or put the certificate into "
        "TARGET_CA_FILE",
        when=code not in _WHOLE_CHAIN,
    )
    return first(
        Rule(
            code in _OTHER_NAME,
            f"the certificate is for {some}, not for {host}",
            Advice(
                f"{way.setting} has an alias or an address of the target",
                f"Set its host to {usable}",
            ),
            Advice(
                f"The name {host} leads to another machine here",
                "Check DNS (a private zone, /etc/hosts, hostAliases)",
            ),
        ),
        Rule(
            code == _EXPIRED and certificate is not None and certificate.not_after > now,
            "a certificate of the chain has expired, though not the target's own",
            Advice(
                "The target presents an old intermediate certificate",
                f"Ask the operator of {host} to replace the chain",
                show,
            ),
            Advice(
                "This machine's own list of authorities is old",
                "Update it",
                ("apt-get install --only-upgrade ca-certificates",),
            ),
        ),
        Rule(code == _EXPIRED, f"the certificate has expired{ended}", renew, _clock("ahead")),
        Rule(
            code == _NOT_YET_VALID and certificate is not None and certificate.not_before <= now,
            "a certificate of the chain is not valid yet, though the target's own is",
            _clock("behind"),
            Advice(
                "The target presents a new intermediate certificate too early",
                f"Ask the operator of {host} to replace the chain",
                show,
            ),
        ),
        Rule(
            code == _NOT_YET_VALID,
            f"the certificate is not valid {f'before {begin}' if begin else 'yet'}",
            _clock("behind"),
            Advice(
                "The target presents a new certificate too early, or its issuer's clock is ahead",
                f"Ask the operator of {host} to present the one before until then",
                show,
            ),
        ),
        Rule(
            code in _UNTRUSTED and intercepted,
            untrusted,
            replace(intercepting, commands=show),
            private,
            incomplete,
        ),
        Rule(
            code in _UNTRUSTED, untrusted, replace(private, commands=show), intercepting, incomplete
        ),
        Rule(
            code is not None,
            f"the certificate is not accepted: {getattr(error, 'verify_message', '')}",
            Advice(
                "The certificate, or one of its chain, does not follow the rules for TLS servers",
                f"Ask the operator of {host} to replace it",
                show,
            ),
        ),
        Rule(
            isinstance(error, TimeoutError),
            "no response to the handshake in time",
            Advice("A firewall or proxy takes the connection and drops what follows", let_pass),
            Advice(f"What listens at port {port} does not speak TLS, and waits", correct_port),
            Advice("The target is overloaded", "Try again"),
        ),
        Rule(
            reason in _NO_TLS,
            "what responds there does not speak TLS",
            Advice(f"Port {port} is the one for plain HTTP, or something else's", correct_port),
            Advice(
                "The target has no TLS at all",
                f"Put TLS in front of it. TARGET_ALLOW_HTTP=true with http:// in {way.setting} "
                "sends tokens in clear: only for tests and for meshes that encrypt by themselves",
            ),
        ),
        Rule(
            "CERTIFICATE_REQUIRED" in reason or "BAD_CERTIFICATE" in reason,
            "the target demands a client certificate for TLS",
            Advice(
                "It authenticates its clients by certificate and not by token",
                "Use an address of it that takes Entra ID tokens alone",
            ),
        ),
        Rule(
            "ALERT" in reason or "UNRECOGNIZED_NAME" in reason,
            f"the target refused the handshake ({words})",
            Advice(
                f"What responds does not serve the name {host}",
                f"Correct {way.setting}: give the name, not an alias or an address",
                show,
            ),
            Advice("It speaks no version of TLS in common with this machine"),
        ),
        Rule(
            reason and "EOF" not in reason,
            f"the handshake failed ({words})",
            Advice(
                "The target's TLS is too old or too weak for this machine",
                f"Ask the operator of {host} to bring it up to date",
                show,
            ),
        ),
        Rule(
            True,
            f"the connection was cut in the handshake ({cut})",
            Advice(f"A firewall cuts connections to the name {host}", let_pass),
            Advice(f"What listens at port {port} does not speak TLS", correct_port),
        ),
        facts=certificate.facts if certificate else {},
    )


def _clock(way: str) -> Advice:
    return Advice(f"This machine's clock is {way}", "Set it", ("timedatectl status",))
