"""Where a page says never, always or closed, a test has tried to break it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

import pytest

from tests.docs.claims import ADVICE, PAGES, names
from tests.support.source import ROOT

#: Words by which a sentence promises something for all cases.
ABSOLUTE = re.compile(r"\b(never|always|ever|closed|only|at most|every|alone)\b", re.IGNORECASE)
BLOCK = re.compile(r"\n\s*\n|\n(?=- )")
SENTENCE = re.compile(r"(?<=[.:;])\s+(?=[A-Z`*(])")


def claims(page: str) -> Iterator[str]:
    """Yield the sentences, items and table rows of a page that hold such a word."""
    for block in BLOCK.split(re.sub(r"^#.*$", "", page, flags=re.MULTILINE)):
        if block.lstrip().startswith("|"):
            parts = block.strip().splitlines()
        else:
            parts = SENTENCE.split(" ".join(block.split()).removeprefix("- "))
        yield from (part for part in parts if ABSOLUTE.search(part))


def of_tables(claim: str) -> bool:
    return claim.startswith("|")


@lru_cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef))


@pytest.mark.parametrize("page", PAGES)
def test_each_claim_names_the_tests_that_try_to_break_it(page: str) -> None:
    found = list(claims((ROOT / page).read_text()))
    if page == "docs/reliability.md":  # whose tables are what tests/faults measured
        found = [claim for claim in found if not of_tables(claim)]
    matches = {claim: [key for key in PAGES[page] if claim.startswith(key)] for claim in found}
    assert {claim: keys for claim, keys in matches.items() if len(keys) != 1} == {}
    assert {key for keys in matches.values() for key in keys} == PAGES[page].keys()


@pytest.mark.parametrize("page", PAGES)
def test_those_tests_exist(page: str) -> None:
    named = {each for tests in PAGES[page].values() if tests != ADVICE for each in names(tests)}
    assert len(named) > 2
    assert {(file, name) for file, name in named if name not in functions(file)} == set()


def test_a_new_claim_is_found() -> None:
    page = (
        "# Never a title\n\nSo it is. It never\nfails, or\nit does: `x` Always.\n\n| a | closed |\n"
    )
    assert list(claims(page)) == ["It never fails, or it does:", "`x` Always.", "| a | closed |"]
