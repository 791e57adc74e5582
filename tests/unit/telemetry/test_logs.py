"""The form of log lines, and what may never be in one."""

import json
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.proxy.access_log import shown_url
from authproxy.redaction import masked
from authproxy.telemetry.log_forms import (
    FORMS,
    MAX_VALUE_CHARACTERS,
    JSONFormatter,
    LogfmtFormatter,
    OTelFormatter,
)
from authproxy.telemetry.logs import WriterHandler, alive, captured

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


@pytest.mark.parametrize(
    ("request_field", "attributes"),
    [
        (
            "https://metrics.example.com/api/v1/write?a=b?c",
            {
                "url.full": "https://metrics.example.com/api/v1/write?a=b?c",
                "server.address": "metrics.example.com",
                "server.port": 443,
                "url.path": "/api/v1/write",
                "url.query": "a=b?c",
            },
        ),
        (
            "http://[::1]:8080//x%2F",
            {
                "url.full": "http://[::1]:8080//x%2F",
                "server.address": "::1",
                "server.port": 8080,
                "url.path": "//x%2F",
            },
        ),
        ("/a//b", {"url.path": "/a//b"}),
        ("//[x://", {"url.path": "//[x://"}),
        ("/x/https://h.example.com:abc/y", {"url.path": "/x/https://h.example.com:abc/y"}),
    ],
)
def test_the_same_event_with_opentelemetrys_names(
    request_field: str, attributes: dict[str, object]
) -> None:
    fields = {
        "Request": request_field,
        "StatusCode": 403,
        "Code": "TargetRefusedIdentity",
        "Error": "why",
        "DurationMs": 12,
        "Method": "POST",
        "Attempts": 2,
        "Route": "one",
        "Client": "192.0.2.1",
        "SentStatusCode": 503,
        "LOG_LEVEL": "info",
        "AppID": None,
    }
    made = record("Request %s", "failed", **fields)
    made.levelname = "ERROR"
    made.trace_id, made.span_id = "0af7", "b7ad"
    assert json.loads(OTelFormatter().format(made)) == {
        "timestamp": "2026-01-02T03:04:05Z",
        "severity_text": "ERROR",
        "severity_number": 17,
        "body": "Request failed",
        **attributes,
        "http.response.status_code": 403,
        "error.type": "TargetRefusedIdentity",
        "error.message": "why",
        "http.server.request.duration": 0.012,
        "http.request.method": "POST",
        "http.request.resend_count": 1,
        "http.route": "one",
        "client.address": "192.0.2.1",
        "authproxy.sent_status_code": 503,
        "authproxy.log_level": "info",
        "trace_id": "0af7",
        "span_id": "b7ad",
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
@pytest.mark.parametrize("formatter", [form() for form in FORMS.values()])
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


# -- lines that are formed later ----------------------------------------------------------


class Refusing:
    """Something whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, Callable[[], list[str]]]]:
    """A logger, and what gives the lines that it has written so far."""
    taken = bytearray()

    def take(data: bytes) -> int:
        taken.extend(data)
        return len(data)

    handler = WriterHandler(take, LogfmtFormatter())
    logger = logging.Logger("authproxy.x")
    logger.addHandler(handler)

    def lines() -> list[str]:
        handler.flush()
        return taken.decode().splitlines()

    yield logger, lines
    handler.close()


Logged = tuple[logging.Logger, Callable[[], list[str]]]


def test_a_line_tells_what_was_there_when_it_was_logged(logged: Logged) -> None:
    logger, lines = logged
    changing: list[int] = []
    logger.info("%s", changing, extra={"fields": {"List": changing}})
    changing.append(1)
    (line,) = lines()
    assert line.endswith('msg="[]" List="[]"')


def test_arguments_of_every_kind_make_a_line(logged: Logged) -> None:
    logger, lines = logged
    logger.info("%d%%", 5)
    logger.info("%(a)s", {"a": "b"})
    logger.info(ValueError("as a message"))
    logger.info("100%", extra={"fields": {"None": None, "True": True, "Float": 0.5}})
    assert [line.partition("msg=")[2] for line in lines()] == [
        '"5%"',
        '"b"',
        '"as a message"',
        '"100%" True=true Float=0.5',
    ]


@pytest.mark.parametrize(
    ("message", "args", "fields"),
    [
        ("%d", ("x",), {}),
        ("%s %s", ("x",), {}),
        ("%s", (Refusing(),), {}),
        ("m", (), {"K": Refusing()}),
    ],
    ids=["type", "count", "argument", "field"],
)
def test_a_line_that_cannot_be_formed_is_told_of(
    logged: Logged, message: str, args: tuple[object, ...], fields: dict[str, object]
) -> None:
    logger, lines = logged
    logger.info(message, *args, extra={"fields": fields})
    logger.info("next")
    first, second = lines()
    assert 'level=error msg="A log line could not be formed" Logger=authproxy.x Line=' in first
    assert 'msg="next"' in second


def test_a_waiting_line_keeps_no_values_of_an_exception_alive() -> None:
    class Local:
        pass

    references: list[weakref.ref[Local]] = []

    def fail() -> None:
        local = Local()
        references.append(weakref.ref(local))
        raise ValueError("boom")

    try:
        fail()
    except ValueError:
        made = record("Failed")
        made.exc_info = sys.exc_info()
        kept, _ = captured(made)
        made.exc_info = None
    assert references[0]() is None
    line = LogfmtFormatter().format(kept)
    assert "ValueError: boom" in line
    assert "in fail" in line
    assert "raise ValueError" in line


@given(
    st.text(),
    st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text()))),
)
def test_a_line_is_the_same_whenever_it_is_formed(message: str, values: list[object]) -> None:
    fields = {f"K{number}": value for number, value in enumerate(values)}
    made = record("%s", message, **fields)
    kept, size = captured(made)
    line = LogfmtFormatter().format(made)
    assert LogfmtFormatter().format(kept) == line
    assert size >= len(message)


def test_the_end_of_the_thread_is_noticed(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, lines = logged
    (handler,) = logger.handlers
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    logger.info("well")
    assert lines() != []
    assert alive()

    def fail(data: bytes) -> int:
        raise RuntimeError("a bug")

    assert isinstance(handler, WriterHandler)
    handler.writer._sink = fail
    logger.info("ill")
    handler.flush()
    assert not alive()
