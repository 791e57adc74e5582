"""docs/settings.md agrees with the declaration, and the declaration with itself."""

from __future__ import annotations

import re
import textwrap

import yaml

from authproxy.settings import Settings, load_settings
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
