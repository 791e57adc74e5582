"""The identity endpoint in trouble: every row of the matrix."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Play
from tests.faults.matrix import parameters
from tests.faults.row import Row


@pytest.mark.timeout(150)
@pytest.mark.parametrize("row", parameters("identity"))
def test_nothing_is_lost_and_it_heals(row: Row, play_row: Play) -> None:
    play_row(row)
