"""One file for each architecture that runs, or installs, without a package index.

It has the wheels of the run-time lock for every Python that is supported, each held against its
hash. No code of the other architecture runs meanwhile.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging import tags

from tools.release.versions import ReleaseError

#: As images and releases call them, and as the kernel and wheels do.
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
#: The C library that a machine has to have at least: 2.28, as RHEL 8 has it, and Debian 10.
GLIBC = 28


def pythons(root: Path) -> list[str]:
    """Return the supported versions of Python, as setup.cfg lists them."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    listed = config["metadata"]["classifiers"]
    return re.findall(r"^Programming Language :: Python :: (3\.\d+)$", listed, re.MULTILINE)


def build(
    root: Path, wheel: Path, folder: Path, output: Path, machine: str, versions: Iterable[str]
) -> None:
    """Write the file `output` for machines of this name, of the wheel and what the lock has.

    What is made on the way goes into `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (root / "requirements" / "runtime.txt").read_text()
    name, version, _ = wheel.name.split("-", 2)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{lock}{name}=={version} --hash=sha256:{digest}\n")
    command = [sys.executable, "-m", "pex", "--requirement", str(requirements), "--intransitive"]
    command += ["--use-pip-config", "--find-links", str(wheel.parent), "--no-build"]
    for each in versions:
        platform = folder / f"platform-{each}.json"
        platform.write_text(json.dumps(described(machine, each)))
        command += ["--complete-platform", str(platform)]
    command += ["--pex-root", str(folder / "cache"), "--venv", "--include-tools"]
    command += ["--console-script", "authproxy", "--python-shebang", "/usr/bin/env python3"]
    # Which interpreter to take, and from where, is a matter of the machine that it runs on.
    environment = {name: value for name, value in os.environ.items() if "PEX" not in name}
    done = subprocess.run([*command, "--output-file", str(output)], env=environment)
    if done.returncode:
        raise ReleaseError(f"pex made no {output.name}")


def described(machine: str, version: str) -> dict[str, object]:
    """Return a machine's CPython of this version on Linux, in pex's own words."""
    major, minor = map(int, version.split("."))
    interpreter = f"cp{major}{minor}"
    platforms = list(_platforms(machine))
    of_python = (
        *tags.cpython_tags((major, minor), [interpreter], platforms),
        *tags.compatible_tags((major, minor), interpreter, platforms),
    )
    return {
        "compatible_tags": [str(tag) for tag in of_python],
        "marker_environment": {
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        },
    }


def _platforms(machine: str) -> Iterator[str]:
    """Yield the platforms of wheels, the newest C library first (PEP 600)."""
    oldest = 5 if machine == "x86_64" else 17
    older = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    for minor in range(GLIBC, oldest - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in older:
            yield f"{older[minor]}_{machine}"
    yield f"linux_{machine}"
