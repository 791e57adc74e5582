"""docs/architecture.md names modules and packages that there are, in the order of their imports."""

from __future__ import annotations

import re
from configparser import ConfigParser

from tests.support.source import PACKAGE, ROOT

PAGE = (ROOT / "docs/architecture.md").read_text()
PICTURE = PAGE.partition("```picture\n")[2].partition("```")[0]

#: A module or package, by its path below `authproxy/`.
_PATH = re.compile(r"\b[a-z0-9_]+(?:/[a-z0-9_]+)*(?:\.py\b|/)")


def test_the_modules_of_the_picture_are_there() -> None:
    folder = ""
    for line in PICTURE.splitlines():
        for path in _PATH.findall(line):
            folder = path.rpartition("/")[0] or folder  # its siblings follow by name alone
            assert (PACKAGE / folder / path.rpartition("/")[2]).exists(), line


def test_the_modules_of_the_text_are_there() -> None:
    for code in re.findall(r"`([^`\n]+)`", PAGE.replace(PICTURE, "")):
        if _PATH.fullmatch(code):
            assert (PACKAGE / code).exists(), code


def test_the_packages_stand_in_the_order_of_their_imports() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts["importlinter:contract:layers"]["layers"]
    named = re.findall(r"\b[a-z0-9_]+\b", layers)
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.M)
    shown = [name.strip("`/").removesuffix(".py") for row in rows for name in row.split(", ")]
    assert shown == named[1:]  # __main__ is the entry
