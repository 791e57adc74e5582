"""A real Prometheus that scrapes a few hundred series and writes them through the proxy."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.support.process import wait_until
from tests.support.prometheus import Prometheus, Samples

JOB = '{job="soak"}'
_ROUTE = "soak"

#: How long the queue may take to empty when all faults are over, in seconds.
DRAIN = 120.0


class Sender(Prometheus):
    """Scrapes `scraped` each second, and writes on several shards to `url`."""

    def __init__(self, folder: Path, url: str, scraped: dict[str, int]) -> None:
        super().__init__(folder)
        self._url = url
        self._scraped = scraped
        self.began = int(time.time() * 1000)

    def _write_configuration(self, port: int) -> None:
        queue = {
            "min_shards": 4,
            "max_shards": 8,
            "capacity": 5000,
            "max_samples_per_send": 100,
            "batch_send_deadline": "1s",
            "min_backoff": "100ms",
            "max_backoff": "2s",
            "retry_on_http_429": True,
        }
        route = {
            "name": _ROUTE,
            "url": self._url,
            "remote_timeout": "15s",
            "queue_config": queue,
        }
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]}
            for name, at in self._scraped.items()
        ]
        times = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        content = {"global": times, "scrape_configs": jobs, "remote_write": [route]}
        (self.folder / "prometheus.yml").write_text(json.dumps(content))

    def count(self, what: str) -> int:
        """Return one of its counts of samples on the way out."""
        found = self.metric(f"prometheus_remote_storage_{what}", remote_name=_ROUTE)
        assert found is not None, f"there is no {what}"
        return int(found)

    @property
    def sent(self) -> int:
        """How many samples it counts as sent, each of them once however often it was tried."""
        tried = self.count("samples_total") - self.count("samples_retried_total")
        return tried - self.count("samples_failed_total")

    def finish(self) -> int:
        """Scrape no more, and return when all has been sent: the moment, in ms."""
        self._scraped = {}
        self._reload()
        now = int(time.time() * 1000)

        def is_empty() -> bool:
            newest = self.metric("prometheus_remote_storage_highest_timestamp_in_seconds")
            return self.count("samples_pending") == 0 and self.count(
                "queue_highest_sent_timestamp_seconds"
            ) >= int(newest or 0)

        wait_until("all samples have been sent", is_empty, deadline=DRAIN)
        return now

    def scraped(self, until: int, piece_ms: int = 60_000) -> list[Samples]:
        """Return all that it scraped, in pieces."""
        return pieces_of(self, self.began, until, piece_ms)


def pieces_of(prometheus: Prometheus, since: int, until: int, piece_ms: int) -> list[Samples]:
    """Return the samples of the soak's job between two moments, in ms, in pieces."""
    return [
        prometheus.samples(JOB, begin, min(begin + piece_ms, until))
        for begin in range(since, until, piece_ms)
    ]
