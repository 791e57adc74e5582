"""`make pyz`: one file that runs wherever there is a Python, without an installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import clean_environment
from tests.support.source import copy_of_the_sources

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, of a copy of the sources; `make` has nothing to install for it."""
    sources = copy_of_the_sources(tmp_path_factory.mktemp("sources"))
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    made = subprocess.run(
        ["make", "pyz", "--old-file=install", f"BIN={Path(sys.executable).parent}"],
        cwd=sources,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert made.returncode == 0, made.stdout
    return sources / "dist" / "authproxy.pyz"


def test_the_demo_runs_from_the_file_alone(pyz: Path, tmp_path: Path) -> None:
    environment = clean_environment(str(tmp_path))
    del environment["PYTHONPATH"]
    shown = subprocess.run(
        [sys.executable, str(pyz), "demo", "--once", "--proxy-port", "0"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert shown.returncode == 0, shown.stdout
    assert "authproxy responds 503, so it is kept" in shown.stdout
    assert "42. The sample arrived, none was lost." in shown.stdout
