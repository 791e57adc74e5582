"""A server that is no Python, as a process with a folder of its own."""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tests.support.process import START_DEADLINE, STOP_DEADLINE, free_port

if TYPE_CHECKING:
    from typing_extensions import Self


class ServerProcess(ABC):
    """One server, on one port as long as it lives, with its log and its data in `folder`."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = 0
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Return the command that runs it on that port; writes what it reads."""

    @abstractmethod
    def is_ready(self, port: int) -> bool:
        """Whether the server on that port says that it is ready. Raises OSError without one."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start it, again on the same port and with the same data, and wait for readiness."""
        for _ in range(5):
            chosen = self.port or free_port()
            self._spawn(chosen)
            if self._becomes_ready(chosen):
                self.port = chosen
                return self
            self.stop()
        raise AssertionError(f"{type(self).__name__} does not start:\n{self.log}")

    def _spawn(self, port: int) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(port),
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _becomes_ready(self, port: int) -> bool:
        assert self._process is not None
        give_up = time.monotonic() + START_DEADLINE
        while self._process.poll() is None and time.monotonic() < give_up:
            try:
                if self.is_ready(port):
                    return True
            except OSError:
                pass  # It does not listen yet.
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        return False

    def stop(self) -> None:
        """End it as a service manager does, and wait until it has."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{type(self).__name__} did not end:\n{self.log}") from None
        finally:
            self._process = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()
