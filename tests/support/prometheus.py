"""Real Prometheus servers, and what stands in for Azure's access control before one."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jwt
import pytest

from tests.support import actions
from tests.support.authority import Authority
from tests.support.process import START_DEADLINE, STOP_DEADLINE, free_port, wait_until
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import DEADLINE

if TYPE_CHECKING:
    from typing_extensions import Self

#: Prometheus looks for its targets five seconds after its start for the first time.
FIRST_SCRAPE_DEADLINE = 30.0

#: Series with their labels, and each series' values by timestamp in milliseconds.
Samples = dict[frozenset[tuple[str, str]], dict[int, str]]

#: The series of the sender's scrapes of itself: all that it has.
EVERYTHING = '{job="self"}'


def require_prometheus() -> None:
    """Skip the test where there is no Prometheus."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus is installed")


class ServerAuthority(Authority):
    """A CA whose certificates come as files too, for servers that are not Python."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def files(self, *names: str) -> tuple[Path, Path]:
        """Write a certificate with its chain and its key for `names`; return both paths."""
        issued = self._ca.issue_cert(*names)
        chain, key = self._folder / f"{names[0]}.crt", self._folder / f"{names[0]}.key"
        chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return chain, key

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts this CA alone."""
        return ssl.create_default_context(cafile=str(self.bundle))


@dataclass
class Reply:
    """An HTTP answer, its body decoded."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def data(self) -> Any:
        """Return the data of an answer of Prometheus's API."""
        content = json.loads(self.body)
        assert content["status"] == "success", content
        return content["data"]


def ask(
    port: int,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Send one request to a server on loopback and return the answer."""
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        if tls is None
        else http.client.HTTPSConnection("localhost", port, timeout=DEADLINE, context=tls)
    )
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
        if response.headers["Content-Encoding"] == "gzip":
            content = gzip.decompress(content)
        return Reply(response.status, response.headers, content)
    finally:
        connection.close()


class Prometheus:
    """A Prometheus process with a folder of its own, on one port as long as it lives.

    With `authority` it takes remote writes, over TLS; without, it scrapes
    itself, and `write_to` says where the samples go.
    """

    def __init__(self, folder: Path, authority: ServerAuthority | None = None) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = 0
        self._tls = authority.client_context() if authority else None
        self._routes: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._options = ["--web.enable-lifecycle"]
        if authority is not None:
            chain, key = authority.files("localhost", "127.0.0.1")
            web = {"tls_server_config": {"cert_file": str(chain), "key_file": str(key)}}
            (folder / "web.yml").write_text(json.dumps(web))
            self._options += [
                "--web.enable-remote-write-receiver",
                f"--web.config.file={folder / 'web.yml'}",
            ]
        else:
            self._options += ["--storage.remote.flush-deadline=20s"]

    # -- its life ------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start it, again on the same port and with the same data, and wait for readiness."""
        for _ in range(5):
            chosen = self.port or free_port()
            self._spawn(chosen)
            if self._becomes_ready(chosen):
                self.port = chosen
                return self
            self.stop()
        raise AssertionError(f"Prometheus does not start:\n{self.log}")

    def _spawn(self, port: int) -> None:
        self._write_configuration(port)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=warn",
                    *self._options,
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _becomes_ready(self, port: int) -> bool:
        assert self._process is not None
        give_up = time.monotonic() + START_DEADLINE
        while self._process.poll() is None and time.monotonic() < give_up:
            try:
                if ask(port, "GET", "/-/ready", tls=self._tls).status == 200:
                    return True
            except OSError:
                pass  # It does not listen yet.
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        return False

    def stop(self) -> None:
        """End it as a service manager does, and wait until it has."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"Prometheus did not end:\n{self.log}") from None
        finally:
            self._process = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    # -- its configuration -----------------------------------------------------

    def _write_configuration(self, port: int) -> None:
        configuration: dict[str, Any] = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
        }
        if self._tls is None:
            target = {"targets": [f"127.0.0.1:{port}"]}
            configuration["scrape_configs"] = [{"job_name": "self", "static_configs": [target]}]
            configuration["remote_write"] = [
                {
                    "name": name,
                    "url": url,
                    # Where a redirect leads past the proxy, over TLS, it goes: as anybody would
                    # whose target has a certificate of a public authority.
                    "tls_config": {"insecure_skip_verify": True},
                    "queue_config": {
                        "batch_send_deadline": "200ms",
                        "min_backoff": "30ms",
                        "max_backoff": "300ms",
                    },
                }
                for name, url in self._routes.items()
            ]
        else:
            # A batch whose answer was lost comes twice, and its older samples then
            # come behind newer ones.
            configuration["storage"] = {"tsdb": {"out_of_order_time_window": "30m"}}
        # YAML is a superset of JSON.
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration))

    @contextmanager
    def writing_to(self, name: str, url: str) -> Iterator[Route]:
        """Send all samples to `url` as well while the context lasts."""
        self._routes[name] = url
        self._reload()
        try:
            yield Route(self, name, since=int(time.time() * 1000))
        finally:
            del self._routes[name]
            self._reload()

    def _reload(self) -> None:
        self._write_configuration(self.port)
        reply = self.ask("POST", "/-/reload")
        assert reply.status == 200, reply.body

    # -- what it knows ---------------------------------------------------------

    def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Send it one request, past every proxy."""
        return ask(self.port, method, target, headers=headers, body=body, tls=self._tls)

    def query(self, query: str, time: float) -> Any:
        """Return the data of an instant query at `time`, in epoch seconds."""
        return self.ask("GET", f"/api/v1/query?{urlencode({'query': query, 'time': time})}").data()

    def samples(self, selector: str, since: int, until: int) -> Samples:
        """Return the stored samples with `since` < timestamp <= `until`, in milliseconds."""
        seconds = (until - since) // 1000 + 1
        found: Samples = {}
        for series in self.query(f"{selector}[{seconds}s]", until / 1000)["result"]:
            labels = frozenset(series["metric"].items())
            values = {round(at * 1000): value for at, value in series["values"]}
            kept = {at: value for at, value in values.items() if since < at <= until}
            if kept:
                found[labels] = kept
        return found

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the current value of one of its own metrics; None if it is not there."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = [
            line
            for line in lines
            if re.match(rf"{name}[{{ ]", line) and all(pair in line for pair in wanted)
        ]
        assert len(found) <= 1, (name, labels, found)
        return float(found[0].rpartition(" ")[2]) if found else None

    def scrapes(self, since: int) -> int:
        """Return how many scrapes there have been after `since`, in milliseconds."""
        now = int(time.time() * 1000)
        return sum(map(len, self.samples('up{job="self"}', since, now).values()))

    def wait_for_scrapes(self, count: int, since: int | None = None) -> None:
        """Return once there have been `count` scrapes after `since`, by default after now."""
        start = int(time.time() * 1000) if since is None else since
        wait_until(
            f"{count} scrapes",
            lambda: self.scrapes(start) >= count,
            deadline=FIRST_SCRAPE_DEADLINE,
        )


@dataclass
class Route:
    """One way on which a Prometheus sends its samples; `since` is when it began to."""

    sender: Prometheus
    name: str
    since: int

    def count(self, what: str) -> float:
        """Return the sender's own count of samples on this route."""
        found = self._metric(what)
        assert found is not None, f"there is no {what}"
        return found

    def _metric(self, what: str) -> float | None:
        return self.sender.metric(f"prometheus_remote_storage_{what}", remote_name=self.name)

    @property
    def lost(self) -> float:
        """How many samples the sender gave up."""
        return self.count("samples_failed_total") + self.count("samples_dropped_total")

    def catch_up(self) -> int:
        """Wait until what has been scraped so far was sent; return that moment (ms)."""
        now = int(time.time() * 1000)
        wait_until(
            f"the queue {self.name} has been sent",
            # In whole seconds, and not there before the first batch has been sent.
            lambda: (
                (self._metric("queue_highest_sent_timestamp_seconds") or 0) * 1000 > now
                and self.count("samples_pending") == 0
            ),
            deadline=2 * DEADLINE,
        )
        return now

    def missing_from(self, receiver: Prometheus) -> Samples:
        """Return the samples that the sender has and `receiver` has not, once all is sent.

        What `receiver` has must be what the sender has, value for value.
        """
        until = self.catch_up()
        scraped = self.sender.samples(EVERYTHING, self.since, until)
        arrived = receiver.samples(EVERYTHING, self.since, until)
        assert sum(map(len, scraped.values())) > 1000, "too little was scraped to tell"
        missing: Samples = {}
        for labels, values in scraped.items():
            there = arrived.get(labels, {})
            absent = {at: value for at, value in values.items() if at not in there}
            if absent:
                missing[labels] = absent
            assert there.items() <= values.items(), (labels, there, values)
        assert arrived.keys() <= scraped.keys()
        return missing


@dataclass
class Gatekeeper:
    """What Azure has before its store: each request needs a valid token, and a role.

    Lets requests through to `store` that carry an unexpired token of `entra`
    for `audience`. While `role` is False it answers 403. While `redirecting` is a status, it
    redirects with that to its own URL, which refuses whoever comes there without a token.
    """

    entra: StandInEntra
    audience: str
    store: Prometheus
    upstream: Upstream
    tls: ssl.SSLContext
    role: bool = True
    redirecting: int | None = None
    tokens: list[str] = field(default_factory=list)
    passed: int = 0
    refused: int = 0
    redirected: int = 0
    without_token: int = 0

    def __post_init__(self) -> None:
        self.upstream.respond(self._judge)

    def _judge(self, exchange: Exchange) -> None:
        body = exchange.read_body()
        scheme, _, token = (exchange.request.one("Authorization") or "").partition(" ")
        if scheme != "Bearer" and self.redirected:  # the sender has followed it past the proxy
            self.without_token += 1
            exchange.send(actions.answer(401))
            return
        assert scheme == "Bearer", "a request without a bearer token"
        try:
            claims = self.entra.signing_key.verify(token)
        except jwt.InvalidTokenError as error:
            raise AssertionError(f"a request with a bad token: {error}") from None
        assert claims["aud"] == self.audience
        assert claims["nbf"] <= time.time() < claims["exp"], "a request with an expired token"
        if token not in self.tokens:
            self.tokens.append(token)
        if self.redirecting is not None:
            self.redirected += 1
            location = f"{self.upstream.url}{exchange.request.target.decode()}"
            exchange.send(actions.answer(self.redirecting, ("Location", location)))
            return
        if not self.role:
            self.refused += 1
            said = {"error": {"code": "OperationFailed", "message": "The identity has no role."}}
            exchange.send(
                actions.answer(
                    "403 Forbidden",
                    ("Content-Type", "application/json"),
                    body=json.dumps(said).encode(),
                )
            )
            return
        request = exchange.request
        headers = {name: value for name, value in request.fields if name.lower() != "host"}
        reply = ask(
            self.store.port,
            request.method.decode(),
            request.target.decode(),
            headers=headers,
            body=body,
            tls=self.tls,
        )
        self.passed += 1
        exchange.send(actions.answer(reply.status, body=reply.body))
