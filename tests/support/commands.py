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
    """Return the commands of a section's `bash` blocks, in their order."""
    blocks = re.findall(r"^```bash\n(.*?)\n```$", section(page, heading), re.M | re.S)
    assert blocks, f"{heading} of {page} has no commands"
    return "\n".join(blocks)
