"""Refused requests have a line each; a flood of them is counted."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.errors import BadRequest, Overloaded
from authproxy.proxy import refusal_log, repeated_failures
from authproxy.proxy.refusal_log import LINES_OF_ALL, LINES_OF_ONE, RefusalLog
from authproxy.proxy.repeated_failures import WINDOW_SECONDS
from authproxy.server.refusals import RefusedRequest


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = {key: value for key, value in record.fields.items() if value is not None}  # type: ignore[attr-defined]
        self.seen.append((record.levelname, record.getMessage(), fields))

    def __enter__(self) -> Lines:
        for module in (refusal_log, repeated_failures):
            module.log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for module in (refusal_log, repeated_failures):
            module.log.removeHandler(self)

    @property
    def single(self) -> int:
        return sum(message == "Request failed" for _, message, _ in self.seen)

    @property
    def counted(self) -> int:
        return sum(fields.get("Count", 0) for _, _, fields in self.seen)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def malformed(client: str = "192.0.2.1", why: str = "Why.") -> RefusedRequest:
    return RefusedRequest(BadRequest(why), client=client)


def test_the_line_has_what_the_access_log_has() -> None:
    request = RefusedRequest(
        Overloaded("too many", 1),
        method="GET",
        target="http://host/a%2Fb?q=secret",
        headers={"X_REQUEST_ID": "id"},
        client="192.0.2.1",
    )
    with Lines() as lines:
        RefusalLog(clock=Clock()).refused(request)
    fields = {
        "Request": "/a%2Fb",
        "StatusCode": 503,
        "Code": "Overloaded",
        "Error": "Too many.",
        "RequestID": "id",
        "Method": "GET",
        "Client": "192.0.2.1",
    }
    assert lines.seen == [("ERROR", "Request failed", fields)]


@pytest.mark.parametrize("target", ["", "host:443"])
def test_what_has_no_path_shows_none(target: str) -> None:
    with Lines() as lines:
        RefusalLog(clock=Clock()).refused(RefusedRequest(BadRequest("Why."), target=target))
    ((level, _, fields),) = lines.seen
    assert level == "WARNING"
    assert "Request" not in fields


def test_lines_of_one_reason_leave_those_of_others_and_of_other_clients() -> None:
    refusals = RefusalLog(clock=Clock())
    with Lines() as lines:
        for _ in range(LINES_OF_ONE + 5):
            refusals.refused(malformed())
        assert lines.single == LINES_OF_ONE
        refusals.refused(malformed(why="Another."))
        refusals.refused(malformed(client="192.0.2.2"))
        assert lines.single == LINES_OF_ONE + 2


def test_the_count_comes_when_the_time_is_over_though_nothing_else_happens() -> None:
    clock = Clock()
    refusals = RefusalLog(clock=clock)
    with Lines() as lines:
        for _ in range(LINES_OF_ONE + 5):
            refusals.refused(malformed())
        refusals.tick()
        assert lines.counted == 0
        clock.now = WINDOW_SECONDS
        refusals.tick()
        assert lines.seen[-1] == (
            "WARNING",
            "Requests failed, without a line for each",
            {"StatusCode": 400, "Code": "BadRequest", "Count": 5},
        )
        refusals.refused(malformed())
        assert lines.single == LINES_OF_ONE + 1


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from(["One.", "Two."]), st.floats(0, 0.2)),
        max_size=400,
    )
)
def test_whatever_comes_is_in_a_line_or_in_a_count(
    events: list[tuple[int, str, float]],
) -> None:
    clock = Clock()
    refusals = RefusalLog(clock=clock)
    with Lines() as lines:
        for client, why, pause in events:
            clock.now += pause
            refusals.refused(malformed(f"192.0.2.{client}", why))
        refusals.flush()
    assert lines.single + lines.counted == len(events)
    assert lines.single <= LINES_OF_ALL * (1 + clock.now // WINDOW_SECONDS)
