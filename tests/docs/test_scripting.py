"""docs/command-line.md: what it has scripts do with `authproxy check --json`, done."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import blocks
from tests.support.process import clean_environment
from tests.support.programs import LIMIT
from tests.support.source import ROOT
from tests.support.upstream import Upstream

[SCRIPT] = [
    block.code
    for block in blocks(ROOT / "docs" / "command-line.md", "bash")
    if block.heading == "For scripts"
]


def told(line: str, settings: dict[str, str], folder: Path) -> list[str]:
    """Run one of the page's lines, with the `authproxy` under test."""
    program = folder / "authproxy"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m authproxy "$@"\n')
    program.chmod(0o755)
    environment = {**clean_environment(str(folder)), **settings}
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", line], env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.real("jq")
def test_the_lines_for_scripts_tell_what_failed_and_when_the_certificate_ends(
    base_settings: dict[str, str], target: Upstream, tmp_path: Path
) -> None:
    if shutil.which("jq") is None:
        pytest.skip("no jq is installed")
    failures, certificate = SCRIPT.splitlines()
    target.respond(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    [failed] = told(failures, base_settings, tmp_path)
    assert "403" in failed
    [ends] = told(certificate, base_settings, tmp_path)
    assert ends.endswith("Z")
