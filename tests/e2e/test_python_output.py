"""What Python itself would print goes into the log."""

from __future__ import annotations

import subprocess
import sys

from tests.support.logfmt import parse_line

UNCAUGHT = """
import logging, threading, warnings
from authproxy.telemetry.logs import configure, log_uncaught
from authproxy.settings import load_settings
environ = {"TARGET_HOST": "x.metrics.ingest.monitor.azure.com"}
configure(load_settings(environ=environ, serving=False).settings)
log_uncaught()
class Broken:
    def __del__(self):
        raise ValueError("in a finalizer")
def fail():
    raise ValueError("in a thread")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Broken()
warnings.warn("mind this")
raise ValueError("at the end")
"""


def test_what_python_itself_would_print_is_logged() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [parse_line(line)["level"] for line in lines] == [
        *["critical"] * 2,
        "warning",
        "critical",
    ]
    for line, text in zip(
        lines, ("in a thread", "in a finalizer", "mind this", "at the end"), strict=True
    ):
        assert text in line
