"""docs/troubleshooting.md and docs/command-line.md name what there is, as it is."""

from __future__ import annotations

import re

import pytest

from authproxy.cli.commands import cli
from authproxy.cli.failures import INTERRUPTED
from authproxy.diagnose.steps import IDENTITY, SETTINGS, TARGET, WELL
from authproxy.identity.entra_errors import explain
from tests.support.source import MODULES, ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
COMMANDS = (ROOT / "docs" / "command-line.md").read_text()
SOURCES = "".join(MODULES.values())


def section(page: str, heading: str) -> str:
    found = re.search(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", page, re.M | re.S)
    assert found, heading
    return found[1]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| (`[^|]*) \|", text, re.M)


@pytest.mark.parametrize("code", sorted(set(re.findall(r"AADSTS\d+", PAGE))))
def test_a_code_of_entras_on_the_page_is_one_that_is_explained(code: str) -> None:
    explanation = explain(code)
    assert explanation is not None
    assert explanation.code == code


def test_words_for_a_missing_token_are_those_that_are_logged() -> None:
    words = re.findall(r"`([A-Z]\w+)`", "".join(first_cells(section(PAGE, "No token"))))
    assert len(words) > 20
    for word in words:
        assert word.startswith("AADSTS") or f'"{word}"' in SOURCES, word


def test_the_commands_and_exit_statuses_are_documented() -> None:
    assert set(re.findall(r"^\| `authproxy (\w+)` \|", COMMANDS, re.M)) == set(cli.commands)
    statuses = re.findall(r"^\| (\d+) \|", section(COMMANDS, "Exit status"), re.M)
    assert list(map(int, statuses)) == [WELL, IDENTITY, SETTINGS, TARGET, INTERRUPTED]
