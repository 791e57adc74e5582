"""How long authproxy takes to start: python -m lab.benchmarks.startup"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from authproxy.demo.stand_ins.directory import METRICS_INGESTION
from authproxy.demo.stand_ins.managed_identity import IssuedToken
from lab.benchmarks.processes import cpu_seconds, free_port
from tests.support.stand_ins.entra import StandInEntra

_DEADLINE = 30.0
_POLL_SECONDS = 0.005

_GOALS = {
    "serve: listens": 1.0,
    "serve: ready after its token": 0.2,
    "settings: answers": 0.4,
}


class TimedEntra(StandInEntra):
    """A stand-in that remembers when it handed out its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.issued_at: list[float] = []

    def issue(self, *arguments: Any, **options: Any) -> IssuedToken:
        """Hand out a token."""
        token = super().issue(*arguments, **options)
        self.issued_at.append(time.monotonic())
        return token


def _wait_for(condition: Callable[[], bool]) -> float:
    """Return the time at which the condition holds. Raises ClickException if it never does."""
    give_up = time.monotonic() + _DEADLINE
    while not condition():
        if time.monotonic() > give_up:
            raise click.ClickException("authproxy did not start")
        time.sleep(_POLL_SECONDS)
    return time.monotonic()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def serve(settings: dict[str, str], entra: TimedEntra, log: Path) -> dict[str, float]:
    """Start `authproxy serve`, and return what it took to listen and to be ready."""
    port = int(settings["LISTENING_PORT"])
    command = [sys.executable, "-m", "authproxy", "serve"]
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, env=settings, stderr=output)
    try:
        listening = _wait_for(lambda: _listens(port))
        cpu = cpu_seconds(process.pid)
        ready = _wait_for(lambda: _ready(port))
    finally:
        process.terminate()
        process.wait(_DEADLINE)
    return {
        "serve: listens": listening - began,
        "serve: CPU time until then": cpu,
        "serve: ready": ready - began,
        "serve: ready after its token": ready - max(entra.issued_at[-1], listening),
    }


def show_settings(settings: dict[str, str]) -> dict[str, float]:
    """Run `authproxy settings`, and return what it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "authproxy", "settings"]
    with subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"authproxy settings ended with {process.returncode}")
    return {
        "settings: answers": time.monotonic() - began,
        "settings: CPU time": usage.ru_utime + usage.ru_stime,
    }


@click.command()
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1, 1000))
@click.option("--metrics/--no-metrics", default=True, help="With METRICS_PORT, or without.")
def main(rounds: int, metrics: bool) -> None:
    """Print medians in seconds, and how far the rounds lie apart."""
    found: dict[str, list[float]] = {}
    with TemporaryDirectory(prefix="authproxy-bench-") as folder, TimedEntra() as entra:
        for _ in range(rounds):
            settings = {
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "TARGET_HOST": "localhost:1",
                "IDENTITY_TYPE": "systemassigned",
                "AUDIENCE": METRICS_INGESTION,
                **entra.managed_identity_environment(),
                "LISTENING_HOST": "127.0.0.1",
                "LISTENING_PORT": str(free_port()),
            }
            if metrics:
                settings["METRICS_PORT"] = str(free_port())
            figures = serve(settings, entra, Path(folder) / "log") | show_settings(settings)
            for name, value in figures.items():
                found.setdefault(name, []).append(value)
    click.echo(f"| seconds, of {rounds} | median | least | most | goal |\n|---|--:|--:|--:|--:|")
    for name, values in found.items():
        goal = _GOALS.get(name, "")
        click.echo(
            f"| {name} | {median(values):.3f} | {min(values):.3f} | {max(values):.3f} | {goal} |"
        )


if __name__ == "__main__":
    main()
