"""What is said of the certificate that clients are shown."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from authproxy.diagnose.listening import listening
from authproxy.diagnose.steps import SETTINGS, Outcome
from authproxy.files.server_certificate import ServerFiles
from tests.support.tls_client import Certificates

NOW = datetime.now(timezone.utc)


@pytest.fixture
def files(tmp_path: Path) -> ServerFiles:
    certificates = Certificates(tmp_path)
    return ServerFiles(str(certificates.certificate), str(certificates.key))


def test_one_that_is_not_valid_yet_fails(files: ServerFiles) -> None:
    step = listening(files, NOW - timedelta(days=61))
    assert (step.outcome, step.exit_status) == (Outcome.FAILED, SETTINGS)
    assert step.finding.summary.endswith(", not valid yet")
    assert "check this machine's clock" in step.finding.advice[0].hint


def test_files_that_were_replaced_by_ones_of_no_use_fail(files: ServerFiles) -> None:
    Path(files.certificate).write_text("none")
    step = listening(files, NOW)
    assert step.outcome is Outcome.FAILED
    assert step.finding.summary == ("LISTENING_TLS_CERTIFICATE_FILE: it holds no PEM certificate")
    assert step.finding.advice[0].hint == ("Give a PEM file with the certificate and its chain")
