"""Several worker processes: one parent that replaces, stops and outlives them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from tests.support.actions import answer, raw
from tests.support.identity import identity_settings
from tests.support.logfmt import parse_line
from tests.support.process import SOURCE, ProxyProcess, wait_until
from tests.support.stand_ins.entra import StandInEntra
from tests.support.tcp import connections_of
from tests.support.upstream import Gate, Upstream
from tests.support.wire import DEADLINE, WireError, message

Launch = Callable[..., ProxyProcess]


#: Of a worker that is told to end while it starts: on a busy machine that takes a while.
PATIENT = {"WORKERS": "2", "SHUTDOWN_GRACE_SECONDS": "20"}


def two_workers(launch: Launch, **settings: str) -> ProxyProcess:
    """Start a proxy of two workers and wait until each has its token."""
    proxy = launch(**PATIENT, **settings)
    proxy.wait_for_tokens(2)
    return proxy


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in ("Z", "X")


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that logs as the proxy does; it is killed if it is left running."""
    logged = "import logging; from authproxy.telemetry.log_forms import LogfmtFormatter\n"
    logged += "logging.basicConfig(level='INFO')\n"
    logged += "logging.getLogger().handlers[0].setFormatter(LogfmtFormatter())\n"
    command = [sys.executable, "-c", logged + program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_a_worker_that_dies_is_replaced_and_told_of(launch: Launch) -> None:
    proxy = two_workers(launch)
    first, second = proxy.workers()
    mark = proxy.mark()
    os.kill(first, signal.SIGKILL)
    died = proxy.wait_for_event("Worker died", after=mark)
    assert (died["WorkerPID"], died["Signal"]) == (str(first), "SIGKILL")
    replacement = proxy.wait_for_event("Worker started", after=mark)
    assert int(replacement["WorkerPID"]) not in (first, second)
    assert proxy.get("/health").status == 200


@contextmanager
def under_load(proxy: ProxyProcess) -> Iterator[Counter[tuple[int, bytes]]]:
    """Send requests on connections of their own all the while; count what is answered.

    What a killed worker had in its hands is cut, and not counted.
    """
    answered: Counter[tuple[int, bytes]] = Counter()
    ended = Event()

    def ask() -> None:
        while not ended.is_set():
            with suppress(WireError, OSError):
                response = proxy.get("/x")
                answered[response.status, response.body] += 1

    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(ask) for _ in range(2)]
        try:
            yield answered
        finally:
            ended.set()
    for load in loads:
        load.result()


#: It leaves connections to others for five seconds, in which a busy machine may answer few.
LEAVES_THEM_FOR_LONG = """
from authproxy.server.balance import Share
Share.__init__.__defaults__ = (600.0,)
"""


def test_a_replaced_worker_takes_no_request_before_it_has_a_token(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LEAVES_THEM_FOR_LONG)
    target.respond(answer(body=b"ok"))
    proxy = two_workers(launch, PYTHONPATH=f"{tmp_path}:{SOURCE}", **identity_settings(entra))
    first, second = proxy.workers()
    entra.hang()
    with under_load(proxy) as answered:
        os.kill(first, signal.SIGKILL)
        entra.wait_for_requests(3)  # The replacement waits for its token.
        before = answered.total()
        wait_until("a lot is answered meanwhile", lambda: answered.total() > before + 20)
        entra.recover()
        proxy.wait_for_tokens(3)
        # Else one that begins now would find nobody who takes connections, and take them itself.
        wait_until("it is told of", lambda: len(proxy.workers()) == 3)
        third = proxy.workers()[2]
        wait_until("it takes connections", lambda: bool(connections_of(third, proxy.port)))
        entra.hang()
        os.kill(second, signal.SIGKILL)  # From now on nobody else has a token.
        before = answered.total()
        wait_until("it serves", lambda: answered.total() > before + 20)
    assert set(answered) == {(200, b"ok")}


def test_workers_that_all_begin_answer_at_once(launch: Launch, entra: StandInEntra) -> None:
    entra.hang()
    proxy = launch(ready=False, **PATIENT, **identity_settings(entra))
    entra.wait_for_requests(2)
    for _ in range(4):
        assert proxy.get("/health").status == 200
        assert proxy.get("/ready").status == 503
    # Where the last one that took connections dies, the one that begins takes over.
    entra.recover()
    proxy.wait_for_tokens(2)
    entra.hang()
    first, second = proxy.workers()
    os.kill(first, signal.SIGKILL)
    entra.wait_for_requests(3)
    mark = proxy.mark()
    os.kill(second, signal.SIGKILL)
    proxy.wait_for_event("Worker died", after=mark)
    assert proxy.get("/health").status == 200
    entra.recover()


def test_sigterm_drains_every_worker(launch: Launch, target: Upstream) -> None:
    gate = Gate()
    target.respond(raw(answer(body=b"12")[:-1], gate, b"2"))
    proxy = two_workers(launch)
    clients = [proxy.connect() for _ in range(6)]
    for client in clients:
        client.send(message("GET /"))
    bodies = [client.body_of(client.receive_head()) for client in clients]
    proxy.signal(signal.SIGTERM)
    wait_until("every worker drains", lambda: proxy.log.count('msg="Draining"') == 3)
    gate.open()
    assert [b"".join(body) for body in bodies] == [b"12"] * 6
    for client in clients:
        client.close()
    assert proxy.wait() == 0
    assert all(is_gone(pid) for pid in proxy.workers())


def test_a_signal_to_the_whole_group_still_drains(launch: Launch, target: Upstream) -> None:
    # Ctrl-C in a terminal and systemd send one to each process, and the
    # parent forwards its own: two for each worker.
    gate = Gate()
    target.respond(raw(gate, answer(body=b"ok")))
    proxy = two_workers(launch)
    with proxy.connect() as client:
        client.send(message("GET /"))
        target.wait_for_requests(1)
        for pid in [*proxy.workers(), proxy.pid]:
            os.kill(pid, signal.SIGINT)
        wait_until("every worker drains", lambda: proxy.log.count('msg="Draining"') == 3)
        gate.open()
        assert client.receive().body == b"ok"
    assert proxy.wait() == 0


def test_a_second_signal_kills_the_workers(launch: Launch, target: Upstream) -> None:
    gate = Gate()
    target.respond(raw(gate))
    proxy = two_workers(launch)
    proxy.exit_status = 128 + signal.SIGTERM
    with proxy.connect() as client:
        client.send(message("GET /"))
        target.wait_for_requests(1)
        proxy.signal(signal.SIGTERM)
        proxy.wait_for_event("Draining")
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 128 + signal.SIGTERM
    for pid in proxy.workers():
        wait_until("the worker is gone", partial(is_gone, pid))
    gate.open()


def test_workers_do_not_outlive_a_killed_parent(launch: Launch) -> None:
    proxy = two_workers(launch)
    proxy.exit_status = -signal.SIGKILL
    proxy.signal(signal.SIGKILL)
    for pid in proxy.workers():
        wait_until("the worker is gone", partial(is_gone, pid))
    assert proxy.wait() == -signal.SIGKILL
    assert proxy.log.count("The parent process is gone") == 2


def test_a_worker_that_ends_leaves_the_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    program = f"""
from authproxy.server.listening import listen_unix
from authproxy.server.processes.workers import Parent
with listen_unix({str(path)!r}) as sock:
    Parent(2, [sock], lambda number, stop, link: None, delay=0, grace=1).run()
"""
    with running(program) as parent:
        assert parent.stderr is not None
        assert any("Worker died" in line for line in parent.stderr)
        assert path.exists()
        parent.terminate()
        parent.wait(DEADLINE)
    assert not path.exists()


def test_a_worker_that_dies_at_once_is_replaced_ever_more_slowly() -> None:
    program = """
from authproxy.server.processes import workers
workers._FIRST_PAUSE_SECONDS = 0.1
def fail(number, stop, link):
    raise RuntimeError("no use")
workers.Parent(1, [], fail, delay=0, grace=1).run()
"""
    with running(program) as parent:
        assert parent.stderr is not None
        pauses: list[float] = []
        for line in parent.stderr:
            if "Worker died" in line:
                pauses.append(float(parse_line(line.rstrip())["RestartInSeconds"]))
                if len(pauses) == 5:
                    break
        parent.terminate()
        parent.communicate(timeout=DEADLINE)
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0]


@pytest.mark.parametrize(
    ("ends", "grace", "status"), [("stop.requested", DEADLINE, 0), ("False", 0.4, 1)]
)
def test_the_status_tells_whether_the_workers_drained(ends: str, grace: float, status: int) -> None:
    program = f"""
import sys, time
from authproxy.server.processes import workers
workers._SPARE_SECONDS = 0.1
def serve(number, stop, link):
    sys.stderr.write("serving\\n")
    sys.stderr.flush()
    while not {ends}:
        time.sleep(0.01)
sys.exit(workers.Parent(1, [], serve, delay=0, grace={grace}).run())
"""
    with running(program) as parent:
        assert parent.stderr is not None
        assert any("serving" in line for line in parent.stderr)
        parent.terminate()
        parent.communicate(timeout=DEADLINE)
        assert parent.returncode == status


def test_a_parent_that_drains_sleeps_until_a_worker_ends() -> None:
    """Of two workers one ends at once; meanwhile the parent spun, at the price of a core."""
    program = """
import sys, time
from authproxy.server.processes import workers
waits = []
wait = workers.WorkerLinks.wait
workers.WorkerLinks.wait = lambda links, seconds: waits.append(seconds) or wait(links, seconds)
def serve(number, stop, link):
    while not stop.requested:
        time.sleep(0.01)
    if number == 0:
        time.sleep(2.5)
parent = workers.Parent(2, [], serve, delay=0, grace=20)
started = parent._fill
def fill():
    started()
    sys.stderr.write("serving\\n")
    sys.stderr.flush()
parent._fill = fill
drain = parent._drain
parent._drain = lambda: waits.clear() or drain()
status = parent.run()
sys.stderr.write(f"waits: {len(waits)}\\n")
sys.exit(status)
"""
    with running(program) as parent:
        assert parent.stderr is not None
        assert any("serving" in line for line in parent.stderr)
        parent.terminate()
        _, log = parent.communicate(timeout=DEADLINE)
        assert parent.returncode == 0
    (count,) = re.findall(r"^waits: (\d+)$", log, re.MULTILINE)
    assert int(count) < 20


def test_sums_never_fall_while_workers_end_die_and_are_replaced() -> None:
    program = """
import json, os, signal, sys, threading, time
from authproxy.server.processes.workers import Parent
def add(ended, report):
    return json.dumps(json.loads(ended or "0") + json.loads(report)).encode()
def total(gathered):
    return (gathered["ended"] or 0) + sum(worker["report"] or 0 for worker in gathered["workers"])
def serve(number, stop, link):
    link.report_on("count", lambda: b"5", lasting=True)
    def ask():
        while not stop.requested:
            asked = time.monotonic()
            count = total(link.gather("count"))
            sys.stderr.write(f"{asked} {time.monotonic()} {count}\\n")
            sys.stderr.flush()
            time.sleep(0.01)
    threading.Thread(target=ask, daemon=True).start()
    while not stop.requested:
        time.sleep(0.01)
    link.report_last()
sys.exit(Parent(2, [], serve, delay=0, grace=5, folds={"count": add}).run())
"""
    with running(program) as parent:
        assert parent.stderr is not None
        kills = {10: signal.SIGTERM, 15: signal.SIGKILL}
        pids: list[int] = []
        sums: list[tuple[float, float, int]] = []
        for line in parent.stderr:
            if "Worker started" in line:
                pids.append(int(parse_line(line.rstrip())["WorkerPID"]))
            elif re.fullmatch(r"[\d.]+ [\d.]+ \d+\n", line):
                asked, told, shown = line.split()
                total = int(shown)
                sums.append((float(asked), float(told), total))
                if total in kills:
                    os.kill(pids[-1], kills.pop(total))
                if total == 20:
                    break
        parent.terminate()
        parent.communicate(timeout=DEADLINE)
        assert parent.returncode == 0
    # Two workers ask at the same time: none is told less than had been told before it asked.
    for asked_at, _, total in sums:
        assert total >= max((least for _, told_at, least in sums if told_at < asked_at), default=0)
