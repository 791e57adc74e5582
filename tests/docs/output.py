"""Judges of what programs print: log lines, reports, answers."""

from __future__ import annotations

import json
import re

from tests.docs.log_messages import GRAVE, QUIET, messages
from tests.support.logfmt import parse_line
from tests.support.pages import Block
from tests.support.source import MODULES, ROOT


def judge_text(block: Block) -> None:
    """Lines of the log, of `systemctl status`, or of `authproxy check`."""
    lines = block.code.splitlines()
    assert lines, block
    if lines[0].startswith(("✓", "✗", "!")):
        _judge_check(lines)
    else:
        for line in lines:
            _judge_line(line)


def _judge_line(line: str) -> None:
    if status := re.fullmatch(r'Status: "(.*)"', line):
        # Up to where a time or a cause is filled in.
        words = re.split(r"\d{4}-|\.\.\.", status[1])[0]
        told = "".join(MODULES.values())
        for sentence in filter(None, re.split(r"(?<=\.) ", words)):
            assert sentence.strip() in told, line
        return
    event = parse_line(re.sub(r" \.\.\.$", "", line))
    assert {"level", "msg"} <= event.keys(), line
    known = {
        re.escape(message.text).replace(r"\.\.\.", ".+") for message in messages(GRAVE | QUIET)
    }
    assert any(re.fullmatch(pattern, event["msg"]) for pattern in known), line


def _judge_check(lines: list[str]) -> None:
    """Steps are those of the program, in their order."""
    told = [match[1] for line in lines if (match := re.match(r"[✓✗!] (\w+) ", line))]
    page = (ROOT / "docs" / "command-line.md").read_text()
    order = re.findall(r"^\| `(\w+)` \| [A-Z].* \| ", page, re.M)
    assert told == sorted(told, key=order.index), lines
    for name in told:
        assert any(f'"{name}"' in source for source in MODULES.values()), name
    assert len(told) == 1 or re.search(r"Exit status \d", lines[-1]), lines


def judge_json(block: Block) -> None:
    """An answer of the probes: its keys are those that the program gives."""
    for key in _keys(json.loads(block.code)):
        assert any(f'"{key}"' in text or f"{key}=" in text for text in MODULES.values()), key


def _keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(key for each in value.values() for key in _keys(each))}
    if isinstance(value, list):
        return {key for each in value for key in _keys(each)}
    return set()
