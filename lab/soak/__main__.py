"""`python -m lab.soak`: soak the proxy, print what came of it; status 1 if anything is wrong."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import click

from lab.soak.report import told, verdicts
from lab.soak.run import Soak


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=10),
    default=lambda: os.environ.get("SOAK_SECONDS") or "1200",
    show_default="$SOAK_SECONDS, or 1200",
    help="How long faults go on.",
)
@click.option(
    "--seed",
    type=int,
    default=lambda: os.environ.get("SOAK_SEED") or str(secrets.randbelow(10**6)),
    show_default="$SOAK_SEED, or any",
    help="What the faults follow from.",
)
@click.option("--report", type=click.Path(path_type=Path), help="Also write the report there.")
def main(seconds: float, seed: int, report: Path | None) -> None:
    """Soak the proxy among random faults."""
    if shutil.which("prometheus") is None:
        click.echo(
            "*** SOAK SKIPPED: no prometheus is installed; see scripts/system-deps", err=True
        )
        sys.exit(1 if os.environ.get("CI") else 0)
    click.echo(f"Soak: {seconds:.0f} s of faults, --seed {seed}")
    with tempfile.TemporaryDirectory(prefix="authproxy-soak-") as folder:
        outcome = Soak(Path(folder), seconds, seed, click.echo).run()
    text = told(outcome)
    click.echo(text)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(text)
    sys.exit(bool(verdicts(outcome)))


if __name__ == "__main__":
    main()
