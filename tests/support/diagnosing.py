"""`authproxy check` as a process of its own, and what it printed."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.process import clean_environment

LIMIT = 150.0


class Check:
    """A check that runs; its output once it has ended.

    With `as_json` what is printed is read, and `report` and `step` tell of it.
    """

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str],
        *arguments: str,
        as_json: bool = True,
        **more: str,
    ) -> None:
        command = [sys.executable, "-m", "authproxy", "check", *arguments]
        self._process = subprocess.Popen(
            [*command, "--json"] if as_json else command,
            env={**clean_environment(str(home)), **settings, **more},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._output: tuple[str, str] | None = None

    def _ended(self) -> tuple[str, str]:
        if self._output is None:
            try:
                self._output = self._process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
                raise
        return self._output

    @property
    def output(self) -> str:
        return self._ended()[0]

    @property
    def errors(self) -> str:
        return self._ended()[1]

    @property
    def status(self) -> int:
        self._ended()
        return self._process.returncode

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.output)
        return report

    @property
    def outcomes(self) -> dict[str, str]:
        return {step["name"]: step["outcome"] for step in self.report["steps"]}

    def step(self, name: str) -> dict[str, Any]:
        """Return the step of that name; it must be there once."""
        [found] = [step for step in self.report["steps"] if step["name"] == name]
        return dict(found)

    def advice(self, name: str) -> str:
        """Return the advice of a step as one text."""
        return "\n".join(
            "\n".join([one["cause"], one["hint"], *one["commands"]])
            for one in self.step(name)["advice"]
        )


def on_a_terminal(
    home: Path,
    settings: Mapping[str, str],
    columns: int,
    command: Sequence[str] = ("check",),
    *,
    until: str | None = None,
) -> str:
    """Return what a command prints on a terminal that is so wide.

    It is ended with Ctrl-C once it has printed `until`.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "authproxy", *command],
        env={
            **clean_environment(str(home)),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "COLUMNS": str(columns),
            **settings,
        },
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        printed = b""
        while select.select([ours], [], [], LIMIT)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux says so where nobody has the other end any more
                break
            if not piece:
                break
            printed += piece
            if until is not None and until.encode() in printed:
                process.send_signal(signal.SIGINT)
                until = None
        os.close(ours)
    return printed.decode().replace("\r\n", "\n")


class BlackHole:
    """A port that takes no more connections and says nothing, as behind a firewall that drops."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._waiting = [socket.socket() for _ in range(4)]
        for sock in self._waiting:  # nobody accepts them: the queue is full
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self.port))

    def __enter__(self) -> BlackHole:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [*self._waiting, self._listener]:
            sock.close()
