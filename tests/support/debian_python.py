"""Environments of the system's Python, which Apache's mod_wsgi embeds.

They are kept where every user can read them, for Apache gives up root, and
are made anew when what they are locked to changes.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.support.source import ROOT

PYTHON = Path("/usr/bin/python3")
MOD_WSGI = Path("/usr/lib/apache2/modules/mod_wsgi.so")
APXS = Path("/usr/bin/apxs2")

#: What is installed for Debian's mod_wsgi, and for PyPI's, which is built first.
DEBIAN = ("runtime.txt",)
EXPRESS = ("runtime.txt", "build.txt", "apache.txt")


@cache
def missing(*files: Path) -> str:
    """Return what keeps a test from `files` and the system's Python; empty if nothing does."""
    for file in (PYTHON, *files):
        if not file.exists():
            return f"there is no {file}"
    recent = [str(PYTHON), "-c", "import sys; sys.exit(sys.version_info < (3, 10))"]
    return "" if subprocess.run(recent).returncode == 0 else f"{PYTHON} is older than 3.10"


def cache_folder() -> Path:
    """Return this user's folder for what tests keep between runs."""
    chosen = os.environ.get("AUTHPROXY_TEST_CACHE")
    folder = Path(chosen) if chosen else Path(f"/var/tmp/authproxy-tests-{os.getuid()}")
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise AssertionError(f"{folder} is somebody else's")
    return folder


def environment(*locks: str) -> Path:
    """Return a virtual environment of the system's Python with what `locks` name.

    `locks` are files in requirements/.
    """
    files = [ROOT / "requirements" / lock for lock in locks]
    version = subprocess.run([PYTHON, "-VV"], capture_output=True, check=True).stdout
    key = hashlib.sha256(version + b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = cache_folder() / f"venv-{key}"
    with (cache_folder() / f"venv-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--python", str(PYTHON), str(folder))
            for file in files:  # in turn: what builds the next one comes first
                _uv(
                    *("pip", "install", "--python", str(folder), "--require-hashes"),
                    *("--no-build-isolation", "--compile-bytecode", "-r", str(file)),
                )
            (folder / "complete").touch()
    return folder


def _uv(*words: str) -> None:
    command = [str(Path(sys.executable).parent / "uv"), "--quiet", *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr


@cache
def with_authproxy(*locks: str) -> Path:
    """Return an environment that has what `locks` name, and the code under test.

    It is made once in a run, in a folder of its own that every user can read.
    """
    kept = environment(*locks)
    folder = Path(tempfile.mkdtemp(prefix="authproxy-venv-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (others,) = kept.glob("lib/python3*/site-packages")
    (packages / "kept.pth").write_text(f"{others}\n")
    for script in (kept / "bin").glob("mod_wsgi-*"):
        copy = folder / "bin" / script.name
        copy.write_text(script.read_text().replace(str(kept), str(folder)))
        copy.chmod(0o755)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "authproxy", packages / "authproxy", ignore=ignore)
    compiling = [str(PYTHON), "-m", "compileall", "-q", str(packages / "authproxy")]
    subprocess.run(compiling, check=True)
    return folder


def main() -> None:
    """Make the environments that tests are going to ask for."""
    if not missing(MOD_WSGI):
        environment(*DEBIAN)
        if not missing(APXS):
            environment(*EXPRESS)


if __name__ == "__main__":
    main()
