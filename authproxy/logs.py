"""Log set-up: one line per event on standard error, as logfmt or JSON.

Events are logged through the standard library everywhere, with their keys in
`extra={"fields": {...}}`. The logfmt line is the retired proxy's (logrus's
text form): time, level and msg first, values quoted where they need it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from authproxy.redaction import masked
from authproxy.settings import Settings

_BARE_VALUE = re.compile(r"[A-Za-z0-9\-._/@^+]+")

#: Syslog's priorities, from which level up.
_JOURNAL_PREFIXES = (
    (logging.CRITICAL, "<2>"),
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
    (logging.NOTSET, "<7>"),
)

#: Most characters of one value in a line. What a client, a target or an identity endpoint says may
#: be as long as they like.
MAX_VALUE_CHARACTERS = 2048

#: Libraries whose debug output shows request headers, or that warn of what is
#: ordinary here (a full pool or queue).
_QUIET = {
    "azure": logging.ERROR,
    "msal": logging.ERROR,
    "urllib3": logging.ERROR,
    "werkzeug": logging.ERROR,
}


def event_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's keys and values, masked, in the order of its line."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    event: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
        "level": record.levelname.lower(),
        "msg": masked(record.getMessage()),
    }
    for key, value in fields.items():
        if value is not None:
            event[key] = bounded(masked(value)) if isinstance(value, str) else value
    for key in ("trace_id", "span_id"):  # where the record belongs to a sampled span
        if (value := getattr(record, key, None)) is not None:
            event[key] = value
    if record.exc_info:
        traceback = logging.Formatter().formatException(record.exc_info)
        event["Traceback"] = masked(traceback)
    return event


def bounded(text: str) -> str:
    """Return a value as a line may have it: cut, with the number of characters left out."""
    more = len(text) - MAX_VALUE_CHARACTERS
    return text if more <= 0 else f"{text[:MAX_VALUE_CHARACTERS]}... ({more} characters more)"


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(event_of(record), default=str)


class LogfmtFormatter(logging.Formatter):
    """`key=value` pairs; a value is quoted and escaped where it is not one plain word."""

    def format(self, record: logging.LogRecord) -> str:
        event = event_of(record)
        # Always quoted, so that one pattern finds a message of one word as well.
        message = json.dumps(event.pop("msg"))
        head = f'time="{event.pop("time")}" level={event.pop("level")} msg={message}'
        return " ".join([head, *(f"{key}={_logfmt_value(value)}" for key, value in event.items())])


def _logfmt_value(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _BARE_VALUE.fullmatch(text) else json.dumps(text)


class JournalFormatter(logging.Formatter):
    """Puts the priority in front of a line, from where the journal takes it away (sd-daemon(3))."""

    def __init__(self, form: logging.Formatter) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        return f"{journal_prefix(record.levelno)}{self._form.format(record)}"


def journal_prefix(level: int) -> str:
    """Return what tells the journal how grave a line is."""
    return next(prefix for least, prefix in _JOURNAL_PREFIXES if level >= least)


def writes_to_journal() -> bool:
    """Tell whether standard error is the journal (JOURNAL_STREAM of systemd.exec(5))."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def configure(settings: Settings) -> None:
    """Send every log line of this process to standard error in the form asked for."""
    form = JSONFormatter() if settings.log_format == "json" else LogfmtFormatter()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter(form) if writes_to_journal() else form)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    set_level(settings)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


def set_level(settings: Settings) -> None:
    """Log what is at least of the level asked for."""
    logging.getLogger("authproxy").setLevel(settings.level)
