"""The target in trouble: every row of the matrix."""

from __future__ import annotations

import pytest

from lab.faults.matrix import parameters
from lab.faults.row import Row
from tests.faults.conftest import Play


@pytest.mark.parametrize("row", parameters("target"))
def test_nothing_is_lost_and_it_heals(row: Row, play_row: Play) -> None:
    play_row(row)
