"""Real Prometheus servers: senders that scrape themselves, and receivers."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import shutil
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import pytest

from tests.support.authority import Authority
from tests.support.process import wait_until
from tests.support.server_process import ServerProcess
from tests.support.wire import DEADLINE

#: Prometheus looks for its targets five seconds after its start for the first time.
FIRST_SCRAPE_DEADLINE = 100.0

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


class Store(Protocol):
    """What takes remote writes, and tells what it has."""

    @property
    def port(self) -> int: ...

    @property
    def tls(self) -> ssl.SSLContext | None: ...

    def samples(self, selector: str, since: int, until: int) -> Samples: ...


def samples_of(result: Iterable[Mapping[str, Any]], since: int, until: int) -> Samples:
    """Return the samples of a query's result with `since` < timestamp <= `until`."""
    found: Samples = {}
    for series in result:
        labels = frozenset(series["metric"].items())
        values = {round(at * 1000): value for at, value in series["values"]}
        kept = {at: value for at, value in values.items() if since < at <= until}
        if kept:
            found[labels] = kept
    return found


def numbers(samples: Samples) -> Samples:
    """Return all samples but those that are NaN."""
    kept = {
        labels: {at: value for at, value in values.items() if value != "NaN"}
        for labels, values in samples.items()
    }
    return {labels: values for labels, values in kept.items() if values}


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


class Prometheus(ServerProcess):
    """A Prometheus process with a folder of its own, on one port as long as it lives.

    With `authority` it takes remote writes, over TLS; without, it scrapes
    itself, and `writing_to` says where the samples go. `program` is the one to run, Debian's
    own unless another is given; `options` are further ones of its command line, and `more`
    is added to its configuration.
    """

    def __init__(
        self,
        folder: Path,
        authority: ServerAuthority | None = None,
        *,
        program: str | Path = "prometheus",
        options: Sequence[str] = (),
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(folder)
        self.tls = authority.client_context() if authority else None
        self._program = program
        self._more = more or {}
        self._routes: dict[str, dict[str, Any]] = {}
        self._options = ["--web.enable-lifecycle", *options]
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

    def command(self, port: int) -> list[str]:
        self._write_configuration(port)
        return [
            str(self._program),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
            *self._options,
        ]

    def is_ready(self, port: int) -> bool:
        return ask(port, "GET", "/-/ready", tls=self.tls).status == 200

    # -- its configuration -----------------------------------------------------

    def _write_configuration(self, port: int) -> None:
        configuration: dict[str, Any] = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
        }
        if self.tls is None:
            target = {"targets": [f"127.0.0.1:{port}"]}
            configuration["scrape_configs"] = [{"job_name": "self", "static_configs": [target]}]
            configuration["remote_write"] = [
                {
                    "name": name,
                    # Where a redirect leads past the proxy, over TLS, it goes: as anybody would
                    # whose target has a certificate of a public authority.
                    "tls_config": {"insecure_skip_verify": True},
                    "queue_config": {
                        "batch_send_deadline": "200ms",
                        "min_backoff": "30ms",
                        "max_backoff": "300ms",
                    },
                    **route,
                }
                for name, route in self._routes.items()
            ]
        else:
            # A batch whose answer was lost comes twice, and its older samples then
            # come behind newer ones.
            configuration["storage"] = {"tsdb": {"out_of_order_time_window": "30m"}}
        configuration |= self._more
        # YAML is a superset of JSON.
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration))

    @contextmanager
    def writing_to(self, name: str, url: str, **more: Any) -> Iterator[Route]:
        """Send all samples to `url` as well while the context lasts.

        `more` is added to the route's configuration.
        """
        self._routes[name] = {"url": url, **more}
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
        return ask(self.port, method, target, headers=headers, body=body, tls=self.tls)

    def query(self, query: str, time: float) -> Any:
        """Return the data of an instant query at `time`, in epoch seconds."""
        return self.ask("GET", f"/api/v1/query?{urlencode({'query': query, 'time': time})}").data()

    def samples(self, selector: str, since: int, until: int) -> Samples:
        """Return the stored samples with `since` < timestamp <= `until`, in milliseconds."""
        seconds = (until - since) // 1000 + 1
        found = self.query(f"{selector}[{seconds}s]", until / 1000)["result"]
        return samples_of(found, since, until)

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
        # Newer ones count by reason, and have no count before there is one.
        return self.count("samples_failed_total") + (self._metric("samples_dropped_total") or 0)

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

    def missing_from(self, receiver: Store) -> Samples:
        """Return the samples that the sender has and `receiver` has not, once all is sent."""
        return missing(self.sender, receiver, EVERYTHING, self.since, self.catch_up())


def missing(reference: Store, receiver: Store, selector: str, since: int, until: int) -> Samples:
    """Return the samples that `reference` has of a time in milliseconds, and `receiver` has not.

    What `receiver` has must be what `reference` has, value for value.
    """
    scraped = reference.samples(selector, since, until)
    arrived = receiver.samples(selector, since, until)
    assert sum(map(len, scraped.values())) > 1000, "too little was scraped to tell"
    absent: Samples = {}
    for labels, values in scraped.items():
        there = arrived.get(labels, {})
        lost = {at: value for at, value in values.items() if at not in there}
        if lost:
            absent[labels] = lost
        assert there.keys() <= values.keys(), (labels, there, values)
        for at, value in there.items():
            # Not each store keeps the last digits.
            same = value == values[at] or isclose(float(value), float(values[at]), rel_tol=1e-9)
            assert same, (labels, at, value, values[at])
    assert arrived.keys() <= scraped.keys()
    return absent
