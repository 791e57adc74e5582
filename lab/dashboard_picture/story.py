"""Two minutes in the life of two proxies, one for writes and one for queries."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import actions, outcomes
from tests.support.authority import Authority
from tests.support.dashboard import ALERTS
from tests.support.identity import identity_settings
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.prometheus import FIRST_SCRAPE_DEADLINE
from tests.support.scraper import Scraper, job
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import WireError, message

#: Tokens live this long, and are refreshed when this percentage is left: often
#: enough for two minutes, and not far from where the alert goes off.
TOKEN_SECONDS = 275
REFRESH_PERCENTAGE = "90"

_CLIENTS = 6
_QUERIES = ("/api/v1/query", "/api/v1/query_range", "/api/v1/labels", "/api/v1/series")
_READERS = ("Grafana/11.1.0", "Grafana/11.1.0", "KEDA/2.14.0", "curl/8.5.0")
_WRITERS = ("Prometheus/2.53.1", "Prometheus/2.53.1", "OpenTelemetry-Collector/0.104.0")


@dataclass
class Store:
    """A target with moods: how often it fails, whom it refuses, how slow it is."""

    upstream: Upstream
    answers: Callable[[random.Random], bytes]
    seconds: float
    failing: float = 0.0
    refusing: bool = False
    revoked: set[str] = field(default_factory=set)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        self.upstream.respond(self._answer)

    def _answer(self, exchange: Exchange) -> None:
        exchange.read_body()
        pause(self.seconds * self._random.lognormvariate(0, 0.6) * (1 + 4 * self.failing))
        token = (exchange.request.one("Authorization") or "").removeprefix("Bearer ")
        if token in self.revoked:
            exchange.send(actions.answer("401 Unauthorized"))
        elif self.refusing:
            exchange.send(actions.answer("403 Forbidden", body=b"no role"))
        elif self._random.random() < self.failing:
            status = self._random.choice(("500 Internal Server Error", "503 Service Unavailable"))
            exchange.send(actions.answer(status, body=b"out of order"))
        else:
            exchange.send(self.answers(self._random))


def written(_: random.Random) -> bytes:
    return actions.head("204 No Content")


def queried(chance: random.Random) -> bytes:
    if chance.random() < 0.04:
        return actions.answer("422 Unprocessable Entity", body=b'{"status":"error"}')
    return actions.answer(200, body=b"x" * chance.randrange(2_000, 30_000))


def write(chance: random.Random) -> bytes:
    agent = f"User-Agent: {chance.choice(_WRITERS)}"
    body = chance.randbytes(chance.randrange(3_000, 9_000))
    return message("POST /api/v1/write", agent, outcomes.REMOTE_WRITE, body=body)


def query(chance: random.Random) -> bytes:
    agent = f"User-Agent: {chance.choice(_READERS)}"
    return message(f"GET {chance.choice(_QUERIES)}?query=up", agent)


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@contextmanager
def clients(
    proxy: ProxyProcess, request: Callable[[random.Random], bytes], per_second: float
) -> Iterator[None]:
    """Have clients send requests, at random moments, as long as the context lasts."""
    over = threading.Event()

    def send(seed: int) -> None:
        chance = random.Random(seed)
        while not over.wait(chance.expovariate(per_second / _CLIENTS)):
            try:
                proxy.ask(request(chance))
            except (OSError, WireError):
                pass  # a client whose response was cut; the dashboard tells of it

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def scraped(port: int, name: str, target: Upstream) -> dict[str, Any]:
    """Return how a proxy is scraped, under names that mean something to a reader."""
    host = f"{name}.example.com"
    renamed = [
        {"source_labels": [label], "regex": shown, "target_label": label, "replacement": host}
        for label, shown in (("target_host", target.authority), ("server_address", "localhost"))
    ]
    return job(port, f"{name}-0", job_name=f"authproxy-{name}", metric_relabel_configs=renamed)


@contextmanager
def two_minutes(folder: Path, echo: Callable[[str], None]) -> Iterator[tuple[Scraper, float]]:
    """Go through all of it; then yield Prometheus, and when it began."""
    authority = Authority(folder)
    with ExitStack() as stack:
        entra = stack.enter_context(StandInEntra())
        entra.lifetime = TOKEN_SECONDS
        writes, reads = (Upstream(authority.context()) for _ in range(2))
        stack.callback(writes.close)
        stack.callback(reads.close)
        ports = free_port(), free_port()
        ingest, query_store = Store(writes, written, 0.012), Store(reads, queried, 0.08)
        proxies = [
            stack.enter_context(
                ProxyProcess(
                    {
                        "TARGET_HOST": target.authority,
                        "TARGET_CA_FILE": str(authority.bundle),
                        "LISTENING_HOST": "127.0.0.1",
                        "METRICS_PORT": str(port),
                        "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": REFRESH_PERCENTAGE,
                        **identity_settings(entra),
                    }
                )
            )
            for target, port in zip((writes, reads), ports, strict=True)
        ]
        jobs = [scraped(ports[0], "ingest", writes), scraped(ports[1], "query", reads)]
        prometheus = stack.enter_context(
            Scraper(folder / "prometheus", jobs, rules=ALERTS, interval="500ms")
        )
        wait_until(
            "both are scraped",
            lambda: prometheus.value("sum(up)") == 2,
            deadline=FIRST_SCRAPE_DEADLINE,
        )
        stack.enter_context(clients(proxies[0], write, 12))
        stack.enter_context(clients(proxies[1], query, 8))
        pause(6)  # until there are rates
        began = time.time()

        def meanwhile(what: str, seconds: float) -> None:
            echo(f"{time.time() - began:4.0f} s  {what}, for {seconds:g} s")
            pause(seconds)

        meanwhile("All is well", 18)
        query_store.failing = 0.4
        meanwhile("The query store fails and is slow", 12)
        query_store.failing = 0.0
        meanwhile("It has recovered", 6)
        ingest.revoked.update(token.value for token in entra.issued)
        meanwhile("The tokens are revoked: new ones are fetched", 4)
        writes.script(*[actions.only_on_reused(actions.then_cut(), ingest._answer)] * 8)
        meanwhile("The ingestion store cuts kept connections", 8)
        with outcomes.unreachable(writes):
            meanwhile("It cannot be reached", 9)
        entra.fail_with(500)
        meanwhile("Entra fails; requests go on", 20)
        ingest.refusing = True
        meanwhile("Besides, the identity's role is taken away", 10)
        ingest.refusing = False
        meanwhile("It is given back", 10)
        entra.recover()
        meanwhile("Entra has recovered", 25)
        yield prometheus, began
