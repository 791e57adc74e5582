"""Rows: signals, limits and clocks of the machine that the proxy runs on."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from lab.faults.bench import Bench
from lab.faults.clients import gather
from lab.faults.ground import Ground, tmpfs
from lab.faults.needs import FAKETIME, memory_groups
from lab.faults.outcomes import CLOSED, NO_TOKEN, NOT_KEPT, REFUSED, REFUSED_IDENTITY, UNREACHABLE
from lab.faults.row import Row
from tests.support import actions
from tests.support.client_certificates import replace_file
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.scrape import scrape
from tests.support.upstream import Connection, Exchange
from tests.support.wire import message

SUPERVISOR = "started again by its supervisor"

#: Longer than what is kept in memory.
LONG = 1_300_000

# -- signals ---------------------------------------------------------------------------


def _serve_slowly(ground: Ground) -> None:
    """Have requests be under way most of the time."""
    pause = ground.upstream.gate()

    def serve(exchange: Exchange) -> None:
        exchange.read_body()
        pause.wait_at_most(0.2)
        ground.serve(exchange)

    ground.misbehave = serve


def ended(number: signal.Signals, bench: Bench) -> None:
    """The process ends, and is started again at once."""
    ground = bench.ground
    proxy = ground.launch()
    _serve_slowly(ground)
    bench.flow()
    if number == signal.SIGKILL:
        proxy.exit_status = -signal.SIGKILL
    with bench.fault():
        wait_until("requests are under way", lambda: not ground.upstream.all_idle)
        proxy.signal(number)
        proxy.wait()
        ground.launch_again()
        bench.log_from = 0


def killed_worker(bench: Bench) -> None:
    """One worker of two is killed; and when it is replaced, the other one."""
    ground = bench.ground
    proxy = _two_workers(ground)
    _serve_slowly(ground)
    bench.flow()
    with bench.fault():
        for at, pid in enumerate(proxy.workers(), 3):
            os.kill(pid, signal.SIGKILL)
            proxy.wait_for_tokens(at)  # its successor has one
            bench.felt()


def _two_workers(ground: Ground) -> ProxyProcess:
    proxy = ground.launch(WORKERS="2")
    proxy.wait_for_tokens(2)
    return proxy


def stopped(workers: int, bench: Bench) -> None:
    """A process stands still for two seconds: the only one, or one worker of two."""
    ground = bench.ground
    pid = ground.launch().pid if workers == 1 else _two_workers(ground).workers()[0]
    bench.flow()
    with bench.fault():
        os.kill(pid, signal.SIGSTOP)
        try:
            bench.rest(2)
        finally:
            os.kill(pid, signal.SIGCONT)


# -- disk, descriptors, memory -----------------------------------------------------------


@contextlib.contextmanager
def _full(folder: Path) -> Iterator[Callable[[], None]]:
    """Fill the file system, and make room again; what is yielded fills what was freed since."""
    filling = folder / "filling"

    def fill() -> None:
        try:
            with filling.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(65536))
        except OSError:
            pass  # Now it is full.

    fill()
    try:
        yield fill
    finally:
        filling.unlink()


def full_disk_for_bodies(workers: int, bench: Bench) -> None:
    ground = bench.ground
    folder = ground.enter(tmpfs(ground.folder / "tmp", "16m"))
    port = free_port()
    ground.launch(TMPDIR=str(folder), WORKERS=str(workers), METRICS_PORT=str(port))
    bench.flow(size=LONG)
    with bench.fault(), _full(folder) as fill:

        def all_told() -> bool:
            fill()  # Bodies that were on their way may have freed some.
            return bench.writers_see(NOT_KEPT)

        wait_until("writers are told", all_told)
        assert scrape(port).sum("aad_auth_proxy_requests_total", status_code="503") > 0


def full_disk_for_responses(bench: Bench) -> None:
    """Clients take large responses slowly while there is no room for what they leave waiting."""
    ground = bench.ground
    size = 20_000_000
    ground.upstream.on("/large", actions.raw(actions.answer(200, body=b"l" * size)))
    folder = ground.enter(tmpfs(ground.folder / "tmp", "16m"))
    ground.launch(TMPDIR=str(folder))
    bench.flow()
    # From here on the directory is in use, and no other one will be looked for.
    assert bench.proxy.ask(message("POST /api/v1/write?number=0", body=b"0;" * LONG)).status == 204
    with bench.fault(), _full(folder), ExitStack() as stack:
        crowd = gather(bench, stack, message("GET /large"), count=4)
        bench.felt()
        for client in crowd:
            assert len(client.receive().body) == size


def no_descriptors(keep: bool, bench: Bench) -> None:
    """The process may open nothing more; clients connect anew, or the proxy to its target."""
    ground = bench.ground
    proxy = ground.launch()
    bench.flow(keep=keep)
    _, hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    with bench.fault():
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (3, hard))
        if keep:
            ground.upstream.end_idle(Connection.close)
            bench.see(UNREACHABLE)
        else:
            proxy.wait_for_event("Cannot accept.", after=bench.log_from)
            bench.rest(2)
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (hard, hard))


def few_descriptors(bench: Bench) -> None:
    """The limit is low from the start, and more idle clients come than it has room for."""
    ground = bench.ground
    ground.launch(wrapper=("prlimit", "--nofile=96:96"))
    bench.flow(keep=False)
    with bench.fault(), ExitStack() as stack:
        gather(bench, stack, b"", count=100)
        bench.felt()


def little_memory(bench: Bench) -> None:
    """128 MiB, while long bodies come and large responses are taken slowly."""
    ground = bench.ground
    size = 3_900_000
    ground.upstream.on("/large", actions.raw(actions.answer(200, body=b"l" * size)))
    group = ground.enter(_memory_group(128 * 1024 * 1024))
    limit = ("sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(group))
    ground.launch(wrapper=limit, THREADS="32")
    bench.flow(size=8_000_000)
    with bench.fault(), ExitStack() as stack:
        crowd = gather(bench, stack, message("GET /large"))
        heads = [client.receive_head() for client in crowd]
        for _ in range(10):
            for client in crowd:
                client.stream.fill(1024)
            bench.rest(0.1)
        bench.felt(5)
        for client, head in zip(crowd, heads, strict=True):
            assert sum(map(len, client.body_of(head))) == size


@contextlib.contextmanager
def _memory_group(limit: int) -> Iterator[Path]:
    """Make a control group whose processes may have so much memory, of version 1 or 2."""
    root, knob = memory_groups()
    group = root / f"authproxy-faults-{os.getpid()}"
    group.mkdir()
    try:
        (group / knob).write_text(str(limit))
        yield group
    finally:
        wait_until("the group is empty", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


# -- files and signals ---------------------------------------------------------------------


def pipe_for_a_file(bench: Bench) -> None:
    """A named pipe takes the place of the file with callers' tokens, and goes again."""
    ground, token = bench.ground, "correct-horse-battery-staple"
    path, pipe = ground.folder / "tokens", ground.folder / "pipe"
    replace_file(path, token.encode())
    proxy = ground.launch(INBOUND_TOKEN_FILE=str(path))
    bench.flow(fields=[f"X-Authproxy-Token: {token}"])
    with bench.fault():
        os.mkfifo(pipe)
        pipe.replace(path)
        proxy.wait_for_event("New inbound tokens cannot be used", after=bench.log_from)
        assert proxy.get("/x?number=0", "X-Authproxy-Token: another one").status == 401
        bench.felt(10)
        replace_file(path, token.encode())
    proxy.wait_for_event("New inbound tokens in use", after=bench.log_from)


def unread_log(bench: Bench) -> None:
    """Standard error is not read, while more is logged than its pipe takes."""
    proxy = _two_workers(bench.ground)
    bench.flow()
    with bench.fault(), proxy.unread(), proxy.connect() as client:
        for _ in range(100):
            assert client.ask(message(f"GET /{'x' * 2000}?number=0")).status == 200
        bench.felt(10)


def flood_of_signals(bench: Bench) -> None:
    """SIGHUP comes a hundred times a second."""
    proxy = _two_workers(bench.ground)
    bench.flow()
    with bench.fault():
        for _ in range(200):
            proxy.signal(signal.SIGHUP)
            bench.rest(0.01)
        bench.felt()
    proxy.wait_for_event("Settings reloaded", after=bench.log_from)


# -- clocks --------------------------------------------------------------------------------


def clock_jump(seconds: float, azure: float, bench: Bench) -> None:
    """The machine's time jumps, while its monotonic clock goes on: as in a suspend."""
    ground = bench.ground
    time_file = ground.folder / "time"
    time_file.write_text("+0")
    ground.launch(
        LD_PRELOAD=str(FAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(time_file),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    bench.flow()
    if azure:
        ground.entra.hang()  # A fetch of an instant would be over before every sender has noticed.
    with bench.fault():
        time_file.write_text(f"{seconds:+.0f}")
        ground.azure_ahead = azure
    if azure:
        bench.see(NO_TOKEN)
        ground.entra.recover()
    else:
        bench.rest(6)  # The token thread looks at both clocks every five seconds.


def _row(
    fault: str, stage: str, scenario: Callable[[Bench], None], *sees: str, **more: object
) -> Row:
    return Row(fault, stage, scenario, frozenset(sees), shared=False, slow=True, **more)  # type: ignore[arg-type]


START = frozenset({NO_TOKEN, CLOSED})
ROWS = [
    _row(
        "SIGTERM",
        "with requests in flight",
        partial(ended, signal.SIGTERM),
        REFUSED,
        may_see=frozenset({NO_TOKEN}),
        ready=("503", "none"),
        health=("none",),
        bound="the time that a start takes",
        helper=SUPERVISOR,
    ),
    _row(
        "SIGKILL",
        "of the only process",
        partial(ended, signal.SIGKILL),
        REFUSED,
        CLOSED,
        may_see=frozenset({NO_TOKEN}),
        ready=("503", "none"),
        health=("none",),
        bound="the time that a start takes",
        helper=SUPERVISOR,
    ),
    _row(
        "SIGKILL",
        "of one worker of two",
        killed_worker,
        CLOSED,
        may_see=frozenset({NO_TOKEN}),
        ready=("503",),
        log=("Worker died",),
    ),
    _row("SIGSTOP and SIGCONT", "of the only process", partial(stopped, 1)),
    _row("SIGSTOP and SIGCONT", "of one worker of two", partial(stopped, 2)),
    _row(
        "disk full",
        "request bodies over 1 MiB",
        partial(full_disk_for_bodies, 1),
        NOT_KEPT,
        log=("Request failed",),
        needs=("mount",),
    ),
    _row(
        "disk full",
        "request bodies over 1 MiB, two workers",
        partial(full_disk_for_bodies, 2),
        NOT_KEPT,
        log=("Request failed",),
        needs=("mount",),
    ),
    _row(
        "disk full",
        "responses that wait for slow clients",
        full_disk_for_responses,
        needs=("mount",),
    ),
    _row(
        "no descriptors left",
        "for new clients",
        partial(no_descriptors, False),
        log=("Cannot accept.",),
    ),
    _row(
        "no descriptors left",
        "for connections to the target",
        partial(no_descriptors, True),
        UNREACHABLE,
        log=("Request failed",),
    ),
    _row(
        "descriptors limited to 96",
        "100 idle clients",
        few_descriptors,
        log=("Overloaded",),
        bound="room for 16 connections here, 4096 by default",
        needs=("prlimit",),
    ),
    _row(
        "memory limited to 128 MiB",
        "bodies of 8 MB, slow readers",
        little_memory,
        needs=("cgroup",),
    ),
    _row(
        "a named pipe in place of a file",
        "with callers' tokens",
        pipe_for_a_file,
        log=("New inbound tokens cannot be used, the old stay in use",),
    ),
    _row("standard error that is not read", "two workers", unread_log),
    _row("SIGHUP", "a hundred times a second, two workers", flood_of_signals),
    _row(
        "suspended for 2 hours",
        "the token expires meanwhile",
        partial(clock_jump, 7200, 7200.0),
        NO_TOKEN,
        # Until the proxy looks at its clocks, the target refuses the token.
        may_see=frozenset({REFUSED_IDENTITY, "401"}),
        ready=("503",),
        bound="the fetch of a token, 1 s after the last at the earliest",
        needs=("libfaketime",),
    ),
    _row("clock set back by 1 hour", "", partial(clock_jump, -3600, 0.0), needs=("libfaketime",)),
]
