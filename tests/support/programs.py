"""Programs that run to their end, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

#: Seconds for what takes one or two on a machine that has nothing else to do.
LIMIT = 150


def completed(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with this environment or ours; return its status and what it wrote."""
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def output_of(program: str, *arguments: str) -> str:
    """Run a Python program that imports what is under test; it has to end well."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = completed([sys.executable, "-c", program, *arguments], environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
