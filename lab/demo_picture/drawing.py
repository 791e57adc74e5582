"""A terminal's text as SVG, with its colours, for light pages and dark ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

#: Of a character, and what is around the text.
_WIDTH, _HEIGHT, _MARGIN = 8.4, 20, 20

#: The SGR parameters that click writes (ECMA-48 section 8.3.117), by the colours drawn for them.
_COLOURS = {"31": "#ff7b72", "32": "#57c785", "33": "#efb04a", "36": "#7cc7ff"}
_TEXT, _GROUND, _EDGE = "#e6e8eb", "#101317", "#323943"
_BOLD, _PLAIN = "1", "0"


def draw(printed: str, command: str = "authproxy demo") -> str:
    """Return the picture of a terminal in which `command` printed this."""
    lines = [f"\x1b[36m$\x1b[0m \x1b[1m{command}\x1b[0m", *printed.splitlines()]
    columns = max(len(re.sub(r"\x1b\[\d+m", "", line)) for line in lines)
    width = round(columns * _WIDTH + 2 * _MARGIN)
    height = len(lines) * _HEIGHT + 2 * _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(command)} on a terminal</title>",
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" '
            f'fill="{_GROUND}" stroke="{_EDGE}"/>',
            '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, '
            f'\'DejaVu Sans Mono\', monospace" font-size="14" fill="{_TEXT}">',
            *(piece for number, line in enumerate(lines) for piece in _line(line, number)),
            "</g>",
            "</svg>\n",
        ]
    )


def _line(line: str, number: int) -> Iterator[str]:
    """Yield the elements of a line: each has its width, whatever font there is."""
    column, colour, weight = 0, "", ""
    y = _MARGIN + number * _HEIGHT + 14
    for mark, text in re.findall(r"(?:\x1b\[(\d+)m)?([^\x1b]*)", line):
        if mark == _PLAIN:
            colour = weight = ""
        elif mark == _BOLD:
            weight = ' font-weight="bold"'
        elif mark:
            colour = f' fill="{_COLOURS[mark]}"'
        # Of blanks between columns nothing is drawn.
        for piece in re.finditer(r"\S+(?: \S+)*", text):
            x = _MARGIN + (column + piece.start()) * _WIDTH
            length = len(piece[0]) * _WIDTH
            yield (
                f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}"{colour}{weight}>'
                f"{escape(piece[0])}</text>"
            )
        column += len(text)
