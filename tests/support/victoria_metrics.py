"""VictoriaMetrics as a store, and vmagent, which scrapes itself and writes to stores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlencode

from tests.support import newer_debian
from tests.support.gatekeeper import SENDER
from tests.support.prometheus import Reply, Samples, ask, numbers, samples_of
from tests.support.server_process import ServerProcess


class _Victoria(ServerProcess):
    """What the project's programs have in common; `options` are added to the command line."""

    PROGRAM: ClassVar[str]
    tls = None

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, newer_debian.environment())
        self._options = options

    def command(self, port: int) -> list[str]:
        return [
            str(newer_debian.require(self.PROGRAM)),
            f"-httpListenAddr=127.0.0.1:{port}",
            "-loggerLevel=INFO",
            *self._options,
        ]

    def is_ready(self, port: int) -> bool:
        return ask(port, "GET", "/health").status == 200

    def ask(self, method: str, target: str) -> Reply:
        """Send it one request, past every proxy."""
        return ask(self.port, method, target)

    def total(self, name: str) -> float:
        """Return the sum of one of its own metrics."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        assert found, f"there is no {name}"
        return sum(float(line.rpartition(" ")[2]) for line in found)


class VictoriaMetrics(_Victoria):
    """A store that takes remote write, zstd's of its own kind too."""

    PROGRAM = "victoria-metrics"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            f"-storageDataPath={folder / 'data'}",
            "-search.latencyOffset=0s",
            "-search.disableCache",
        )

    def samples(self, selector: str, since: int, until: int) -> Samples:
        """Return the stored samples with `since` < timestamp <= `until`, in milliseconds.

        Without staleness markers, which a scrape that came too late leaves, and which Prometheus
        does not show: they are the only NaN that it keeps.
        """
        self.ask("GET", "/internal/force_flush")  # else they are found a second later
        seconds = (until - since) // 1000 + 1
        query = urlencode({"query": f"{selector}[{seconds}s]", "time": until / 1000})
        found = self.ask("GET", f"/api/v1/query?{query}").data()["result"]
        return numbers(samples_of(found, since, until))


@dataclass(frozen=True)
class To:
    """A URL that vmagent writes to, with what its requests have in `SENDER`."""

    url: str
    sender: str


class VMAgent(_Victoria):
    """A vmagent that scrapes itself four times a second, and writes that to each URL."""

    PROGRAM = "vmagent"

    def __init__(self, folder: Path, urls: Sequence[To]) -> None:
        options = [
            f"-promscrape.config={folder / 'scrape.yml'}",
            f"-remoteWrite.tmpDataPath={folder / 'queue'}",
            "-remoteWrite.flushInterval=200ms",
            "-remoteWrite.retryMinInterval=50ms",
            # Where a redirect leads past the proxy, over TLS, it goes.
            "-remoteWrite.tlsInsecureSkipVerify",
            "-remoteWrite.queues=1",  # so that samples arrive in order
        ]
        for to in urls:
            options += [f"-remoteWrite.url={to.url}", f"-remoteWrite.headers={SENDER}:{to.sender}"]
        super().__init__(folder, *options)

    def command(self, port: int) -> list[str]:
        job = {"job_name": "vmagent", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        configuration = {"global": {"scrape_interval": "250ms"}, "scrape_configs": [job]}
        (self.folder / "scrape.yml").write_text(json.dumps(configuration))
        return super().command(port)
