"""A bounded search for bytes that break a rule, under atheris and from the kept corpus."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.fuzz.targets import TARGETS
from tests.support.source import ROOT

#: For each target.
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.real("atheris")
@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_break_a_rule(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris for this Python and machine")
    found = tmp_path / "found"
    found.mkdir()
    command = [sys.executable, "-m", "lab.fuzz", name, f"-max_total_time={SECONDS}"]
    command += [f"-artifact_prefix={tmp_path}/", str(found), f"lab/fuzz/corpus/{name}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    broken = [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()]
    # The bytes belong into lab/fuzz/corpus, with the mend.
    assert (run.returncode, broken) == (0, []), run.stderr[-5000:]
