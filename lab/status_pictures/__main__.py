"""`python -m lab.status_pictures FOLDER`: have the quarter of an hour, and picture its page."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import click

from lab.status_pictures.story import MINUTES, quarter_of_an_hour
from tests.support.browser import chromium

WIDTHS = {"wide": 1000, "narrow": 380}
#: The shape of which the first screen is a picture of its own.
FIRST = ("light", "wide")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--minutes", type=float, default=MINUTES, help="How many minutes the page shows.")
def main(folder: Path, minutes: float) -> None:
    """Draw the page, light and dark, wide and narrow, and its first screen, to FOLDER (PNG)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="authproxy-picture-") as name,
        quarter_of_an_hour(Path(name), minutes, click.echo) as page,
    ):
        picture(page, folder)


def picture(page: str, folder: Path) -> None:
    """Draw a page in all its shapes."""
    with chromium() as browser:
        for scheme in ("light", "dark"):
            for name, width in WIDTHS.items():
                file = folder / f"status-{scheme}-{name}.png"
                context = browser.new_context(
                    color_scheme=scheme,
                    viewport={"width": width, "height": 800},
                    java_script_enabled=False,
                )
                tab = context.new_page()
                tab.set_content(page)
                _write(file, tab.screenshot(full_page=True))
                if (scheme, name) == FIRST:
                    _write(folder / "status.png", tab.screenshot())
                context.close()


def _write(file: Path, drawn: bytes) -> None:
    """Write a picture with sixty-four colours, which are enough, in a third of the bytes."""
    small = subprocess.run(["pngquant", "64", "-"], input=drawn, capture_output=True, check=True)
    file.write_bytes(small.stdout)
    click.echo(f"{file}: {file.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
