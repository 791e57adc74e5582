"""Rows: the target, its name, its certificate, and every stage of an exchange with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lab.faults.bench import Bench
from lab.faults.dns import SERVFAIL, NameServer
from lab.faults.outcomes import CUT, LARGE, PROTOCOL, TIMEOUT, UNREACHABLE
from lab.faults.row import Row
from lab.faults.stages import HALF_CLOSED, RESET, STALLED, Stage, half_close_idle, no_hook
from lab.faults.traffic import WRITE_PATH, response_of
from tests.support import actions
from tests.support.hostile.responses import EXCESS
from tests.support.upstream import Connection, Disconnected, Exchange, Hook

# -- no connection -------------------------------------------------------------------


def refused(bench: Bench) -> None:
    bench.flow()
    with bench.fault():
        bench.ground.target_down()
        bench.see(UNREACHABLE)
        bench.ground.target_up()


def restarted(bench: Bench) -> None:
    bench.flow()
    with bench.fault():
        for _ in range(3):
            bench.ground.target_down()
            bench.rest(0.2)
            bench.ground.target_up()
            bench.rest(0.2)


def bad_certificate(names: tuple[str, ...], expired: bool, bench: Bench) -> None:
    """The target comes back with a certificate that proves nothing, then with a sound one."""
    bench.flow()
    ground = bench.ground
    with bench.fault():
        ground.upstream.tls = ground.authority.context(*names, expired=expired)
        ground.upstream.close_idle()
        bench.see(UNREACHABLE)
        ground.upstream.tls = ground.good_context


def rotated_certificate(bench: Bench) -> None:
    bench.flow()
    ground = bench.ground
    with bench.fault():
        for _ in range(3):
            ground.upstream.tls = ground.authority.context()
            bench.rest(0.2)
            ground.upstream.close_idle()
        bench.felt()


# -- its connections and responses ----------------------------------------------------


def at_stage(stage: Stage, bench: Bench) -> None:
    """Every exchange goes wrong at one stage, until it does no more."""
    bench.flow(size=stage.size)
    ground = bench.ground
    gate = ground.upstream.gate()
    with bench.fault():
        if stage.hook is not None:
            setattr(ground.upstream, stage.hook, partial(stage.wrong, gate))
            ground.upstream.close_idle()
        else:
            ground.misbehave = partial(stage.wrong, gate)
        bench.felt()
        if stage.hook is not None:
            setattr(ground.upstream, stage.hook, no_hook)
        ground.misbehave = None
        gate.open()


def idle_connections(end: Hook, bench: Bench) -> None:
    """Kept connections end while nothing is under way on them."""
    bench.flow()
    with bench.fault():
        for _ in range(10):
            bench.ground.upstream.end_idle(end)
            bench.rest(0.1)
        bench.felt()


UNSOLICITED = "Unsolicited bytes from the target, its connections are not used again"


def surplus(bench: Bench) -> None:
    """The target sends a second response behind each."""
    ground = bench.ground
    ground.launch()
    bench.flow()

    def serve_and_more(exchange: Exchange) -> None:
        ground.serve(exchange)
        exchange.send(EXCESS)

    with bench.fault():
        ground.misbehave = serve_and_more
        bench.wait_for_event(UNSOLICITED, after=bench.log_from)
        bench.felt(10)
        ground.misbehave = None


# -- slow ------------------------------------------------------------------------------


def slow_responses(bench: Bench) -> None:
    """The target sends the last bytes of each response one a second."""
    bench.flow()
    ground = bench.ground
    pause = ground.upstream.gate()

    def drip(exchange: Exchange) -> None:
        content = exchange.read_body()
        path, _, number = exchange.request.target.partition(b"?number=")
        body = response_of(int(number))
        if path == WRITE_PATH.encode():
            ground.take(int(number), content)
        exchange.send(actions.head(200, f"Content-Length: {len(body)}") + body[:-3])
        for at in range(len(body) - 3, len(body)):
            pause.wait_at_most(1.0)
            exchange.send(body[at : at + 1])

    with bench.fault():
        ground.misbehave = drip
        bench.felt()
        ground.misbehave = None


def slow_reading(bench: Bench) -> None:
    """The target reads each request one byte a second: it never gets to the end of it."""
    bench.flow(size=LARGE)
    ground = bench.ground
    pause = ground.upstream.gate()

    def sip(exchange: Exchange) -> None:
        while ground.misbehave is not None:
            pause.wait_at_most(1.0)
            if not exchange.connection.sock.recv(1):
                raise Disconnected
        exchange.close()

    with bench.fault():
        ground.misbehave = sip
        bench.felt()
        ground.misbehave = None
        pause.open()


# -- its name --------------------------------------------------------------------------


def no_name(silent: bool, bench: Bench) -> None:
    """DNS fails, and when it resolves again, the target has moved to another address."""
    ground = bench.ground
    network = f"127.{64 + os.getpid() // 250 % 64}.{1 + os.getpid() % 250}"
    resolver, old, new = f"{network}.53", f"{network}.1", f"{network}.2"
    name = "target.test"
    context = ground.authority.context(name)
    ground.target_down()
    ground.upstream.tls = context
    ground.target_up(host=old)
    files = _resolver_files(ground.folder, resolver)
    port = ground.upstream.port
    with NameServer(resolver, old) as server:
        ground.launch(wrapper=files, TARGET_HOST=f"{name}:{port}")
        bench.flow()
        with bench.fault():
            server.silent, server.error = silent, SERVFAIL
            ground.target_down()
            ground.target_up(host=new)
            bench.see(UNREACHABLE)
            server.silent, server.error, server.address = False, 0, new
        bench.heal()


def _resolver_files(folder: Path, resolver: str) -> list[str]:
    """Return a command that runs another with a resolver of its own, in its own mounts."""
    folder.mkdir(exist_ok=True)
    (folder / "resolv.conf").write_text(
        f"nameserver {resolver}\noptions timeout:1 attempts:2\n",
    )
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    script = 'for f in resolv.conf nsswitch.conf; do mount --bind "$0/$f" /etc/$f; done; exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(folder)]


def _rows() -> list[Row]:
    gone = frozenset({PROTOCOL})

    def row(
        fault: str, stage: str, scenario: Callable[[Bench], None], *sees: str, **more: object
    ) -> Row:
        told = tuple("Response cut short" if each == CUT else "Request failed" for each in sees)
        return Row(fault, stage, scenario, frozenset(sees), log=told, **more)  # type: ignore[arg-type]

    name = {"bound": "the resolver's timeout", "shared": False, "slow": True, "needs": ("unshare",)}
    rows = [
        row("connection refused", "", refused, UNREACHABLE, may_see=gone | {CUT}, slow=False),
        row("DNS fails, then a new address", "", partial(no_name, False), UNREACHABLE, **name),
        row("DNS silent, then a new address", "", partial(no_name, True), UNREACHABLE, **name),
        row("certificate expired", "", partial(bad_certificate, (), True), UNREACHABLE),
        row(
            "certificate for another name",
            "",
            partial(bad_certificate, ("other.example",), False),
            UNREACHABLE,
        ),
        row("certificate rotated", "", rotated_certificate),
        Row("restarted three times", "", restarted, may_see=gone | {UNREACHABLE, CUT}, slow=False),
        # One that has just been opened, and has carried nothing yet, counts as idle too.
        row("reset", "between requests", partial(idle_connections, Connection.reset), may_see=gone),
    ]
    rows += [
        row("reset", stage, partial(at_stage, wrong), outcome)
        for stage, (wrong, outcome) in RESET.items()
    ]
    rows += [
        row(
            "no more bytes",
            stage,
            partial(at_stage, wrong),
            outcome,
            may_see=gone,  # At its end the connections are closed.
            bound="TARGET_CONNECT_TIMEOUT_SECONDS"
            if outcome == UNREACHABLE
            else "TARGET_READ_TIMEOUT_SECONDS",
            slow=True,
        )
        for stage, (wrong, outcome) in STALLED.items()
    ]
    rows += [
        row(
            "half-closed",
            "between requests",
            partial(idle_connections, half_close_idle),
            may_see=gone,
        ),
        *(
            row("half-closed", stage, partial(at_stage, wrong), outcome)
            for stage, (wrong, outcome) in HALF_CLOSED.items()
        ),
        Row(
            "unsolicited responses",
            "right behind each",
            surplus,
            log=(UNSOLICITED,),
            shared=False,  # For ten minutes no connection is used again.
        ),
        row("one byte a second", "of the response", slow_responses, slow=True, bound="the target"),
        row(
            "one byte a second",
            "of the request",
            slow_reading,
            TIMEOUT,
            slow=True,
            may_see=gone,
            bound="TARGET_READ_TIMEOUT_SECONDS",
        ),
    ]
    return rows


ROWS = _rows()
