"""What fuzzing found once stays found: no bytes of the kept corpus break a rule."""

from __future__ import annotations

import pytest

from lab.fuzz.targets import TARGETS
from tests.support.source import ROOT

CORPUS = ROOT / "lab" / "fuzz" / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus_breaks_no_rule(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for file in files:
        data = file.read_bytes()
        assert len(data) <= 4096, f"{file} is too large to keep"
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"{file.name}: {data!r}") from error


def test_there_is_no_corpus_without_its_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
