"""Interactive shells, typed into as a person does."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

from tests.support.process import clean_environment
from tests.support.wire import DEADLINE


class Terminal:
    """A program on a terminal of its own; a context manager."""

    def __init__(self, command: list[str], home: Path) -> None:
        programs = home / "bin"
        programs.mkdir(exist_ok=True)
        authproxy = programs / "authproxy"
        authproxy.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m authproxy "$@"\n')
        authproxy.chmod(0o755)
        environment = clean_environment(str(home))
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],  # shells want a terminal that controls them
            env={**environment, "TERM": "dumb"},
            cwd=home,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Return once the terminal shows `text`."""
        give_up = time.monotonic() + 2 * DEADLINE
        while text not in self.shown:
            left = give_up - time.monotonic()
            if left < 0 or not select.select([self._ours], [], [], left)[0]:
                raise AssertionError(f"no {text!r} in {self.shown!r}")
            self.shown += os.read(self._ours, 65536).decode(errors="replace")
