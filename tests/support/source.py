"""The source of the proxy, for tests that hold the documentation to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

#: The checkout.
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "authproxy"

#: Each module's text, by its path in the package. The demonstration is none of the proxy's.
MODULES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
    if "demo" not in path.relative_to(PACKAGE).parts
}


def source_files() -> list[str]:
    """Return the names of the files that git has or would add, below the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name]


def copy_of_the_sources(folder: Path) -> Path:
    """Return the tracked files as a careful person's clone has them: with other times and modes."""
    for name in source_files():
        if (ROOT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
            target.chmod(0o600)
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o700)
    return folder
