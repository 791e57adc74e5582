"""The steps of a release, one command each: `make release` and `make bump` run them."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tools.release import archives, pyz, versions

ROOT = Path(__file__).resolve().parents[2]


def files(version: str, output: Path, build: Path, architectures: list[str]) -> None:
    """Make everything but image and bill of materials, of the commit that is checked out."""
    epoch = int(
        subprocess.run(
            ["git", "log", "-1", "--format=%ct"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    )
    output.mkdir(parents=True, exist_ok=True)
    source = build / "source"
    archives.export(ROOT, source)
    _, wheel = archives.packages(source, output, epoch)
    archives.chart(source, output, epoch)
    for architecture in architectures:
        name = f"authproxy-{version}-linux-{architecture}.pyz"
        machine = pyz.ARCHITECTURES[architecture]
        work = build / architecture
        pyz.build(source, wheel, work, output / name, machine, pyz.pythons(source))
    (output / "RELEASE_NOTES.md").write_text(versions.notes(source, version))


def main() -> int:
    """Run one step; return 1, with the reasons on standard error, where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("step", choices=["bump", "check", "files", "sums"])
    parser.add_argument("version")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    parser.add_argument("--architectures", default=" ".join(pyz.ARCHITECTURES), type=str.split)
    options = parser.parse_args()
    try:
        if options.step == "bump":
            versions.bump(ROOT, options.version, time.strftime("%Y-%m-%d", time.gmtime()))
        elif options.step == "check":
            versions.check(ROOT, options.version)
        elif options.step == "files":
            files(options.version, options.output, options.build, options.architectures)
        else:
            archives.sums(options.output)
    except versions.ReleaseError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"release: {line}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
