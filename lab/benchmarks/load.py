"""One run of wrk against one proxy, and what it cost the proxy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.benchmarks.processes import Program, pinned

WARM_UP_SECONDS = 1

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Workload:
    """One kind of request, and how many connections send it at the same time."""

    method: str
    path: str
    body_bytes: int
    response_bytes: int
    connections: int


SMALL_GET = Workload("GET", "/api/v1/query", 0, 2, 16)


def write(body_bytes: int, connections: int) -> Workload:
    """Return POSTs that look like remote writes."""
    return Workload("POST", "/api/v1/write", body_bytes, 0, connections)


def read(response_bytes: int, connections: int) -> Workload:
    """Return GETs of a body of one of `servers.RESPONSE_SIZES`."""
    return Workload("GET", f"/bytes/{response_bytes}", 0, response_bytes, connections)


class FailedRequests(Exception):
    """Requests failed: what was measured is worth nothing."""


@dataclass(frozen=True)
class Run:
    """What one run showed. `busy` is the CPU time that the proxy used in each second.

    The memory is what it held right afterwards.
    """

    requests_per_second: float
    cpu_seconds_per_thousand: float
    busy: float
    p50_ms: float
    p99_ms: float
    memory_mib: float


def run(program: Program, workload: Workload, seconds: int, cores: Iterable[int]) -> Run:
    """Load `program` for so many seconds.

    Raises FailedRequests where a response was an error, cut short, or missing.
    """
    command = ["wrk", "--threads=1", f"--connections={workload.connections}"]
    command += [f"--duration={seconds}s", "--timeout=10s", f"--script={_SCRIPT}"]
    command += [f"http://127.0.0.1:{program.port}{workload.path}", "--", workload.method]
    before = program.cpu_seconds()
    with pinned(cores):
        wrk = subprocess.run(
            [*command, str(workload.body_bytes)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds + 60,
        )
    cpu = program.cpu_seconds() - before
    if wrk.returncode:
        raise FailedRequests(f"wrk ended with status {wrk.returncode}:\n{wrk.stdout}")
    said = json.loads(wrk.stdout.splitlines()[-1])
    requests = said["requests"]
    too_short = said["bytes"] < requests * workload.response_bytes
    if said["refused"] or said["broken"] or too_short or not requests:
        raise FailedRequests(f"{program.name}, {workload.method} {workload.path}: {said}")
    return Run(
        requests_per_second=requests / said["seconds"],
        cpu_seconds_per_thousand=cpu / requests * 1000,
        busy=cpu / said["seconds"],
        p50_ms=said["p50_ms"],
        p99_ms=said["p99_ms"],
        memory_mib=program.memory_mib(),
    )
