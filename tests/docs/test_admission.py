"""What docs/admission.md and docs/routes.md say is so."""

from __future__ import annotations

import re

import pytest

from authproxy.errors import BadRequest, Fault, SettingsError
from authproxy.http1.path_readings import oddity
from authproxy.http1.path_rules import PathRules
from authproxy.proxy.routes import RouteTable
from authproxy.settings import load_settings
from authproxy.settings.match import Match
from tests.support.inbound import inbound
from tests.support.source import ROOT

PAGE = (ROOT / "docs" / "admission.md").read_text()
ROWS = re.findall(r"^\| `(/[^`]*)` \| (`[^|]*) \| (`[^|]*) \|$", PAGE, re.M)
BLOCKS = re.findall(r"```dotenv\n(.*?)```", PAGE, re.S)

#: What an example's files and groups are not on this machine.
ABSENT = r"cannot be read|does not exist|no such group"


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_table_of_paths_is_true(row: tuple[str, str, str]) -> None:
    rules = PathRules([row[0]])
    fitting, others = (re.findall("`([^`]*)`", cell) for cell in row[1:])
    assert fitting
    assert others
    assert all(oddity(path) is None for path in fitting + others)
    assert [path for path in fitting if not rules.admit(path)] == []
    assert [path for path in others if rules.admit(path)] == []


@pytest.mark.parametrize("block", BLOCKS)
def test_the_examples_are_settings_without_other_faults(block: str) -> None:
    environ = dict(line.split("=", 1) for line in block.splitlines())
    base = {"TARGET_HOST": "metrics.example.com", "AUDIENCE": "https://a"}
    faults: list[Fault] = []
    try:
        loaded = load_settings({**base, **environ}, environ={}, serving="LISTENING" in block)
        assert all(loaded.settings.effective()[name] == value for name, value in environ.items())
    except SettingsError as error:
        faults += error.faults
    assert [fault for fault in faults if not re.search(ABSENT, fault.problem)] == []


def test_there_are_examples() -> None:
    assert len(ROWS) >= 5
    assert len(BLOCKS) >= 3


ROUTES_PAGE = (ROOT / "docs" / "routes.md").read_text()
PATHS = ROUTES_PAGE.partition("### Paths")[2].partition("##")[0]
REFUSED = re.findall("`(/[^`]*)`", "".join(re.findall(r"^\|[^|]*\|([^|]*)\|$", PATHS, re.M)[1:]))
PASSING = re.findall(
    "`(/[^`]*)`", PATHS.partition("All other paths pass")[2].partition("Where a")[0]
)
OPEN = Match()


def asked(path: str, *paths: str) -> Match:
    routes = RouteTable((match, match) for match in [OPEN, *(Match(path=path) for path in paths)])
    return routes.find(inbound(path))


@pytest.mark.parametrize("path", REFUSED)
def test_the_paths_that_are_said_to_get_400_do(path: str) -> None:
    with pytest.raises(BadRequest):
        asked(path, "/secret")


@pytest.mark.parametrize("path", PASSING)
def test_the_paths_that_are_said_to_pass_do(path: str) -> None:
    below_query = path.startswith("/query")
    found = asked(path, "/secret", *(["/query"] if below_query else []))
    assert found == (Match(path="/query") if below_query else OPEN)


def test_there_are_paths_of_both_kinds() -> None:
    assert len(REFUSED) > 25
    assert len(PASSING) >= 5
