"""A name that is dropped has one line, however often it comes, and there are not too many."""

from __future__ import annotations

import pytest

from authproxy.proxy.dropped_fields import MOST_NAMES, DroppedFields


def test_a_name_has_one_line_whatever_its_case(caplog: pytest.LogCaptureFixture) -> None:
    dropped = DroppedFields()
    for names in (["X_A"], ["x_a", "X_B"], ["X_a"]):
        dropped.dropped(names, "192.0.2.1")
    lines = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert lines == [
        {"Name": "X_A", "Client": "192.0.2.1"},
        {"Name": "X_B", "Client": "192.0.2.1"},
    ]


def test_the_lines_are_bounded_and_the_last_one_says_so(caplog: pytest.LogCaptureFixture) -> None:
    dropped = DroppedFields()
    for number in range(3 * MOST_NAMES):
        dropped.dropped([f"X_{number}" + "y" * 5000], "")
    assert len(caplog.records) == MOST_NAMES + 1
    assert caplog.records[-1].getMessage().startswith("Further names")
    assert all(len(record.fields["Name"]) <= 128 for record in caplog.records[:-1])  # type: ignore[attr-defined]
