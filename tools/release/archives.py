"""What is packed from the sources: sdist, wheel and chart, the same bytes from the same commit.

All are made from an export of the commit, so that nothing else of the checkout gets in, and bear
the commit's time (https://reproducible-builds.org/docs/source-date-epoch/).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tools.release.versions import ReleaseError

SUMS = "SHA256SUMS"


def export(root: Path, folder: Path) -> None:
    """Write the files of the commit that is checked out into a folder, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tar = folder.with_suffix(".tar")
    # Modes by git, and none by the umask of the process.
    _run(["git", "-c", "tar.umask=0022", "archive", "--output", str(tar), "HEAD"], root)
    _run(["tar", "--extract", "--preserve-permissions", "--file", str(tar)], folder)
    tar.unlink()


def packages(source: Path, output: Path, epoch: int) -> tuple[Path, Path]:
    """Build sdist and wheel of an export into `output`; return their paths."""
    output.mkdir(parents=True, exist_ok=True)
    made = []
    for kind in ("build_sdist", "build_wheel"):
        program = (
            "import os, sys; os.umask(0o022); from setuptools import build_meta;"
            "print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
        )
        done = _run([sys.executable, "-c", program, kind, str(output.resolve())], source, epoch)
        made.append(output / done.splitlines()[-1])
    rewrite(made[0], epoch)
    return made[0], made[1]


def chart(source: Path, output: Path, epoch: int) -> Path:
    """Package the chart of an export into `output`; return its path."""
    helm = shutil.which("helm", path=str(Path(sys.executable).parent)) or shutil.which("helm")
    if helm is None:
        raise ReleaseError("there is no helm to package the chart with")
    output.mkdir(parents=True, exist_ok=True)
    done = _run([helm, "package", "helm/authproxy", "-d", str(output.resolve())], source, epoch)
    path = Path(done.strip().rpartition(": ")[2])
    rewrite(path, epoch)
    return path


def rewrite(path: Path, epoch: int) -> None:
    """Pack a .tar.gz anew: in order, with the commit's time, and nobody's name or mode."""
    with tarfile.open(path) as tar:
        members = [(each, _content(tar, each)) for each in tar.getmembers() if not each.isdir()]
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for member, content in sorted(members, key=lambda each: each[0].name):
            clean = tarfile.TarInfo(member.name)
            clean.size, clean.mtime = len(content), epoch
            clean.mode = 0o755 if member.mode & 0o100 else 0o644
            tar.addfile(clean, io.BytesIO(content))


def sums(output: Path) -> None:
    """Write SHA256SUMS of all files in `output`, as sha256sum --check reads it."""
    files = sorted(path for path in output.iterdir() if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (output / SUMS).write_text("".join(lines))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise ReleaseError(f"{member.name} is no plain file")
    return file.read()


def _run(command: list[str], folder: Path, epoch: int = 0) -> str:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
