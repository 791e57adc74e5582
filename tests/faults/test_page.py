"""docs/reliability.md has every row of the matrix, and no other; and the measuring can fail."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from lab.faults.bench import Measured, judge
from lab.faults.matrix import GROUPS
from lab.faults.outcomes import NO_TOKEN
from lab.faults.page import PAGE, TITLES, rows_of
from lab.faults.row import Row
from lab.faults.traffic import GOOD, Sender, content_of
from tests.support import actions
from tests.support.upstream import Upstream

ROW = Row("fault", "", lambda bench: None, frozenset({NO_TOKEN}), ready=("503",))
GOOD_RUN = Measured("fault", [NO_TOKEN], 1.0, 0.1, 0.1, 10, 0, ["200", "503"], ["200"], [])


def test_the_page_has_every_row_and_no_other() -> None:
    expected = {
        TITLES[group]: [(row.fault, row.stage or "") for row in rows]
        for group, rows in GROUPS.items()
    }
    assert rows_of(PAGE.read_text()) == expected, "run `make reliability`"


def test_the_page_tells_of_no_loss() -> None:
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith(("| fault ", "| --- ")):
            assert line.split(" | ")[5] == "0", line


def test_rows_have_names_of_their_own() -> None:
    names = [row.file_name for rows in GROUPS.values() for row in rows]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "change",
    [
        {"lost": 1},
        {"acknowledged": 0},
        {"seen": []},
        {"seen": [NO_TOKEN, "502 TargetProtocolError"]},
        {"ready": ["200"]},
        {"ready": ["200", "503", "none"]},
        {"health": ["200", "503"]},
    ],
)
def test_a_row_fails_where_its_promise_is_broken(change: dict[str, object]) -> None:
    judge(ROW, GOOD_RUN)
    with pytest.raises(AssertionError):
        judge(ROW, replace(GOOD_RUN, **change))  # type: ignore[arg-type]


def test_a_sender_sees_another_request_s_response_and_sends_again_what_was_refused() -> None:
    target = Upstream()
    try:
        target.on("/api/v1/query", actions.raw(actions.answer(200, body=b"response to 0")))
        target.script(actions.raw(actions.answer("503 Service Unavailable", body=b"{}")))
        asks = Sender(lambda: ("127.0.0.1", target.port), count(7), writes=False)
        writes = Sender(lambda: ("127.0.0.1", target.port), count(7), writes=True)
        for sender in (asks, writes):
            sender.start()
        target.wait_for(
            "traffic", lambda: sum(each.method == b"POST" for each in target.requests) >= 3
        )
        for sender in (asks, writes):
            sender.stop()
    finally:
        target.close()
    assert {each.outcome for each in asks.sent} == {"another's response"}
    assert [each.outcome for each in writes.sent[:2]] == ["503", GOOD]
    assert [each.number for each in writes.sent[:3]] == [7, 7, 8]
    assert content_of(7, 5) == b"7;7;7"
    assert min(writes.acknowledged()) == 7
