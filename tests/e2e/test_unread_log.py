"""A standard error that nobody reads, or that takes nothing, costs log lines and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.collector import Collector
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess, clean_environment, free_port, wait_until
from tests.support.scrape import scrape, settled
from tests.support.upstream import Upstream
from tests.support.wire import DEADLINE, exchange, message

SERVE = [sys.executable, "-m", "authproxy", "serve"]
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])

SENT = "Successfully sent request"
LOST = "Log lines were lost, as standard error was not read"

#: So many fill a pipe, and so many the queue behind it.
SOME, MANY = 100, 2000
REQUEST = message(f"GET /{'x' * 2000}")


def ask_often(proxy: ProxyProcess, count: int) -> None:
    """Send requests on one connection, ten at a time."""
    with proxy.connect() as client:
        for _ in range(count // 10):
            client.send(REQUEST * 10)
            for _ in range(10):
                assert client.receive().status == 200


def listens(proxy: ProxyProcess) -> bool:
    try:
        proxy.connect().close()
    except OSError:
        return False
    return True


@WORKERS
def test_requests_probes_scrapes_and_the_end_wait_for_no_reader(
    launch: Launch, target: Upstream, workers: str
) -> None:
    port = free_port()
    proxy = launch(WORKERS=workers, METRICS_PORT=str(port))
    proxy.wait_for_tokens(int(workers))
    with proxy.unread():
        ask_often(proxy, SOME)
        assert proxy.get("/health").status == proxy.get("/ready").status == 200
        settled(port, requests=SOME)
        proxy.signal(signal.SIGTERM)
        wait_until("it has ended", lambda: not proxy.running)
    assert proxy.wait() == 0


def test_a_second_signal_ends_it_without_a_reader(launch: Launch, target: Upstream) -> None:
    gate = target.gate()
    proxy = launch(SHUTDOWN_GRACE_SECONDS="20")
    proxy.exit_status = 128 + signal.SIGTERM
    with proxy.unread():
        ask_often(proxy, SOME)
        target.respond(actions.raw(gate, actions.answer(200)))
        before = len(target.requests)
        with proxy.connect() as client:
            client.send(message("GET /x"))
            target.wait_for_requests(before + 1)
            proxy.signal(signal.SIGTERM)
            wait_until("it drains", lambda: not listens(proxy))
            proxy.signal(signal.SIGTERM)
            wait_until("it has ended", lambda: not proxy.running)
    gate.open()


def test_lost_lines_are_counted_and_told_when_somebody_reads_again(
    launch: Launch, target: Upstream
) -> None:
    port = free_port()
    proxy = launch(METRICS_PORT=str(port))
    mark = proxy.mark()
    with proxy.unread():
        ask_often(proxy, MANY)
    lost = parse_line(proxy.wait_for_line(LOST, after=mark))
    assert lost["level"] == "warning"
    assert int(lost["Count"]) > 0
    wait_until(
        "each is logged or counted",
        lambda: sum(SENT in line for line in proxy.lines[mark:]) + int(lost["Count"]) == MANY,
    )
    assert scrape(port).sum("aad_auth_proxy_log_lines_lost_total") == int(lost["Count"])
    assert proxy.get("/afterwards").status == 200
    proxy.wait_for_line(f"{SENT}.*/afterwards", after=mark)
    assert proxy.log.count(LOST) == 1


def test_what_is_exported_does_not_wait_for_standard_error(
    launch: Launch, target: Upstream
) -> None:
    with Collector() as collector:
        proxy = launch(OTEL_GRPC_ENDPOINT=collector.endpoint, OTEL_LOGS_EXPORTER="otlp")
        with proxy.unread():
            ask_often(proxy, SOME)
            assert proxy.get("/last").status == 200
            collector.wait_for(
                "the last line",
                lambda: [
                    line
                    for line in collector.lines
                    if str(line.attributes.get("Request")).endswith("/last")
                ],
            )


# -- what takes nothing ---------------------------------------------------------------------


@contextmanager
def serving(
    settings: dict[str, str], home: Path, stderr: int | IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
    """Run a proxy with that standard error until it is ready."""
    address = ("127.0.0.1", free_port())
    environment = clean_environment(str(home)) | settings | {"LISTENING_PORT": str(address[1])}
    with subprocess.Popen(SERVE, env=environment, stderr=stderr) as process:
        try:

            def ready() -> bool:
                try:
                    return exchange(address, message("GET /ready")).status == 200
                except OSError:
                    return False

            wait_until("it is ready", ready)
            yield process, address
        finally:
            process.kill()


@WORKERS
def test_a_pipe_that_was_closed_changes_no_exit_status(
    base_settings: dict[str, str], target: Upstream, tmp_path: Path, workers: str
) -> None:
    read_end, write_end = os.pipe()
    with serving({**base_settings, "WORKERS": workers}, tmp_path, write_end) as (proxy, address):
        os.close(write_end)
        os.close(read_end)
        wait_until("it serves", lambda: exchange(address, message("GET /x")).status == 200)
        proxy.terminate()
        assert proxy.wait(DEADLINE) == 0


@WORKERS
def test_a_full_disk_changes_no_exit_status(
    base_settings: dict[str, str], target: Upstream, tmp_path: Path, workers: str
) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        serving({**base_settings, "WORKERS": workers}, tmp_path, full) as (proxy, address),
    ):
        wait_until("it serves", lambda: exchange(address, message("GET /x")).status == 200)
        proxy.terminate()
        assert proxy.wait(DEADLINE) == 0


def test_a_disk_that_has_room_again_gets_whole_lines(
    base_settings: dict[str, str], target: Upstream, tmp_path: Path
) -> None:
    log, port = tmp_path / "log", free_port()

    def lost() -> float:
        return scrape(port).sum("aad_auth_proxy_log_lines_lost_total")

    with (
        log.open("ab", buffering=0) as stderr,
        serving({**base_settings, "METRICS_PORT": str(port)}, tmp_path, stderr) as (proxy, address),
    ):
        # The last line of a start.
        wait_until("the token is logged", lambda: '"Token refreshed"' in log.read_text())
        _, hard = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)
        limit = log.stat().st_size + 100
        resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (limit, hard))
        for _ in range(3):
            assert exchange(address, message("GET /lost")).status == 200
        wait_until("no more fits", lambda: log.stat().st_size == limit)
        wait_until("three are lost", lambda: lost() == 3)
        assert exchange(address, message("GET /lost")).status == 200
        wait_until("the fourth is lost", lambda: lost() == 4)
        resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        assert exchange(address, message("GET /kept")).status == 200
        proxy.terminate()
        assert proxy.wait(DEADLINE) == 0
    lines = log.read_text().splitlines()
    told = next(at for at, line in enumerate(lines) if LOST in line)
    whole = [line for line in lines[: told - 1] + lines[told:] if SENT in line]
    assert int(parse_line(lines[told])["Count"]) + len(whole) == 5
    assert "/kept" in whole[-1]
    # The one before was cut off where the file could not grow.
    for line in lines[: told - 1] + lines[told:]:
        assert parse_line(line)["level"] in ("info", "warning")


@pytest.mark.parametrize("stderr", ["closed pipe", "full disk", "closed"])
def test_faults_in_the_settings_keep_their_exit_status(tmp_path: Path, stderr: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    redirection = {"closed pipe": f"2>&{write_end}", "full disk": "2>/dev/full", "closed": "2>&-"}
    command = ["sh", "-c", f'exec "$@" {redirection[stderr]}', "sh", *SERVE]
    done = subprocess.run(
        command, env=clean_environment(str(tmp_path)), pass_fds=[write_end], check=False
    )
    os.close(write_end)
    assert done.returncode == 2


def test_a_reader_gets_all_lines_of_a_process_that_ends_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        SERVE, env=clean_environment(str(tmp_path)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "Each setting is explained by `authproxy serve --help`."


def test_no_socket_takes_the_place_of_a_standard_error_that_is_closed(
    base_settings: dict[str, str], target: Upstream, tmp_path: Path
) -> None:
    port = free_port()
    environment = clean_environment(str(tmp_path)) | base_settings
    command = ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *SERVE]
    with subprocess.Popen(command, env=environment | {"LISTENING_PORT": str(port)}) as proxy:
        address = ("127.0.0.1", port)

        def served() -> bool:
            try:
                return exchange(address, message("GET /x")).status == 200
            except OSError:
                return False

        try:
            wait_until("it serves", served)
            for number in range(3):
                assert os.readlink(f"/proc/{proxy.pid}/fd/{number}") == "/dev/null"
            proxy.terminate()
            assert proxy.wait(DEADLINE) == 0
        finally:
            proxy.kill()


@WORKERS
def test_lines_of_several_processes_do_not_mix(
    launch: Launch, target: Upstream, workers: str
) -> None:
    proxy = launch(WORKERS=workers)
    mark = proxy.mark()
    clients = [proxy.connect() for _ in range(8)]
    for _ in range(10):
        for client in clients:
            client.send(message(f"GET /{'y' * 1000}") * 5)
        for client in clients:
            assert [client.receive().status for _ in range(5)] == [200] * 5
    for client in clients:
        client.close()
    wait_until("all is logged", lambda: sum(SENT in line for line in proxy.lines[mark:]) == 400)
    for line in proxy.lines[mark:]:
        assert parse_line(line)["level"] == "info"
