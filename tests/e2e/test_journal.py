"""Lines for the journal begin with their priority; all other lines stay as they are."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from authproxy.telemetry.log_forms import LogfmtFormatter
from authproxy.telemetry.logs import JournalFormatter
from tests.support.identity import identity_settings
from tests.support.process import clean_environment, free_port, wait_until
from tests.support.stand_ins.entra import StandInEntra
from tests.support.wire import DEADLINE

SERVE = [sys.executable, "-m", "authproxy", "serve"]


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (logging.DEBUG, "<7>"),
        (logging.INFO, "<6>"),
        (logging.WARNING, "<4>"),
        (logging.ERROR, "<3>"),
        (logging.CRITICAL, "<2>"),
    ],
)
def test_a_level_is_a_priority_of_syslog(level: int, prefix: str) -> None:
    record = logging.LogRecord("authproxy.x", level, "x.py", 1, "m", (), None)
    form = LogfmtFormatter()
    assert JournalFormatter(form).format(record) == prefix + form.format(record)


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_a_process_whose_standard_error_is_the_journal_says_priorities(
    base_settings: dict[str, str], entra: StandInEntra, tmp_path: Path, log_format: str
) -> None:
    entra.fail_with(500)
    journal = tmp_path / "journal"
    with journal.open("w") as stream:
        status = journal.stat()
        settings = {
            **base_settings,
            **identity_settings(entra),
            "LISTENING_PORT": str(free_port()),
            "LOG_FORMAT": log_format,
            "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}",
        }
        environment = clean_environment(str(tmp_path)) | settings
        with subprocess.Popen(SERVE, env=environment, stderr=stream) as process:
            try:
                wait_until("it has failed", lambda: "Failed to refresh" in journal.read_text())
            finally:
                process.terminate()
            assert process.wait(DEADLINE) == 0
    lines = journal.read_text().splitlines()
    rest = "time=" if log_format == "logfmt" else "{"
    assert all(re.match(rf"<[2-7]>{rest}", line) for line in lines), lines
    priorities = {line[:3] for line in lines if "Failed to refresh" in line}
    assert priorities == {"<3>"}
    assert {line[:3] for line in lines if "Listening" in line} == {"<6>"}


def test_faults_in_the_settings_are_errors_in_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with journal.open("w") as stream:
        status = journal.stat()
        where = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        environment = clean_environment(str(tmp_path)) | where
        assert subprocess.run(SERVE, env=environment, stderr=stream, check=False).returncode == 2
    lines = journal.read_text().splitlines()
    assert len(lines) > 2
    assert all(line.startswith("<3>") for line in lines), lines


@pytest.mark.parametrize("journal_stream", ["1:2", "", "none"])
def test_a_standard_error_that_is_not_the_journal_gets_no_priorities(
    tmp_path: Path, journal_stream: str
) -> None:
    environment = clean_environment(str(tmp_path)) | {"JOURNAL_STREAM": journal_stream}
    result = subprocess.run(SERVE, env=environment, capture_output=True, text=True, check=False)
    assert result.stderr.startswith("authproxy: ")
    assert "<3>" not in result.stderr
