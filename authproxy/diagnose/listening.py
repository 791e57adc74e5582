"""The probe of the certificate that clients are shown on the proxied port."""

from __future__ import annotations

from datetime import datetime

from authproxy.clock import rfc3339
from authproxy.diagnose.steps import SETTINGS, Finding, Outcome, Step
from authproxy.diagnose.token_claims import days_of, printable
from authproxy.errors import Advice, Unusable
from authproxy.files.server_certificate import (
    ServerCertificate,
    ServerFiles,
    load_server_certificate,
)


def listening(files: ServerFiles, now: datetime) -> Step:
    """Return the step that describes the certificate of LISTENING_TLS_CERTIFICATE_FILE."""
    try:
        finding = _described(load_server_certificate(files), now)
    except Unusable as error:  # replaced since the settings were read
        advice = Advice(str(error), error.hint.removesuffix("."))
        finding = Finding(f"{error.setting}: {error}", Outcome.FAILED, advice=(advice,))
    return Step("listening", finding, exit_status=SETTINGS)


def _described(certificate: ServerCertificate, now: datetime) -> Finding:
    subject = printable(certificate.subject)
    facts = {
        "subject": subject,
        "not_before": rfc3339(certificate.not_before.timestamp()),
        "not_after": rfc3339(certificate.not_after.timestamp()),
    }
    if now < certificate.not_before:
        advice = Advice(
            f"It is not valid before {certificate.not_before:%Y-%m-%d %H:%M} UTC",
            "Wait until then or use another one, and check this machine's clock",
        )
        return Finding(f"shows {subject}, not valid yet", Outcome.FAILED, facts, advice=(advice,))
    state = certificate.expiry.state(now.timestamp())
    left = f"good for {days_of(certificate.not_after - now)}"
    summary = f"shows {subject}, {'expired' if state == 'expired' else left}"
    if state == "valid":
        return Finding(summary, facts=facts)
    advice = Advice(
        f"It {state} ({certificate.not_after:%Y-%m-%d %H:%M} UTC)",
        "Replace the file of LISTENING_TLS_CERTIFICATE_FILE and its key: both are picked up while "
        "running",
    )
    outcome = Outcome.FAILED if state == "expired" else Outcome.WARNING
    return Finding(summary, outcome, facts, advice=(advice,))
