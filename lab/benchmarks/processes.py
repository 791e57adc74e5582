"""Processes under measurement: pinned to cores, their CPU time and memory read from /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

START_DEADLINE = 30.0
STOP_DEADLINE = 20.0

_TICKS = os.sysconf("SC_CLK_TCK")


def choose_cores() -> tuple[set[int], set[int]]:
    """Return the core of the proxy under load, and the cores of everything else."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except FileNotFoundError:
                pass  # This thread, or the process, has just ended.
    return found


def busy_seconds(cores: Iterable[int]) -> float:
    """Return how long these cores have been at work since the machine started, for any process."""
    wanted = {f"cpu{core}" for core in cores}
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *times = line.split()
        if name in wanted:
            # Of proc(5): all but idle, iowait, and the guests' that user holds already.
            ticks += sum(map(int, times[:3])) + sum(map(int, times[5:8]))
    return ticks / _TICKS


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of one process so far, all threads together."""
    # Behind the name, which may hold anything: fields 14 and 15 of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def pinned(cores: Iterable[int]) -> Iterator[None]:
    """Run what is started meanwhile on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Return a port that the system had free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Program:
    """A server process with its children; leaving the context ends it."""

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int,
        folder: Path,
        cores: Iterable[int],
        environment: Mapping[str, str] | None = None,
        ready_path: str | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self._ready_path = ready_path
        self._log = folder / "stderr.log"
        with self._log.open("wb") as log, pinned(cores):
            self._process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stderr=log
            )

    @property
    def pid(self) -> int:
        """The process that was started; it may have children."""
        return self._process.pid

    @property
    def crashed(self) -> bool:
        """Tell whether the process broke down rather than being ended."""
        return self._process.poll() == -signal.SIGSEGV

    def __enter__(self) -> Program:
        give_up = time.monotonic() + START_DEADLINE
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                status = self._process.returncode
                raise RuntimeError(
                    f"{self.name} did not start (status {status}):\n{self._log.read_text()}"
                )
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process in order; kill it where it does not end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ready(self) -> bool:
        """Tell whether it listens, and says so on `ready_path` where there is one."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            if self._ready_path is None:
                connection.connect()
                return True
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def cpu_by_process(self) -> dict[int, float]:
        """Return the CPU seconds so far of each of its processes."""
        return {pid: cpu_seconds(pid) for pid in tree(self._process.pid)}

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far."""
        return sum(self.cpu_by_process().values())

    def memory_mib(self) -> float:
        """Return the proportional set size of all its processes."""
        kib = 0
        for pid in tree(self._process.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
        return kib / 1024
