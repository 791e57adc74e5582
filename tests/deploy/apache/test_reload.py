"""Reloading: of the proxy alone, which drops no request, and of the whole of Apache."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.apache.conftest import LaunchApache
from tests.support import actions
from tests.support.apache import ApacheProcess
from tests.support.identity import identity_settings
from tests.support.process import wait_until
from tests.support.prometheus import Prometheus, ServerAuthority, require_prometheus
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Gate, Upstream
from tests.support.wire import Client, Truncated, chunks, message, read_exactly

pytestmark = pytest.mark.real("apache2")

BODY = b"b" * 100_000
CHUNKED = actions.head(200, "Transfer-Encoding: chunked")
STREAMS = 3
_numbers = itertools.count()


def touch(apache: ApacheProcess) -> None:
    apache.touch_script()


def signal_daemons(apache: ApacheProcess) -> None:
    for daemon in apache.daemons:
        os.kill(daemon, signal.SIGUSR1)


class Load:
    """Clients that ask without a pause, each on a new connection; `outcomes` counts."""

    def __init__(self, apache: ApacheProcess) -> None:
        self._apache = apache
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self._numbers = itertools.count()
        coded = chunks(BODY)
        large = ("POST /large", "Transfer-Encoding: chunked")
        requests = [(("GET /tiny",), None)] * 3 + [(large, coded)]
        self.threads = [threading.Thread(target=self._ask, args=each) for each in requests]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()

    def _ask(self, lines: tuple[str, ...], body: bytes | None) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            raw = message(*lines, "Connection: close", f"X-Number: {number}", body=body)
            try:
                response = self._apache.ask(raw)
                outcome = f"{response.status} {response.body.decode('latin-1')[:60]}"
            except (AssertionError, OSError) as error:
                outcome = repr(error)
            with self._lock:
                self.outcomes[outcome] += 1

    def number(self) -> int:
        """Return a number that only later requests exceed."""
        return next(self._numbers)

    def wait_for(self, more: int) -> None:
        """Return once so many more requests have gone well."""
        due = self.outcomes["200 ok"] + more
        wait_until(f"{more} more requests", lambda: self.outcomes["200 ok"] >= due)


@dataclass
class Stream:
    """An answer that has begun; `rest` is what comes of it from now on."""

    client: Client
    rest: Iterator[bytes]


@contextmanager
def streams(apache: ApacheProcess, target: Upstream) -> Iterator[tuple[Gate, list[Stream]]]:
    """Begin answers that go on until the gate opens."""
    gate = target.gate()
    path = f"/stream/{next(_numbers)}-"
    target.on(path, actions.raw(CHUNKED, chunks(b"begun", end=False), gate, chunks(b"done")))
    begun = []
    with ExitStack() as stack:
        for _ in range(STREAMS):
            client = stack.enter_context(apache.connect())
            client.send(message(f"GET {path}"))
            begun.append(Stream(client, client.body_of(client.receive_head())))
            assert read_exactly(begun[-1].rest, 5) == b"begun"
        yield gate, begun


def generations(target: Upstream, after: int = -1) -> set[str]:
    """Return what the settings put on the load's requests later than number `after`."""
    return {
        request.one("X-Generation") or ""
        for request in target.requests
        if int(request.one("X-Number") or -1) > after
    }


@pytest.mark.parametrize("reload", [touch, signal_daemons], ids=["touched", "signalled"])
def test_a_reload_of_the_proxy_under_load_drops_nothing_and_reads_the_settings(
    launch_apache: LaunchApache, target: Upstream, reload: Callable[[ApacheProcess], None]
) -> None:
    first, second = (json.dumps({"X-Generation": number}) for number in ("1", "2"))
    apache = launch_apache(
        processes=2, settings={"OVERRIDE_REQUEST_HEADERS": first}, server="LogLevel wsgi:info"
    )
    before = set(apache.daemons)
    with Load(apache) as load, streams(apache, target) as (gate, begun):
        load.wait_for(30)
        assert generations(target) == {"1"}
        apache.settings["OVERRIDE_REQUEST_HEADERS"] = second
        apache.write_settings()
        mark = apache.mark()
        reload(apache)
        touched = load.number()
        # A process that streams has stopped taking requests, and goes on streaming.
        apache.wait_for_line("Shutdown requested", after=mark)
        gate.open()
        for stream in begun:
            assert b"".join(stream.rest) == b"done"
        if reload is signal_daemons:  # Until they end these take requests for a second more.
            wait_until("new processes", lambda: not before & set(apache.daemons))
            touched = load.number()
        load.wait_for(60)
        assert generations(target, after=touched) == {"2"}
    assert set(load.outcomes) == {"200 ok"}


def test_a_graceful_restart_of_apache_ends_every_answer_whole_or_with_an_error(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    """What was accepted in the moment of the change gets 5xx: mod_wsgi has no better."""
    apache = launch_apache(processes=2)
    restarts = 2
    with Load(apache) as load:
        for _ in range(restarts):
            with streams(apache, target) as (gate, begun):
                load.wait_for(30)
                mark = apache.restart_gracefully()
                gate.open()  # Within the three seconds that mod_wsgi leaves them.
                for stream in begun:
                    assert b"".join(stream.rest) == b"done"
            apache.wait_for_notice("resuming normal operations", after=mark)
            load.wait_for(30)
    whole = load.outcomes.pop("200 ok")
    assert whole >= restarts * 60
    assert all(outcome.startswith(("500 ", "503 ")) for outcome in load.outcomes), load.outcomes


def test_an_answer_that_a_graceful_restart_of_apache_cuts_looks_cut(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    apache = launch_apache()
    with streams(apache, target) as (_, begun):
        apache.restart_gracefully()
        for stream in begun:
            with pytest.raises(Truncated):
                next(stream.rest)


@pytest.mark.real("prometheus")
def test_no_sample_is_lost_to_graceful_restarts_of_apache(
    launch_apache: LaunchApache, tmp_path: Path, entra: StandInEntra
) -> None:
    require_prometheus()
    servers = ServerAuthority(tmp_path)
    with (
        Prometheus(tmp_path / "sender") as sender,
        Prometheus(tmp_path / "receiver", servers) as receiver,
    ):
        sender.wait_for_scrapes(1)
        apache = launch_apache(
            processes=2,
            settings={
                **identity_settings(entra),
                "TARGET_CA_FILE": str(servers.bundle),
                "TARGET_HOST": f"localhost:{receiver.port}",
            },
        )
        url = f"http://127.0.0.1:{apache.port}/api/v1/write"
        with sender.writing_to("apache", url) as route:
            for _ in range(3):
                sender.wait_for_scrapes(3)
                mark = apache.restart_gracefully()
                apache.wait_for_notice("resuming normal operations", after=mark)
            assert route.missing_from(receiver) == {}
            assert route.lost == 0
