"""Programs of this year, from a newer Debian than the machine's, run without installing them.

What is known of them, each seen on Debian 12 with glibc 2.36:

- Packages of Debian's unstable suite: `prometheus` (3.5.3; remote write 1.0 and 2.0),
  `victoria-metrics` (1.145.0; the store and `vmagent`), and `libzstd1`, which the latter two want
  newer than Debian 12 has it. Their other libraries are glibc's, of which an older version is
  enough.
- The mirror is that of the machine's own sources (`apt-get indextargets` names it), and options
  give apt lists and a cache of its own. `apt-get download` checks each file against the lists, and
  these against the archive's signature. No root is needed, and nothing is installed.
- Senders are to be stopped before what they send to: Prometheus waits for its queues to empty.

`make test` fetches them into build/newer-debian, where they stay until `make clean`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.source import ROOT

#: What is fetched, and the suite that has it.
PACKAGES = ("prometheus", "victoria-metrics", "libzstd1")
SUITE = "unstable"

#: Of package debian-archive-keyring, which every Debian has.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_FOLDER = ROOT / "build" / "newer-debian"
_APT, _UNPACKED = _FOLDER / "apt", _FOLDER / "unpacked"

#: Where Debian keeps its libraries below /usr/lib, by machine.
_LIBRARIES = f"{os.uname().machine}-linux-gnu"


class NotToBeHad(Exception):
    """The programs cannot be fetched here, or do not run; the text says why."""


def require(program: str) -> Path:
    """Return the path of `program`; skip the test where it cannot be had."""
    path, why = _tried(program)
    if why:
        pytest.skip(f"no newer {program}: {why}")
    return path


def environment() -> dict[str, str]:
    """Return the environment in which the programs find their libraries."""
    libraries = _UNPACKED / "usr" / "lib" / _LIBRARIES
    return {**os.environ, "LD_LIBRARY_PATH": str(libraries)}


@cache
def _tried(program: str) -> tuple[Path, str]:
    path = _UNPACKED / "usr" / "bin" / program
    try:
        fetch()
        _run(str(path), "--version", env=environment())  # it may want a newer library
    except NotToBeHad as error:
        return path, str(error)
    return path, ""


def fetch() -> None:
    """Fetch and unpack the packages, unless they are there. Raises NotToBeHad."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    complete = _FOLDER / "complete"
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists() and complete.read_text() == repr((SUITE, PACKAGES)):
            return
        shutil.rmtree(_UNPACKED, ignore_errors=True)
        for package in _downloaded():
            _run("dpkg-deb", "-x", str(package), str(_UNPACKED))
        shutil.rmtree(_APT)
        complete.write_text(repr((SUITE, PACKAGES)))


def _downloaded() -> list[Path]:
    """Download the packages, checked by the archive's signatures; return their files."""
    if shutil.which("apt-get") is None:
        raise NotToBeHad("not a Debian system")
    shutil.rmtree(_APT, ignore_errors=True)
    for name in ("lists/partial", "cache/archives/partial", "packages"):
        (_APT / name).mkdir(parents=True)
    sources = _APT / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_own_mirror()} {SUITE} main\n")
    (_APT / "status").touch()
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State::Lists": _APT / "lists",
        "Dir::State::Status": _APT / "status",
        "Dir::Cache": _APT / "cache",
        # Of root's too: the user that apt changes to may not be able to write here.
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run(*apt, "--error-on=any", "update")
    _run(*apt, "download", *PACKAGES, cwd=_APT / "packages")
    return list((_APT / "packages").glob("*.deb"))


def _own_mirror() -> str:
    """Return the mirror that the machine's own Debian is from."""
    columns = "$(CODENAME) $(COMPONENT) $(REPO_URI)"
    listed = _run("apt-get", "indextargets", "--format", columns, "Created-By: Packages")
    own = _codename()
    for line in listed.splitlines():
        codename, component, mirror = line.split()
        if (codename, component) == (own, "main"):
            return mirror
    raise NotToBeHad(f"no source of apt's has Debian {own}")


def _codename() -> str:
    release = Path("/etc/os-release").read_text()
    values = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    if values.get("ID") != "debian":
        raise NotToBeHad("not Debian")
    return values.get("VERSION_CODENAME", "")


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise NotToBeHad(f"{Path(command[0]).name} ended with {done.returncode}: {said[-500:]}")
    return done.stdout


def main() -> None:
    """Fetch the programs, or say loudly that their tests are going to be skipped."""
    try:
        fetch()
    except NotToBeHad as error:
        line = "*" * 70
        print(  # noqa: T201
            f"{line}\nMISSING: {', '.join(PACKAGES)} of Debian {SUITE} ({error})\n"
            f"Tests that drive them will be skipped, and fail where CI=true.\n{line}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
