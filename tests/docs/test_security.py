"""What SECURITY.md names exists."""

from __future__ import annotations

import re

import pytest

from authproxy.settings import Settings
from tests.support.source import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()

#: Names in capitals that are no settings, and where each is defined.
ELSEWHERE = {
    "PYTHON_IMAGE": "docker/Dockerfile",
    "AUDIT_IGNORE": "scripts/audit.py",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "authproxy/telemetry/tracing.py",
    "SSLKEYLOGFILE": "authproxy/tls.py",
}

NAMED = sorted(set(re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", PAGE)))
THREATS = [line for line in PAGE.splitlines() if line.startswith("|") and "---" not in line]


def test_the_page_names_settings() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize("name", NAMED)
def test_every_setting_of_the_threat_model_exists(name: str) -> None:
    if name in ELSEWHERE:
        assert name in (ROOT / ELSEWHERE[name]).read_text()
        return
    assert name in Settings.declared


def test_every_make_target_of_the_page_exists() -> None:
    targets = set(re.findall(r"`make ([a-z-]+)", PAGE))
    assert targets >= {"check", "audit", "sbom"}
    assert [each for each in targets if not re.search(rf"^{each}:", MAKEFILE, re.M)] == []


def test_every_threat_says_what_happens_and_what_closes_it() -> None:
    assert len(THREATS) > 40
    for line in THREATS:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 3, line
        assert all(cells), line
