"""docs/apache.md tells what the files and the tests have."""

from __future__ import annotations

import re

import pytest

from authproxy.settings import Settings
from tests.deploy.apache.differences import COVERED, DIFFERENCES, EXPRESS, NOT_COVERED
from tests.support.apache import DEPLOY, ApacheProcess
from tests.support.commands import commands
from tests.support.source import ROOT

PAGE = (ROOT / "docs" / "apache.md").read_text()


def test_each_difference_is_a_row_and_each_row_a_difference() -> None:
    section = PAGE.partition("## What Apache does by itself")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*) \| (.*) \|$", section, re.M)
    assert rows == [("what", "why"), *((one.what, one.why) for one in DIFFERENCES)]


def test_each_file_of_end_to_end_tests_is_run_against_apache_or_has_a_reason() -> None:
    files = {path.stem for path in (ROOT / "tests" / "e2e").glob("test_*.py")}
    assert {*COVERED, *NOT_COVERED} == files
    assert not set(COVERED) & set(NOT_COVERED)
    assert set(EXPRESS) <= set(COVERED)


def test_each_deployed_file_is_named() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    assert files
    for file in files:
        assert file.name in PAGE, file


def test_the_readme_installs_as_the_page_does() -> None:
    page = commands("docs/apache.md", "Install, on Debian or Ubuntu").splitlines()
    text = commands("README.md", "Under Apache").splitlines()
    assert text == [line for line in page if line in text]


def test_the_settings_without_effect_are_named() -> None:
    names = [variable for variable, one in Settings.declared.items() if one.only_serve]
    section = PAGE.partition("These have no effect here")[2].partition(". Metrics")[0]
    assert re.findall(r"`([A-Z_]+)`", section) == names


@pytest.mark.real("apache2")
def test_the_second_proxys_configuration_is_valid() -> None:
    (block,) = re.findall(r"^```apache\n(.*?)^```", PAGE, re.M | re.S)
    for needed in ("WSGIDaemonProcess ingestion", "WSGIScriptAlias /", "process-group=ingestion"):
        assert needed in block
    checked = ApacheProcess({}, more_sites={"ingestion": block}).check()
    assert (checked.returncode, checked.stderr) == (0, "Syntax OK\n")
