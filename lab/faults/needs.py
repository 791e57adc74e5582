"""What some rows need of the machine, and whether it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")


def memory_groups() -> tuple[Path, str]:
    """Return where control groups for memory are made, and the name of their limit."""
    if _MEMORY_GROUPS.is_dir():
        return _MEMORY_GROUPS, "memory.limit_in_bytes"
    return Path("/sys/fs/cgroup"), "memory.max"


def _can_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


def _can_group() -> bool:
    root, _ = memory_groups()
    group = root / f"authproxy-probe-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return False
    try:
        return (group / memory_groups()[1]).exists()
    finally:
        group.rmdir()


_CHECKS: dict[str, Callable[[], bool]] = {
    "unshare": _can_unshare,
    "mount": _can_unshare,
    "cgroup": _can_group,
    "prlimit": lambda: shutil.which("prlimit") is not None,
    "libfaketime": FAKETIME.exists,
}


def missing(needs: tuple[str, ...]) -> list[str]:
    """Return what is not available here, or not without root."""
    return [need for need in needs if not _CHECKS[need]()]
