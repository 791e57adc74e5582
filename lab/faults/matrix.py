"""The matrix: all rows, in their groups and their order."""

from __future__ import annotations

from typing import Any

import pytest

from lab.faults import clients, identity, machine, targets
from lab.faults.row import Row

GROUPS: dict[str, list[Row]] = {
    "identity": identity.ROWS,
    "target": targets.ROWS,
    "client": clients.ROWS,
    "machine": machine.ROWS,
}


def parameters(group: str) -> list[Any]:
    """Return the rows of a group as parameters of a test, with their marks."""
    return [
        pytest.param(
            row,
            id=row.file_name,
            marks=[
                *([pytest.mark.slow] if row.slow else []),
                *([pytest.mark.real(*row.needs)] if row.needs else []),
            ],
        )
        for row in GROUPS[group]
    ]
