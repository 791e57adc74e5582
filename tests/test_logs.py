"""The form of log lines, and what may never be in one."""

import json
import logging
import sys
import time
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.logs import MAX_VALUE_CHARACTERS, JSONFormatter, LogfmtFormatter
from authproxy.redaction import masked
from authproxy.request_log import shown_url

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwcyJ9.c2lnbmF0dXJl"


def record(message: str, *args: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("authproxy.x", logging.INFO, "x.py", 1, message, args, None)
    made.created = 1767323045.0
    made.fields = fields
    return made


def test_a_line_has_the_retired_proxys_form() -> None:
    fields = {
        "ContentLength": 0,
        "Request": "https://metrics.example.com/api/v1/write?a=b",
        "StatusCode": 200,
        "RequestID": None,
    }
    made = record("Successfully sent request, returning response back.", **fields)
    assert LogfmtFormatter().format(made) == (
        'time="2026-01-02T03:04:05Z" level=info '
        'msg="Successfully sent request, returning response back." ContentLength=0 '
        'Request="https://metrics.example.com/api/v1/write?a=b" StatusCode=200'
    )


def test_the_same_event_as_json() -> None:
    made = json.loads(JSONFormatter().format(record("It is %s", "done", StatusCode=200, Ok=True)))
    assert made == {
        "time": "2026-01-02T03:04:05Z",
        "level": "info",
        "msg": "It is done",
        "StatusCode": 200,
        "Ok": True,
    }


@given(st.text())
def test_no_value_can_start_a_line_or_a_key_of_its_own(value: str) -> None:
    line = LogfmtFormatter().format(record("m %s", value, Key=value, End=1))
    assert line.isprintable()
    assert line.endswith(" End=1")
    assert line.count(" Key=") == 1 or "Key=" in value


@given(st.text(max_size=100), st.integers(0, 3 * MAX_VALUE_CHARACTERS))
def test_a_value_takes_no_more_of_a_line_than_it_may(value: str, repeated: int) -> None:
    value = (value or "x") * (1 + repeated // max(1, len(value)))
    made = json.loads(JSONFormatter().format(record("m", Key=value, End=1)))
    whole = masked(value)
    more = len(whole) - MAX_VALUE_CHARACTERS
    cut = f"{whole[:MAX_VALUE_CHARACTERS]}... ({more} characters more)"
    assert made["Key"] == (whole if more <= 0 else cut)
    assert made["End"] == 1


@given(st.binary(max_size=50))
def test_a_request_target_is_shown_in_ascii_and_means_the_same(raw: bytes) -> None:
    shown = shown_url(raw.decode("latin-1"))
    assert shown.isascii()
    assert unquote_to_bytes(shown) == unquote_to_bytes(raw)
    assert len(shown) <= 3 * len(raw)


def test_showing_and_cutting_a_target_takes_time_in_proportion_to_it() -> None:
    def seconds(length: int) -> float:
        target = "/" + "\xff." * length

        def once() -> float:
            began = time.process_time()
            LogfmtFormatter().format(record("m", Request=shown_url(target)))
            return time.process_time() - began

        return min(once() for _ in range(20))

    assert seconds(20_000) < 2.5 * seconds(10_000)


def test_a_token_at_the_cut_is_masked_whole() -> None:
    """What is left of it would look like no token any more."""
    value = "x" * (MAX_VALUE_CHARACTERS - 12) + f" {TOKEN}"
    line = LogfmtFormatter().format(record("m", Key=value))
    assert TOKEN[:8] not in line


OPAQUE = "abcdefghijklmnopqrstuvwxyz0123"


@pytest.mark.parametrize(
    "text",
    [TOKEN, f"Authorization: Bearer {TOKEN}", f"bearer {OPAQUE}", f"{{'Bearer': '{TOKEN}'}}"],
)
@pytest.mark.parametrize("formatter", [LogfmtFormatter(), JSONFormatter()])
def test_what_looks_like_a_token_is_masked_wherever_it_stands(
    text: str, formatter: logging.Formatter
) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        made = record("%s", text, Key=text)
        made.exc_info = sys.exc_info()
    line = formatter.format(made)
    assert "***" in line
    assert "eyJhdWQ" not in line
    assert OPAQUE not in line


@pytest.mark.parametrize("before", ["", "x-", "a.b.", "/", "=", "eyJ.", "token="])
def test_a_token_is_masked_whatever_stands_before_it(before: str) -> None:
    assert masked(f"{before}{TOKEN}").endswith("***")
    assert masked(f"{before}{TOKEN}").startswith(before)


@pytest.mark.parametrize("piece", ["eyJ-", "eyJ.", "eyJaaaaaaaaa.", "bearer ", "a.", "-"])
def test_what_almost_is_a_token_holds_nobody_up(piece: str) -> None:
    # A request target of 64 KiB held every thread for seconds; this would take minutes.
    assert masked("/" + piece * 100_000).startswith("/")


def test_ordinary_words_are_not_masked() -> None:
    text = "the bearer of bad news: eyJ is not a token"
    assert masked(text) == text


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        made = record("Failed")
        made.exc_info = sys.exc_info()
    line = LogfmtFormatter().format(made)
    assert "\n" not in line
    assert "ValueError: boom" in line
