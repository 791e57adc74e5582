"""The documentation's pages, and the code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_HEADING_OR_BLOCK = re.compile(r"^#+ ([^\n]+)$|^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code, and the heading that it stands under."""

    page: Path
    heading: str
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}, {self.heading}"


def blocks(page: Path, language: str) -> list[Block]:
    """Return the page's blocks in `language`, in their order."""
    found = []
    heading = ""
    for match in _HEADING_OR_BLOCK.finditer(page.read_text()):
        if match[1]:
            heading = match[1]
        elif match[2] == language:
            found.append(Block(page, heading, match[2], match[3]))
    return found


def all_blocks(language: str) -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES for block in blocks(page, language)]
