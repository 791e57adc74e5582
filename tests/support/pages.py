"""The documentation's pages, and the code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.source import ROOT

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
        return f"{self.page.relative_to(ROOT)}, {self.heading}"


def blocks_of(page: Path) -> list[Block]:
    """Return the page's blocks, in their order."""
    found = []
    heading = ""
    for match in _HEADING_OR_BLOCK.finditer(page.read_text()):
        if match[1]:
            heading = match[1]
        else:
            found.append(Block(page, heading, match[2], match[3]))
    return found


def blocks(page: Path, language: str) -> list[Block]:
    """Return those in `language`."""
    return [block for block in blocks_of(page) if block.language == language]


def all_blocks(language: str) -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES for block in blocks(page, language)]
