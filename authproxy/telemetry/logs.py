"""Log set-up: one line per event on standard error, in the form of LOG_FORMAT.

Events are logged through the standard library everywhere, with their keys in
`extra={"fields": {...}}`.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from traceback import TracebackException
from types import TracebackType
from typing import Any, TextIO

from authproxy.settings import Settings
from authproxy.telemetry.log_forms import FORMS
from authproxy.telemetry.log_writer import LogWriter, Sink, descriptor_sink, stream_sink

log = logging.getLogger(__name__)

#: Syslog's priorities, from which level up.
_JOURNAL_PREFIXES = (
    (logging.CRITICAL, "<2>"),
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
    (logging.NOTSET, "<7>"),
)

#: What cannot change between the call and the line.
_FIXED = (str, int, float, type(None))
_NO_FIELDS: Mapping[str, Any] = {}

#: Memory of a record besides its texts, and of a traceback.
_RECORD_BYTES = 1000
_TRACEBACK_BYTES = 4000

#: Libraries whose debug output shows request headers, or that warn of what is
#: ordinary here (a full pool or queue).
_QUIET = {
    "azure": logging.ERROR,
    "msal": logging.ERROR,
    "urllib3": logging.ERROR,
    "werkzeug": logging.ERROR,
}


class JournalFormatter(logging.Formatter):
    """Puts the priority in front of a line, from where the journal takes it away (sd-daemon(3))."""

    def __init__(self, form: logging.Formatter) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        return f"{journal_prefix(record.levelno)}{self._form.format(record)}"


def journal_prefix(level: int) -> str:
    """Return the prefix that gives the journal a line's priority."""
    return next(prefix for least, prefix in _JOURNAL_PREFIXES if level >= least)


def writes_to_journal() -> bool:
    """Tell whether standard error is the journal (JOURNAL_STREAM of systemd.exec(5))."""
    stream: TextIO | None = sys.stderr
    try:
        status = os.fstat(stream.fileno() if stream else -1)
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class WriterHandler(logging.Handler):
    """Hands records to a `LogWriter`, as they are when they are logged."""

    def __init__(self, sink: Sink, form: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(form)
        self.writer: LogWriter[logging.LogRecord] = LogWriter(sink, self._line, _of_loss)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.put(*captured(record))
        except Exception as error:  # noqa: BLE001  # a caller's arguments may raise anything
            self.writer.put(_of_fault(record, error), len(record.name))

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001  # likewise; it would end the thread
            return self.format(_of_fault(record, error))

    def flush(self) -> None:
        """Wait until all lines are written, a second or two at most."""
        self.writer.flush()

    def close(self) -> None:
        """End the writer; what is logged from now on is dropped."""
        self.writer.close()
        super().close()


def captured(record: logging.LogRecord) -> tuple[logging.LogRecord, int]:
    """Return a record that can be formed later in another thread, and its size in bytes.

    It is the same one, unless it refers to what may have changed by then. Of an
    exception it keeps what a traceback shows, not the frames and their values.
    """
    message, fields = record.msg, getattr(record, "fields", _NO_FIELDS)
    args = record.args if isinstance(record.args, tuple) else (record.args,)
    fixed = type(message) is str and record.exc_info is None
    size = _RECORD_BYTES
    for value in (message, *args, *fields.values()):
        if type(value) is str:
            size += len(value)
        elif not isinstance(value, _FIXED):
            fixed = False
    if fixed:
        return record, size
    record = copy.copy(record)
    record.msg, record.args = record.getMessage(), None
    record.fields = {
        key: value if isinstance(value, _FIXED) else str(value) for key, value in fields.items()
    }
    size = _RECORD_BYTES + len(record.msg) + sum(len(str(value)) for value in fields.values())
    if record.exc_info and record.exc_info[0]:
        record.traceback = TracebackException(*record.exc_info, lookup_lines=False)
        record.exc_info = None
        size += _TRACEBACK_BYTES
    return record, size


def _of_loss(count: int) -> logging.LogRecord:
    message = "Log lines were lost, as standard error was not read"
    record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None)
    record.fields = {"Count": count}
    return record


def _of_fault(faulty: logging.LogRecord, error: Exception) -> logging.LogRecord:
    message = "A log line could not be formed"
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, None, None)
    record.fields = {"Logger": faulty.name, "Line": faulty.lineno, "Error": type(error).__name__}
    return record


def standard_error() -> Sink:
    """Return what writes to standard error."""
    stream: TextIO | None = sys.stderr
    if stream is None:  # the process began without, and descriptor 2 may be a client's socket
        return len
    try:
        # Another descriptor than the usual one is the stream's to close.
        if stream.fileno() == 2:
            return descriptor_sink(2)
    except (OSError, ValueError):
        pass  # it has none
    return stream_sink(stream)


def lost_lines() -> int:
    """Return how many lines this process has lost, as standard error was not read."""
    return sum(writer.lost for writer in _writers())


def alive() -> bool:
    """Tell whether the lines of this process are being written."""
    return all(writer.alive for writer in _writers())


def _writers() -> list[LogWriter[logging.LogRecord]]:
    return [handler.writer for handler in own_handlers()]


def own_handlers() -> list[WriterHandler]:
    """Return the root logger's handlers that `configure` put there; none in somebody's program."""
    handlers = logging.getLogger().handlers
    return [handler for handler in handlers if isinstance(handler, WriterHandler)]


def own_logger() -> logging.Logger:
    """Return the logger of what is ours to export.

    The root logger where `configure` has set up the log of the whole process;
    in somebody's program, whose log is its own, that of this package.
    """
    return logging.getLogger(None if own_handlers() else "authproxy")


def complain(lines: Iterable[str]) -> None:
    """Write lines for the operator to standard error; return once they are there.

    Waits no longer than `LogWriter.flush`; where standard error is not read, lines are lost.
    """
    prefix = journal_prefix(logging.ERROR) if writes_to_journal() else ""
    for handler in logging.getLogger().handlers:  # what has been logged comes first
        handler.flush()
    writer: LogWriter[str] = LogWriter(standard_error(), str, "{} lines were lost".format)
    for line in lines:
        writer.put(f"{prefix}{line}", len(line))
    writer.flush()
    writer.close()


def log_uncaught() -> None:
    """Have what Python itself would write to standard error, and wait for, logged instead."""
    logging.captureWarnings(True)

    def report(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not SystemExit:
            log.critical("Unexpected error", exc_info=(kind, error or kind(), trace))

    sys.excepthook = report
    threading.excepthook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)


def configure(settings: Settings) -> None:
    """Send every log line of this process to standard error in the form asked for."""
    form = FORMS[settings.log_format]()
    handler = WriterHandler(
        standard_error(), JournalFormatter(form) if writes_to_journal() else form
    )
    # What no line shows is not looked up for each (Python's logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, WriterHandler):
            before.flush()
            before.close()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    set_level(settings)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


def set_level(settings: Settings) -> None:
    """Log from the configured level up."""
    logging.getLogger("authproxy").setLevel(settings.level)
