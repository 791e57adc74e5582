"""The measurements measure what they say: briefly run, and shown what must fail them."""

from __future__ import annotations

import faulthandler
import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response
from lab.benchmarks import table
from lab.benchmarks.bytecodes import by_package
from lab.benchmarks.load import SMALL_GET, FailedRequests, run
from lab.benchmarks.open_loop import send
from lab.benchmarks.processes import Program, choose_cores, free_port
from lab.benchmarks.profile import parse
from lab.benchmarks.results import Results
from tests.support.source import ROOT

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")


def measured(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"lab.benchmarks.{module}", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.real("nginx", "wrk")
def test_the_table_has_each_proxy_in_words_in_figures_and_as_a_picture(tmp_path: Path) -> None:
    needs("nginx", "wrk")
    said = measured("table", "--row=post-1k", "--rounds=1", "--seconds=1", f"--out={tmp_path}")
    assert said == (tmp_path / "table.md").read_text()
    assert "| POST 1 KB, 16 connections |" in said
    row = json.loads((tmp_path / "table.json").read_text())["rows"]["post-1k"]
    assert set(row["runs"]) == {"nginx", "plain", "authproxy"}
    assert all(one["cpu_seconds_per_thousand"] > 0 for runs in row["runs"].values() for one in runs)
    assert row["ratios"]["nginx"]["median"] == 1
    assert row["ratios"]["authproxy"]["median"] > 1
    ElementTree.parse(tmp_path / "table.svg")


@pytest.mark.slow
@pytest.mark.real("nginx")
def test_the_bytecodes_of_a_request_are_nearly_the_same_in_each_run() -> None:
    needs("nginx")
    said = [measured("bytecodes", "post-1k", "--top=5") for _ in range(2)]
    assert all("authproxy/server" in each for each in said)
    one, other = (int(each.rpartition(" bytecodes each")[0].rpartition(" ")[2]) for each in said)
    assert one == pytest.approx(other, rel=0.1)


def test_bytecodes_count_for_packages() -> None:
    counts = Counter(
        {"a (authproxy/server/x.py)": 2, "b (authproxy/server/y.py)": 3, "c (ssl.py)": 1}
    )
    assert by_package(counts) == {"authproxy/server": 5, "ssl.py": 1}


@pytest.mark.real("wrk")
def test_an_error_answer_fails_a_run(tmp_path: Path) -> None:
    needs("wrk")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    own, others = choose_cores()
    with (
        Program("a server without that page", command, port, tmp_path, own) as program,
        pytest.raises(FailedRequests, match=r"'refused': [1-9]"),
    ):
        run(program, SMALL_GET, 1, others)


@pytest.mark.real("nginx", "wrk")
def test_failed_requests_end_the_table_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs("nginx", "wrk")

    results = Results(failures=["one of them"])
    monkeypatch.setattr(table, "measure", lambda plan: results)
    with pytest.raises(SystemExit) as ended:
        table.main(["--quick"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "Requests failed:\none of them\n"


def served(answer: Callable[[Request], Response], requests: int, rate: float) -> float:
    """Send requests by the clock, and return the longest latency in milliseconds."""
    server = LoopbackServer(answer)
    server.start()
    try:
        return send(server.port, GET, rate, requests, ready=1).max
    finally:
        server.stop()


def test_an_open_loop_sends_on_while_answers_are_late_and_counts_the_wait() -> None:
    requests, rate = 20, 100.0
    all_there = threading.Barrier(requests)

    def answer(request: Request) -> Response:
        all_there.wait(30)
        return Response(200, b"ok")

    # The first request waited until the time of the last one at least.
    assert served(answer, requests, rate) >= (requests - 1) / rate * 1000


def test_an_error_answer_fails_an_open_loop() -> None:
    with pytest.raises(FailedRequests, match="status 503: b'not now'"):
        served(lambda request: Response(503, b"not now"), 5, 100.0)


def test_a_profile_has_the_stack_that_faulthandler_saw(tmp_path: Path) -> None:
    with (tmp_path / "samples").open("w") as samples:
        for _ in range(2):
            faulthandler.dump_traceback(samples, all_threads=False)
    stacks = list(parse((tmp_path / "samples").read_text()))
    assert len(stacks) == 2
    assert stacks[0][-1].startswith("test_a_profile_has_the_stack_that_faulthandler_saw (")
    assert len(stacks[0]) > 5


def test_the_start_is_timed() -> None:
    said = measured("startup", "--rounds=1")
    for figure in ("serve: listens", "serve: ready after its token", "settings: answers"):
        assert f"| {figure} |" in said
