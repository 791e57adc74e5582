"""One run of wrk against one proxy, and what it cost the proxy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import Program, pinned

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Workload:
    """One kind of request: what it is called, and what is sent."""

    name: str
    method: str
    path: str
    body_bytes: int


WORKLOADS = (
    Workload("GET, 2 bytes back", "GET", "/api/v1/query", 0),
    Workload("POST of 1 KB", "POST", "/api/v1/write", 1_000),
    Workload("POST of 100 KB", "POST", "/api/v1/write", 100_000),
)


class FailedRequests(Exception):
    """Requests failed: what was measured is worth nothing."""


@dataclass(frozen=True)
class Run:
    """What one run showed. `busy` is the share of one core that the proxy used."""

    requests_per_second: float
    cpu_seconds_per_thousand: float
    busy: float
    p50_ms: float
    p99_ms: float
    memory_mib: float


def run(
    program: Program, workload: Workload, seconds: float, connections: int, cores: Iterable[int]
) -> Run:
    """Load `program` for so many seconds. Raises FailedRequests on any answer but 2xx."""
    command = ["wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds:g}s"]
    command += ["--timeout=10s", f"--script={_SCRIPT}"]
    command += [f"http://127.0.0.1:{program.port}{workload.path}", "--", workload.method]
    before = program.cpu_seconds()
    with pinned(cores):
        wrk = subprocess.Popen(
            [*command, str(workload.body_bytes)], stdout=subprocess.PIPE, text=True
        )
    try:
        wrk.wait(seconds / 2)
    except subprocess.TimeoutExpired:
        pass  # In the midst of it.
    memory = program.memory_mib()
    output, _ = wrk.communicate(timeout=seconds + 60)
    cpu = program.cpu_seconds() - before
    if wrk.returncode:
        raise FailedRequests(f"wrk ended with status {wrk.returncode}:\n{output}")
    said = json.loads(output.splitlines()[-1])
    if said["not_2xx"] or said["broken"] or not said["requests"]:
        raise FailedRequests(f"{program.name}, {workload.name}: {said}")
    return Run(
        requests_per_second=said["requests"] / said["seconds"],
        cpu_seconds_per_thousand=cpu / said["requests"] * 1000,
        busy=cpu / said["seconds"],
        p50_ms=said["p50_ms"],
        p99_ms=said["p99_ms"],
        memory_mib=memory,
    )
