"""`python -m lab.demo_picture FILE`: run the demonstration, and draw the terminal."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from lab.demo_picture.drawing import draw
from lab.demo_picture.recording import record


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def main(file: Path) -> None:
    """Draw the terminal to FILE (SVG)."""
    with tempfile.TemporaryDirectory(prefix="authproxy-picture-") as home:
        file.write_text(draw(record(Path(home))), encoding="utf-8")


if __name__ == "__main__":
    main()
