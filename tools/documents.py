"""Writes the documents and chart files that are made from the code: run by `make docs`.

With --check, as a test does, it only says which differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from authproxy.settings import Settings
from tools import chart_files, man_page, settings_page, settings_schema

ROOT = Path(__file__).resolve().parent.parent


def made(root: Path = ROOT, model: type[Settings] = Settings) -> dict[Path, str]:
    """Return every file that is made, with what it has to hold."""
    return {
        path: text
        for part in (settings_page, settings_schema, man_page, chart_files)
        for path, text in part.made(root, model).items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; with --check only say which differ, with status 1 then."""
    parser = argparse.ArgumentParser(description="Write what is made from the code.")
    parser.add_argument("--check", action="store_true", help="say what differs, write nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    options = parser.parse_args(arguments)
    differing = {
        path: text
        for path, text in made(options.root).items()
        if not path.exists() or path.read_text() != text
    }
    for path, text in differing.items():
        if options.check:
            sys.stderr.write(f"{path} is out of date: run `make docs`\n")
        else:
            path.write_text(text)
    return 1 if options.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
