"""docs/troubleshooting.md has an entry for all that an operator can be told.

Read from the source: what is added there and not on the page makes these fail,
with the line that tells of it.
"""

from __future__ import annotations

import re

import pytest

from authproxy import errors
from authproxy.identity.endpoint_errors import rules
from authproxy.identity.entra_errors import _AADSTS
from tests.docs.log_messages import GRAVE, QUIET, Message, messages
from tests.support.source import MODULES, ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
LOG = PAGE.partition("\n## In the log\n")[2].partition("\n## ")[0]
CODES = PAGE.partition("\n### Codes of the proxy's own\n")[2].partition("\n## ")[0]
TOKENS = PAGE.partition("\n## No token\n")[2].partition("\n## ")[0]
#: The proxy's own words for what Entra gives no code for.
_WORDS = sorted({explanation.code for _, explanation in rules("", None)})
#: What the first cells of the tables about the log quote; `...` stands for what is filled in.
ENTRIES = {
    quoted
    for cell in re.findall(r"^\| (`[^|]*) \|", LOG, re.M)
    for quoted in re.findall(r"`([^`]+)`", cell)
} - {"Code="}


def fits(entry: str, text: str) -> bool:
    """Tell whether an entry stands for a message; the entry may say less than the message."""
    pattern = ".*".join(map(re.escape, entry.split("...")))
    return re.fullmatch(pattern, text, re.S) is not None


GRAVE_ONES = messages(GRAVE)


def codes_in_the_source() -> dict[str, int]:
    """Return each code that a response of the proxy itself can have, with its status."""
    return {kind.code: int(kind.status) for kind in errors.RequestError.__subclasses__()}


@pytest.mark.parametrize("message", GRAVE_ONES, ids=str)
def test_each_warning_and_error_has_an_entry(message: Message) -> None:
    assert any(fits(entry, message.text) for entry in ENTRIES), f"{message}: not on the page"


@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_each_entry_is_a_line_that_is_logged(entry: str) -> None:
    assert any(fits(entry, message.text) for message in [*GRAVE_ONES, *messages(QUIET)])


def test_the_source_is_read_whole() -> None:
    """Some of each way in which a message comes about."""
    texts = {message.text for message in GRAVE_ONES}
    assert len(texts) > 25
    assert texts >= {
        "Worker died",  # as it stands
        "Error response body: ...",  # filled in by logging
        "New ... cannot be used, ...",  # an f-string
        "Telemetry problem",  # one of two, in a variable
        "Failed to refresh token",  # a parameter, at a level that differs
        "Settings not reloaded, those before stay in force",
    }
    assert "Token refreshed" not in texts
    loggers = re.findall(
        r"\blog\.(?:warning|error|exception|critical)\(",
        "".join(MODULES.values()),
    )
    assert len(GRAVE_ONES) >= len(loggers)


def test_each_code_of_the_proxys_own_is_explained_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| .{10,} \|$", CODES, re.M)
    assert {code: int(status) for code, status in rows} == codes_in_the_source()
    assert len(rows) == len(codes_in_the_source())
    assert {"TargetTimeout", "NotConfigured", "NotImplemented", "MetricsUnavailable"} <= {
        code for code, _ in rows
    }


@pytest.mark.parametrize("code", [*(f"AADSTS{digits}" for digits in _AADSTS), *_WORDS])
def test_each_cause_of_a_missing_token_has_an_entry(code: str) -> None:
    assert code in re.findall(r"`(\w+)`", "".join(re.findall(r"^\| ([^|]+) \|", TOKENS, re.M)))
