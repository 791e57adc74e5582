"""What the service manager hears over NOTIFY_SOCKET (sd_notify(3)), and when."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from authproxy.server.processes.supervision import Health, ServiceManager
from tests.conftest import Launch
from tests.support.actions import raw
from tests.support.identity import identity_settings
from tests.support.notify_socket import NotifySocket
from tests.support.process import ProxyProcess, stopped, wait_until
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Gate, Upstream
from tests.support.wire import message

#: Microseconds, as WATCHDOG_USEC has them: a sign of life is due every second.
TWO_SECONDS = "2000000"

#: Time enough for two of them, were they given.
_TWO_SIGNS = 2.2

WELL = Health(serves=True, ready=True, text="well")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(str(tmp_path / "notify")) as listening:
        yield listening


def workers_of(proxy: ProxyProcess) -> list[int]:
    children = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


# A real process.


def test_ready_is_said_once_it_listens_though_there_is_no_token(
    launch: Launch, target: Upstream, entra: StandInEntra, manager: NotifySocket
) -> None:
    entra.fail_with(500)
    proxy = launch(ready=False, NOTIFY_SOCKET=manager.address, **identity_settings(entra))
    said = manager.wait_for("READY", "1")
    assert said.pid == proxy.pid
    assert said.fields["STATUS"].startswith("Not ready")
    assert proxy.get("/health").status == 200
    assert proxy.get("/x").status == 503


def test_the_status_follows_the_identity(
    launch: Launch, entra: StandInEntra, manager: NotifySocket
) -> None:
    entra.fail_with(500)
    launch(ready=False, NOTIFY_SOCKET=manager.address, **identity_settings(entra))
    manager.wait_for("STATUS", "There is no valid token: The identity endpoint is failing")
    entra.recover()
    manager.wait_for("STATUS", "Ready. The token is valid until ")
    assert manager.all("READY") == ["1"]
    assert "eyJ" not in " ".join(manager.all("STATUS"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_is_told_with_the_time_that_the_drain_may_take(
    launch: Launch, target: Upstream, manager: NotifySocket, workers: str
) -> None:
    gate = Gate()
    target.respond(raw(gate))
    settings = {"NOTIFY_SOCKET": manager.address, "WORKERS": workers}
    proxy = launch(SHUTDOWN_DELAY_SECONDS="0.5", SHUTDOWN_GRACE_SECONDS="20", **settings)
    manager.wait_for("STATUS", "2 of 2 workers are ready" if workers == "2" else "Ready.")
    with proxy.connect() as client:
        client.send(message("GET /"))
        target.wait_for_requests(1)
        proxy.signal(signal.SIGTERM)
        said = manager.wait_for("STOPPING", "1")
        assert proxy.running
        assert said.pid == proxy.pid
        assert int(said.fields["EXTEND_TIMEOUT_USEC"]) > 20_500_000
        assert said.fields["STATUS"].startswith("Draining")
        gate.open()
    assert proxy.wait() == 0
    assert manager.all("STOPPING") == ["1"]
    assert manager.all("STATUS")[-1].startswith("Draining")


def test_signs_of_life_cease_while_the_main_loop_stands_still(
    launch: Launch, manager: NotifySocket
) -> None:
    proxy = launch(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=TWO_SECONDS)
    manager.wait_for_pings(2)
    with stopped(proxy.pid):
        mark = manager.mark()
        threading.Event().wait(_TWO_SIGNS)
        assert manager.said[mark:] == []
    manager.wait_for_pings(1, after=mark)


@pytest.mark.slow
def test_a_worker_that_ends_is_replaced_and_one_that_stands_still_is_not_endured(
    launch: Launch, manager: NotifySocket
) -> None:
    proxy = launch(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=TWO_SECONDS, WORKERS="2")
    manager.wait_for("STATUS", "2 of 2 workers are ready. Ready.")
    mark = manager.mark()
    ended, stuck = workers_of(proxy)
    os.kill(ended, signal.SIGKILL)
    manager.wait_for("STATUS", "1 of 1 workers are ready", after=mark)
    manager.wait_for("STATUS", "2 of 2 workers are ready", after=mark)
    since = [one.fields.get("STATUS", "") for one in manager.said[mark:]]
    assert not any("No worker" in status or "Cannot serve" in status for status in since)
    with stopped(stuck):
        manager.wait_for("STATUS", f"nothing is heard of worker {stuck}")
        mark = manager.mark()
        threading.Event().wait(_TWO_SIGNS)
        assert not any("WATCHDOG" in one.fields for one in manager.said[mark:])
    manager.wait_for_pings(1, after=mark)
    assert {one.pid for one in manager.said} == {proxy.pid}


def test_workers_tell_their_parent_why_they_are_not_ready(
    launch: Launch, entra: StandInEntra, manager: NotifySocket
) -> None:
    entra.fail_with(500)
    settings = {**identity_settings(entra), "NOTIFY_SOCKET": manager.address, "WORKERS": "2"}
    launch(ready=False, **settings)
    manager.wait_for("READY")
    manager.wait_for("STATUS", "0 of 2 workers are ready. Not ready, requests get 503.")


def test_a_child_process_cannot_speak_for_the_proxy(
    launch: Launch, manager: NotifySocket, tmp_path: Path
) -> None:
    seen = tmp_path / "environment"
    az = tmp_path / "az"
    az.write_text(f"#!/bin/sh\nenv > {seen}.new; mv {seen}.new {seen}; exit 1\n")
    az.chmod(0o755)
    launch(
        ready=False,
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC=TWO_SECONDS,
        IDENTITY_TYPE="azurecli",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
    )
    manager.wait_for("READY")
    wait_until("az is run", seen.exists)
    variables = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert not variables & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}


def test_a_service_manager_that_is_gone_is_told_of_once_and_costs_nothing(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    proxy = launch(NOTIFY_SOCKET=str(tmp_path / "nobody"), WATCHDOG_USEC=TWO_SECONDS)
    assert proxy.wait_for_event("Cannot reach the service manager")["level"] == "warning"
    assert proxy.get("/x").status == 200
    proxy.stop()
    assert proxy.log.count("Cannot reach the service manager") == 1


# The protocol.


def test_an_abstract_address_is_reached() -> None:
    address = f"@authproxy-test-{os.getpid()}"
    with NotifySocket(address) as listening:
        ServiceManager(address, drain=1).report(WELL)
        assert listening.wait_for("READY").fields == {"READY": "1", "STATUS": "well"}


def last_status_is(manager: NotifySocket, text: str) -> bool:
    return manager.all("STATUS")[-1:] == [text]


def test_nothing_is_said_twice(manager: NotifySocket) -> None:
    mine = ServiceManager(manager.address, drain=1)
    for text in ("a", "a", "b", "b", "a"):
        mine.report(Health(serves=True, ready=True, text=text))
        # What finds the socket full is said later: let it be read.
        wait_until("it is read", partial(last_status_is, manager, text))
    mine.stopping()
    manager.wait_for("STOPPING")
    assert manager.all("READY") == ["1"]
    assert manager.all("STATUS")[:3] == ["a", "b", "a"]


def test_what_could_not_be_said_is_said_later(tmp_path: Path) -> None:
    mine = ServiceManager(str(tmp_path / "notify"), drain=1, watchdog=60)
    mine.report(WELL)
    with NotifySocket(str(tmp_path / "notify")) as listening:
        mine.report(WELL)
        said = listening.wait_for("READY").fields
        assert said == {"READY": "1", "WATCHDOG": "1", "STATUS": "well"}


def test_who_cannot_serve_gives_no_sign_of_life_and_is_never_ready(manager: NotifySocket) -> None:
    mine = ServiceManager(manager.address, drain=1, watchdog=1)
    mine.report(Health(serves=False, ready=False, text="stuck"))
    assert manager.wait_for("STATUS").fields == {"STATUS": "stuck"}


def test_a_status_is_one_line_and_fits_a_datagram(manager: NotifySocket) -> None:
    mine = ServiceManager(manager.address, drain=1)
    mine.report(Health(serves=True, ready=True, text="a\nWATCHDOG=1\n" + "x" * 10_000))
    said = manager.wait_for("READY").fields
    assert said["STATUS"].startswith("a WATCHDOG=1 xxx")
    assert len(said["STATUS"]) < 4000


@pytest.mark.parametrize(
    ("environ", "ping_every"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_only_the_process_that_is_watched_gives_signs_of_life(
    environ: dict[str, str], ping_every: float | None
) -> None:
    own = {**environ, "NOTIFY_SOCKET": "/run/notify", "OTHER": "kept"}
    mine = ServiceManager.of(own, drain=1)
    assert mine.listens
    assert mine.ping_every == ping_every
    assert own == {"OTHER": "kept"}
