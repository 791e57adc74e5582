"""The rows of the table: what is sent, what is read off, and what authproxy should reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lab.benchmarks.load import SMALL_GET, Workload, read, write


@dataclass(frozen=True)
class Row:
    """One kind of load.

    `goal` is for authproxy: CPU time for each request as a multiple of nginx's.
    """

    key: str
    title: str
    workload: Workload
    goal: float


ROWS = (
    Row("get-2b", "GET, 2-byte response, 16 connections", SMALL_GET, 19),
    Row("post-1k", "POST 1 KB, 16 connections", write(1_000, 16), 19),
    Row("post-100k", "POST 100 KB, 16 connections", write(100_000, 16), 3.5),
    Row("post-1m", "POST 1 MB, 4 connections", write(1_000_000, 4), 1.5),
    Row("get-100k", "GET 100 KB, 16 connections", read(100_000, 16), 6),
    Row("get-10m", "GET 10 MB, 4 connections", read(10_000_000, 4), 1.5),
)

#: Of this one the tail of the latency is read off: p99 as a multiple of p50.
TAIL = Row("tail", "p99 against p50, 64 connections", replace(SMALL_GET, connections=64), 2.5)

BY_KEY = {row.key: row for row in (*ROWS, TAIL)}
