"""The commands of a page, as a shell can run them."""

from __future__ import annotations

import re

from tests.support.source import ROOT


def section(page: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of its rank."""
    text = (ROOT / page).read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"{page} has no section {heading!r}"
    return found[1]


def commands(page: str, heading: str) -> str:
    """Return the commands of a section's console blocks, without prompts and output."""
    lines: list[str] = []
    for block in re.findall(r"```console\n(.*?)```", section(page, heading), re.S):
        for line in block.splitlines():
            if prompted := re.match(r"[#$] (.*)", line):
                lines.append(prompted[1])
            elif lines and lines[-1].endswith("\\"):
                lines.append(line)
    assert lines, f"{heading} of {page} has no commands"
    return "\n".join(lines)
