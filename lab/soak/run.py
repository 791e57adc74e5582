"""One soak: everything started, fault after fault, then all of it compared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from random import Random

from lab.soak.clients import GOOD, Client, asker, prober
from lab.soak.exporter import Exporter
from lab.soak.figures import Figure, Watch, measure
from lab.soak.front import Front
from lab.soak.proxies import NAME, Hosts, Proxies
from lab.soak.schedule import (
    ENDINGS,
    IDENTITY,
    MEASURED,
    RELOAD,
    UNENDED,
    Fault,
    Schedule,
    is_within,
)
from lab.soak.sender import Sender, pieces_of
from tests.support.identity import AUDIENCE, identity_settings
from tests.support.process import wait_until
from tests.support.prometheus import Prometheus, ServerAuthority
from tests.support.scrape import ask_metrics_port
from tests.support.stand_ins.entra import StandInEntra

TOKEN_LIFETIME = 60

#: How long it may take until all is well after a fault, in seconds: the longest pause
#: between two attempts at the identity, and some.
HEALING = 100.0

#: What the two addresses of the target are, one after the other.
ADDRESSES = ("127.0.0.1", "127.0.0.2")


@dataclass(frozen=True)
class Window:
    """When a fault was there, and when all was well again; on the monotonic clock."""

    kind: str
    began: float
    ended: float
    healed: float


@dataclass
class Outcome:
    """All that a soak found out."""

    seed: int
    seconds: float
    began: float
    windows: list[Window]
    clients: dict[str, Client]
    front: Front
    proxies: Proxies
    tokens_issued: int
    quiet_figures: list[Figure]
    all_figures: list[Figure]
    sent: int
    failed: int
    dropped: int
    retried: int
    shards: int
    scraped: int
    missing_from_ledger: int
    missing_from_store: int
    left_out: tuple[str, ...] = ()
    wrongs: list[str] = field(default_factory=list)


def can_change_addresses() -> bool:
    """Whether a process can be given a hosts file of its own here."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Soak:
    """What a run is made of."""

    def __init__(self, folder: Path, seconds: float, seed: int, say: Callable[[str], None]) -> None:
        self.seconds, self.seed, self.say = seconds, seed, say
        self.left_out = () if can_change_addresses() else ("address changed",)
        self._random = Random(seed)
        self._pause = threading.Event()
        authority = ServerAuthority(folder)
        self.hosts = None if self.left_out else Hosts(folder)
        name = "localhost" if self.hosts is None else NAME
        self.entra = StandInEntra()
        self.entra.lifetime = TOKEN_LIFETIME
        self.store = Prometheus(folder / "store", authority)
        self.front = Front(
            self.entra,
            AUDIENCE,
            self.store,
            authority.context(name),
            authority.client_context(),
            seed,
        )
        self.exporter = Exporter()
        self._stack = ExitStack()
        self._stack.enter_context(self.entra)
        self._stack.enter_context(self.store)
        self.front.open()
        self._stack.callback(self.front.close)
        self.exporter.server.start()
        self._stack.callback(self.exporter.server.stop)
        settings = {
            **identity_settings(self.entra),
            "TARGET_HOST": f"{name}:{self.front.port}",
            "TARGET_CA_FILE": str(authority.bundle),
        }
        self.proxies = Proxies(folder, settings, self.hosts)
        self.sender = Sender(
            folder / "sender",
            f"http://127.0.0.1:{self.proxies.port}/api/v1/write",
            {"soak": self.exporter.server.port, "proxy": self.proxies.metrics_port},
        )
        self.askers = [asker(self.proxies.port) for _ in range(2)]
        self.ready = prober(self.proxies.port, "/ready")
        self.health = prober(self.proxies.port, "/health")
        self.windows: list[Window] = []
        self.quiet: list[Figure] = []
        self.wrongs: list[str] = []

    # -- from beginning to end ---------------------------------------------------

    def run(self) -> Outcome:
        with self._stack:
            self.proxies.start()
            self._stack.callback(self.proxies.stop)
            self._stack.enter_context(self.sender)
            watch = Watch(self.proxies.pid)
            clients = [*self.askers, self.ready, self.health]
            for thread in (*clients, watch):
                thread.start()
            wait_until("samples arrive", lambda: self.front.ledger.samples > 0, deadline=60)
            began = time.monotonic()
            for fault in Schedule(self.seed, without=self.left_out).rounds():
                elapsed = time.monotonic() - began
                if elapsed >= self.seconds:
                    break
                if fault.kind in ENDINGS and is_within(UNENDED, elapsed, self.seconds):
                    continue
                self._suffer(fault, elapsed)
                self._sleep(fault.quiet)
                if is_within(MEASURED, time.monotonic() - began, self.seconds):
                    self._note_figures()
            until = self.sender.finish()
            for thread in clients:
                thread.stop()
            watch.stop()
            scraped = self.sender.scraped(until)
            ledger = self.front.ledger
            outcome = Outcome(
                seed=self.seed,
                seconds=time.monotonic() - began,
                began=began,
                windows=self.windows,
                clients={
                    "query 1": self.askers[0],
                    "query 2": self.askers[1],
                    "/ready": self.ready,
                    "/health": self.health,
                },
                front=self.front,
                proxies=self.proxies,
                tokens_issued=len(self.entra.issued),
                quiet_figures=self.quiet,
                all_figures=watch.figures,
                sent=self.sender.sent,
                failed=self.sender.count("samples_failed_total"),
                dropped=self.sender.count("samples_dropped_total"),
                retried=self.sender.count("samples_retried_total"),
                shards=self.sender.count("shards"),
                scraped=sum(len(values) for piece in scraped for values in piece.values()),
                missing_from_ledger=sum(map(ledger.missing, scraped)),
                missing_from_store=self._missing_from_store(until),
                left_out=self.left_out,
                wrongs=self.wrongs,
            )
            self.proxies.stop()
        self.wrongs += self.front.wrongs
        return outcome

    def _missing_from_store(self, until: int) -> int:
        """Return how many samples the sender has and the store has not, or otherwise."""
        missing = 0
        piece = 60_000
        theirs = pieces_of(self.store, self.sender.began, until, piece)
        for there, here in zip(theirs, self.sender.scraped(until, piece), strict=True):
            for labels, values in here.items():
                found = there.get(labels, {})
                missing += sum(found.get(at) != value for at, value in values.items())
        return missing

    # -- one fault ---------------------------------------------------------------

    def _suffer(self, fault: Fault, elapsed: float) -> None:
        self.say(f"{elapsed:6.0f} s  {fault.kind}, {fault.lasts:.1f} s, {fault.share:.0%}")
        began = time.monotonic()
        self._play(fault)
        ended = time.monotonic()
        try:
            wait_until("all is well", lambda: self._is_well(ended, fault), deadline=HEALING)
        except AssertionError:
            self.wrongs.append(f"{fault.kind} did not heal within {HEALING:.0f} s")
        self.windows.append(Window(fault.kind, began, ended, time.monotonic()))

    def _is_well(self, since: float, fault: Fault) -> bool:
        """Whether every client has been served since, and no worker is left behind."""
        for client in self.askers:
            if not any(each.outcome == GOOD for each in client.seen[-5:] if each.began > since):
                return False
        if not any(each.outcome == GOOD for each in self.ready.seen[-1:] if each.began > since):
            return False
        # Only these leave workers that are well while others are not.
        return fault.kind not in (*IDENTITY, *ENDINGS) or self._state() == "ready"

    def _state(self) -> str:
        """Return what the status page says of all workers, nothing where none responds."""
        try:
            status, _, body = ask_metrics_port(self.proxies.metrics_port, "/status.json")
        except OSError:
            return ""
        return str(json.loads(body)["state"]) if status == HTTPStatus.OK else ""

    def _play(self, fault: Fault) -> None:
        if fault.kind in IDENTITY:
            self._trouble_identity(fault)
        elif fault.kind in ("target refused", "target restarted", "address changed"):
            self._leave_place(fault)
        elif fault.kind == RELOAD:
            self._reload()
        elif fault.kind == "SIGKILL of a worker":
            events = self.proxies.events["Worker started"]
            os.kill(self._random.choice(self.proxies.workers()), signal.SIGKILL)
            wait_until(
                "a worker in its place",
                lambda: self.proxies.events["Worker started"] > events,
            )
        elif fault.kind == "SIGTERM and start":
            self.proxies.stop()
            self.proxies.start()
        else:
            self.front.begin(fault)
            self._sleep(fault.lasts)
            self.front.end()

    def _trouble_identity(self, fault: Fault) -> None:
        if fault.kind == "identity refused":
            self.entra.stop()
        elif fault.kind == "identity silent":
            self.entra.hang()
        elif fault.kind == "identity 500":
            self.entra.fail_with(500)
        elif fault.kind == "identity 429":
            self.entra.fail_with(429, headers={"Retry-After": "5"})
        else:
            self.entra.garbage()
        self._sleep(fault.lasts)
        if fault.kind == "identity refused":
            self.entra.start()
        else:
            self.entra.recover()

    def _leave_place(self, fault: Fault) -> None:
        self.front.close()
        if fault.kind == "target restarted":
            self.store.stop()
        self._sleep(fault.lasts)
        if fault.kind == "target restarted":
            self.store.start()
        elif fault.kind == "address changed" and self.hosts is not None:
            self.front.host = ADDRESSES[self.front.host == ADDRESSES[0]]
            self.hosts.point_to(self.front.host)
        self.front.open()

    def _reload(self) -> None:
        done = self.proxies.events["Settings reloaded"] + len(self.proxies.workers())
        self.proxies.reload(signal.SIGHUP)
        wait_until(
            "each worker has reloaded",
            lambda: self.proxies.events["Settings reloaded"] >= done,
            deadline=60,
        )
        wanted = str(self.proxies.generation)
        wait_until("new settings are in force", lambda: wanted in self.front.generations)

    def _note_figures(self) -> None:
        pid = self.proxies.pid()
        figure = None if pid is None else measure(pid)
        if figure is not None:
            self.quiet.append(figure)

    def _sleep(self, seconds: float) -> None:
        self._pause.wait(seconds)
