"""Another revision of this repository, with the packages that its own lock names."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import authproxy as package

_ROOT = Path(package.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Checkout:
    """Where the source of an authproxy is, and the Python that has what it needs."""

    name: str
    source: Path
    python: str


#: The one that measures.
THIS = Checkout("authproxy", _ROOT, sys.executable)


def checkout(revision: str) -> Checkout:
    """Return a checkout of a revision below build/, made at its first use.

    Raises subprocess.CalledProcessError for a revision that there is not, or whose lock cannot
    be installed here.
    """
    commit = _git("rev-parse", "--verify", f"{revision}^{{commit}}")
    folder = _ROOT / "build" / "revisions" / commit
    source, environment = folder / "source", folder / "venv"
    python, ready = environment / "bin" / "python", folder / "ready"
    if not ready.exists():
        source.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(
            ["git", "archive", commit], cwd=_ROOT, check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        lock = source / "requirements" / "runtime.txt"
        install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
        subprocess.run([*install, "-r", str(lock)], check=True)
        subprocess.run([str(python), "-m", "compileall", "-q", str(source)], check=True)
        ready.touch()
    return Checkout(revision, source, str(python))


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()
