"""`python -m lab.dashboard_picture FILE`: have the two minutes, and draw them."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import click

from lab.dashboard_picture.drawing import draw
from lab.dashboard_picture.recording import record
from lab.dashboard_picture.story import two_minutes
from tests.support.dashboard import Dashboard


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def main(file: Path) -> None:
    """Draw the dashboard to FILE (PNG)."""
    dashboard = Dashboard()
    with (
        tempfile.TemporaryDirectory(prefix="authproxy-picture-") as folder,
        two_minutes(Path(folder), click.echo) as (prometheus, began),
    ):
        recording = record(dashboard, prometheus, began, time.time(), rate_interval="5s")
    picture = draw(dashboard, recording)
    drawn = subprocess.run(
        ["rsvg-convert"], input=picture.encode(), capture_output=True, check=True
    )
    # A hundred colours are enough, and a third of the bytes.
    small = subprocess.run(
        ["pngquant", "100", "-"], input=drawn.stdout, capture_output=True, check=True
    )
    file.write_bytes(small.stdout)
    click.echo(f"{file}: {file.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
