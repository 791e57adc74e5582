"""The real proxy of the demonstration, as a process of its own, and `authproxy check` beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import requests

from authproxy.demo.stand_ins.acceptor import LOOPBACK
from authproxy.demo.stand_ins.loopback import free_port

_START_SECONDS = 60
_STOP_SECONDS = 10
_REQUEST_SECONDS = 30
_POLL_SECONDS = 0.02

#: What it needs from our own environment. Not the rest: an AUDIENCE or HTTPS_PROXY
#: meant for something real must not lead the demonstration astray.
_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV")


class DemonstrationFailed(Exception):
    """A part did not start or gave the wrong response; the message says which."""


class DemoProxy:
    """The proxy, for as long as `stack` is open; `log` has what it logs, None where that is shown.

    Ports that are 0 are chosen by the system. Raises PortInUse.
    """

    def __init__(
        self,
        stack: ExitStack,
        settings: Mapping[str, str],
        *,
        port: int,
        status_port: int,
        log: Path | None,
    ) -> None:
        # Checked here, since the proxy cannot name the options of this command.
        port, status_port = free_port(port), free_port(status_port)
        self.url = f"http://{LOOPBACK}:{port}"
        self.status_url = f"http://{LOOPBACK}:{status_port}/status"
        self.log = log
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in _INHERITED or name.startswith("PYTHON")
        }
        self._environment = {
            **inherited,
            **settings,
            "LISTENING_HOST": LOOPBACK,
            "LISTENING_PORT": str(port),
            "METRICS_PORT": str(status_port),
            "SHUTDOWN_GRACE_SECONDS": "2",
        }
        self._child = subprocess.Popen(
            [sys.executable, "-m", "authproxy", "serve"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stderr=None if log is None else stack.enter_context(log.open("wb")),
            # Ctrl-C reaches the command alone, which then ends the proxy in the orderly way.
            start_new_session=True,
        )
        stack.callback(self._stop)

    def wait_until_ready(self, session: requests.Session) -> None:
        """Wait for its first token. Raises DemonstrationFailed."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.ends_within(0.1):
                said = "" if self.log is None else f": {self.log.read_text(errors='replace')}"
                raise DemonstrationFailed(f"the proxy ended at its start{said}")
            try:
                response = session.get(f"{self.url}/ready", timeout=_REQUEST_SECONDS)
            except requests.ConnectionError:
                continue
            if response.status_code == 200:
                return
        raise DemonstrationFailed(f"the proxy was not ready within {_START_SECONDS} seconds")

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its end, and tell whether it came.

        Not by `Popen.wait`: where Ctrl-C comes just behind its taking a lock, that stays taken, and
        the next wait is for ever.
        """
        deadline = time.monotonic() + seconds
        while self._child.returncode is None:
            try:
                ended, status = os.waitpid(self._child.pid, os.WNOHANG)
            except ChildProcessError:  # Ctrl-C came just behind this call
                ended, status = self._child.pid, 0
            if ended:
                self._child.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(_POLL_SECONDS)
        return True

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._child.returncode

    def check(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run `authproxy check` with the settings of the proxy."""
        return subprocess.run(
            [sys.executable, "-m", "authproxy", "check", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def _stop(self) -> None:
        self._child.terminate()
        try:
            if self.ends_within(_STOP_SECONDS):
                return
        except KeyboardInterrupt:
            pass  # Ctrl-C once more is like being too slow
        self._child.kill()  # a second signal ends it at once
        self.ends_within(_STOP_SECONDS)
