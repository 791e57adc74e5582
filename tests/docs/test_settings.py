"""docs/settings.md agrees with the declaration, and the declaration with itself."""

from __future__ import annotations

import re
import textwrap

import jsonschema
import pytest
import yaml

from authproxy.settings import Settings, load_settings
from tests.docs.configuration import SETTINGS_SCHEMA
from tests.support.source import ROOT
from tools import settings_page

DOCUMENT = ROOT / "docs" / "settings.md"


def markdown():
    return settings_page.made(ROOT, Settings)[DOCUMENT]


def test_the_document_is_what_the_declaration_makes():
    assert DOCUMENT.read_text() == markdown(), "run `make docs`"


def test_every_setting_is_in_a_table_once_and_says_what_it_means():
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    for one in Settings.declared.values():
        ours = [row.split(" | ") for row in rows if row.startswith(f"| `{one.variable}` |")]
        assert len(ours) == 1, one.variable
        assert one.doc.endswith("."), one.variable
        assert "|" not in one.doc


def test_every_row_has_as_many_cells_as_its_table():
    for table in re.findall(r"(?:^\|.*\n)+", markdown(), re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_example_file_in_the_document_loads(tmp_path):
    example = markdown().partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(example)
    path = tmp_path / "settings.yaml"
    path.write_text(example)
    load_settings({}, {"AUTHPROXY_CONFIG": str(path)}, serving=True)


def test_the_declaration_that_contributors_are_shown_is_one():
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S
    )
    source = (ROOT / "authproxy" / "settings" / "target.py").read_text()
    assert textwrap.indent(block, "    ") in source


@pytest.mark.parametrize("path", ["deploy/apache/authproxy/authproxy.yaml"])
def test_an_example_names_the_schema_and_is_valid_by_it(path: str) -> None:
    text = (ROOT / path).read_text()
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named is not None
    schema = ((ROOT / path).parent / named[1]).resolve()
    assert schema == ROOT / "docs" / "settings.schema.json"
    jsonschema.validate(yaml.safe_load(text), SETTINGS_SCHEMA)


def test_the_schema_takes_each_setting_and_refuses_what_is_none() -> None:
    jsonschema.Draft7Validator.check_schema(SETTINGS_SCHEMA)
    judge = jsonschema.Draft7Validator(SETTINGS_SCHEMA)
    for variable, one in Settings.declared.items():
        for given in (one.literal or None, yaml.safe_load(one.literal or "null")):
            assert judge.is_valid({variable.lower(): given, variable: given}), (variable, given)
            assert judge.is_valid({"routes": [{"path": "/a", variable.lower(): given}]}) is (
                one.per_route
            )
    wrong = [{"target_hots": "a"}, {"workers": 1000}, {"routes": []}, {"routes": [{"pth": "/"}]}]
    wrong += [{"log_query": 5}, {"threads": []}]
    assert [document for document in wrong if judge.is_valid(document)] == []
