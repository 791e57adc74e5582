"""The test harness itself: what it accepts, a broken proxy could get away with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import actions
from tests.support.logfmt import parse_line
from tests.support.process import clean_environment, free_port
from tests.support.programs import LIMIT, output_of
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import Client, Response, Truncated, WireError, chunks, message, read_exactly


@pytest.fixture
def plain() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


def ask(upstream: Upstream, raw: bytes, *, request: str = "GET /x") -> Response:
    upstream.respond(actions.then_close(raw))
    with Client(("127.0.0.1", upstream.port)) as client:
        client.send(message(request))
        return client.receive(request.split(" ")[0])


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + b"\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        actions.head(200, "Content-Length: 1", "Content-Length: 1") + b"a",
        actions.head(200, "Content-Length: 1", "Transfer-Encoding: chunked") + chunks(b"a"),
        actions.head(200, "Transfer-Encoding: chunked") + b"z\r\n",
        actions.head(200, "Transfer-Encoding: chunked") + b"1\r\nab\r\n0\r\n\r\n",
    ],
)
def test_the_client_refuses_what_is_not_http(plain: Upstream, raw: bytes) -> None:
    with pytest.raises(WireError):
        ask(plain, raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200",
        actions.head(200, "Content-Length: 5") + b"half",
        actions.head(200, "Transfer-Encoding: chunked") + chunks(b"half", end=False),
        actions.head(200, "Transfer-Encoding: chunked") + b"5\r\nhalf",
        actions.head(200, "Transfer-Encoding: chunked") + b"0\r\n",
    ],
)
def test_the_client_tells_a_cut_answer(plain: Upstream, raw: bytes) -> None:
    with pytest.raises(Truncated):
        ask(plain, raw)


def test_the_client_keeps_interim_answers_and_trailers(plain: Upstream) -> None:
    final = actions.head(200, "Transfer-Encoding: chunked") + chunks(b"a", trailers=[b"X-Sum: 1"])
    response = ask(plain, actions.head(103) + final)
    assert [each.status for each in response.interim] == [103]
    assert (response.body, response.trailers) == (b"a", [("X-Sum", "1")])


def test_the_target_records_bytes_and_connections(plain: Upstream) -> None:
    raw = message("POST /a%2fb", "X-A:  b ", "x-a: \xe9", body=b"\0\xff")
    with Client(("127.0.0.1", plain.port)) as client:
        client.ask(raw)
        client.ask(message("PUT /y", "Transfer-Encoding: chunked", body=chunks(b"a", b"b")))
        first, second = plain.wait_for_requests(2)
    assert first.head + first.body == raw
    assert (first.target, first.all("X-A")) == (b"/a%2fb", ["b", "\xe9"])
    assert second.body == b"ab"
    assert (first.connection, first.ordinal, second.ordinal) == (second.connection, 1, 2)


def test_gates_hold_and_a_reset_lets_go(plain: Upstream) -> None:
    gate = plain.gate()
    plain.respond(actions.raw(actions.head(200, "Content-Length: 2"), b"a", gate, b"b"))
    with Client(("127.0.0.1", plain.port)) as client:
        client.send(message("GET /x"))
        body = client.body_of(client.receive_head())
        assert read_exactly(body, 1) == b"a"
        assert not plain.all_idle
        gate.open()
        assert read_exactly(body, 1) == b"b"
        plain.respond(actions.stall(plain.gate()))
        client.send(message("GET /y"))
        plain.wait_for_requests(2)
        plain.reset()
        assert plain.requests == []
        assert client.is_closed_by_peer()


def test_idle_connections_are_closed_and_spoken_to_on_order(plain: Upstream) -> None:
    with Client(("127.0.0.1", plain.port)) as one, Client(("127.0.0.1", plain.port)) as other:
        for client in (one, other):
            assert client.ask(message("GET /x")).status == 200
        plain.send_on_idle(actions.answer(408))
        assert [one.receive().status, other.receive().status] == [408, 408]
        plain.close_idle()
        assert one.is_closed_by_peer()
        assert other.is_closed_by_peer()
    plain.wait_for("their end", lambda: plain.open_connections == 0)


def test_a_fault_in_a_handler_is_kept(plain: Upstream) -> None:
    def stumble(exchange: Exchange) -> None:
        raise LookupError("nonsense")

    plain.respond(stumble)
    with Client(("127.0.0.1", plain.port)) as client:
        client.send(message("GET /x"))
        assert client.is_closed_by_peer()
    plain.wait_for("the fault", lambda: bool(plain.faults))
    assert "nonsense" in plain.faults[0]


TAKES_ITS_TURN = """
import itertools, sys
from tests.support import process
process._PORTS = itertools.count(int(sys.argv[1]) - 20_000)
print(process.free_port())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there are no sockets without a file")
def test_a_port_is_given_to_one_process_of_the_tests() -> None:
    port = free_port()
    assert int(output_of(TAKES_ITS_TURN, str(port))) != port


CASES = """
import pytest

@pytest.mark.real("nginx")
@pytest.mark.skipif(True, reason="no nginx here")
def test_marked(): ...

@pytest.mark.real("nginx")
def test_skipping_itself():
    pytest.skip("no nginx here")

@pytest.mark.skip(reason="another platform's")
def test_unmarked(): ...
"""


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [("true", {"1 failed", "1 error", "1 skipped"}), ("", {"3 skipped"})],
    ids=["ci", "elsewhere"],
)
def test_under_ci_a_skipped_test_of_a_real_program_fails(
    tmp_path: Path, ci: str, outcome: set[str]
) -> None:
    hooks = "pytest_make_collect_report, pytest_runtest_makereport"
    (tmp_path / "conftest.py").write_text(f"from tests.conftest import {hooks}")
    (tmp_path / "test_cases.py").write_text(CASES)
    ran = _pytest(tmp_path, ci)
    counts = set(ran.splitlines()[-1].partition(" in ")[0].split(", "))
    assert counts - {"2 warnings"} == outcome, ran
    assert ran.count("no nginx here") >= 2


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 error"), ("", "1 skipped")])
def test_under_ci_no_file_of_tests_is_skipped(tmp_path: Path, ci: str, outcome: str) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_make_collect_report")
    (tmp_path / "test_cases.py").write_text("import pytest; pytest.importorskip('no_such_module')")
    ran = _pytest(tmp_path, ci)
    assert outcome in ran.splitlines()[-1], ran


def _pytest(folder: Path, ci: str) -> str:
    """Run the tests in `folder` with CI set to `ci`; return what is printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-rsf", "-p", "no:cacheprovider", "."]
    command += ["-p", "no:cloudcoil"]  # as in pyproject.toml: it does not import
    environment = clean_environment(str(folder)) | {"CI": ci}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT
    ).stdout.strip()


@pytest.mark.parametrize("line", ["a=b a=c", 'a="b', "a", 'a=b"c', 'msg="x"y=z', "a=b\nc=d"])
def test_the_log_reader_refuses_what_is_not_logfmt(line: str) -> None:
    with pytest.raises(ValueError, match=r"logfmt|twice"):
        parse_line(line)


def test_the_log_reader_unescapes() -> None:
    assert parse_line(r'a=b c="d \"e\" \\ \n \u00e9" f=') == {
        "a": "b",
        "c": 'd "e" \\ \n é',
        "f": "",
    }
