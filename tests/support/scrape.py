"""Reading METRICS_PORT as Prometheus would."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import wait_until
from tests.support.wire import DEADLINE

Series = tuple[str, dict[str, str], float]


@dataclass(frozen=True)
class Page:
    """One scrape."""

    text: str
    series: list[Series]

    def all(self, name: str, **labels: str) -> list[Series]:
        """Return the samples of this name whose labels include these."""
        return [
            each for each in self.series if each[0] == name and labels.items() <= each[1].items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        """Return what those samples come to."""
        return sum(value for _, _, value in self.all(name, **labels))

    def labels(self, name: str) -> list[dict[str, str]]:
        return [labels for _, labels, _ in self.all(name)]


@dataclass(frozen=True)
class Got:
    """A response on METRICS_PORT; the names of its fields are in small letters."""

    status: int
    headers: dict[str, str]
    body: str


def get(port: int, path: str, method: str = "GET", *, accept: str = "text/plain") -> Got:
    """Ask METRICS_PORT."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request(method, path, headers={"Accept": accept})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Got(response.status, headers, response.read().decode())
    finally:
        connection.close()


def ask_metrics_port(
    port: int, path: str = "/metrics", *, method: str = "GET", accept: str = "text/plain"
) -> tuple[int, str, str]:
    """Return status, content type and body of a response on METRICS_PORT."""
    got = get(port, path, method, accept=accept)
    return got.status, got.headers["content-type"], got.body


def settled(port: int, *, requests: int | None = None) -> Page:
    """Return the metrics once no request is in flight, and so many have been counted, if given.

    A client has its response a moment before it is counted; and of several workers, one that does
    not report within a second counts with its last report. Where their parent takes two, there is
    no page.
    """
    pages: list[Page] = []

    def all_counted() -> bool:
        status, _, text = ask_metrics_port(port)
        if status == 503:
            return False
        pages[:] = [_page(status, text)]
        counted = pages[0].sum("aad_auth_proxy_requests_total")
        in_flight = pages[0].sum("aad_auth_proxy_requests_in_flight")
        return in_flight == 0 and requests in (None, counted)

    wait_until(f"{requests or 'all'} requests are counted", all_counted)
    return pages[0]


def scrape(port: int) -> Page:
    """Return the metrics of a proxy, as they are."""
    status, _, text = ask_metrics_port(port)
    return _page(status, text)


def _page(status: int, text: str) -> Page:
    assert status == 200, text
    series = [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    # To Prometheus an empty label is none.
    distinct = {
        (name, frozenset(pair for pair in labels.items() if pair[1])) for name, labels, _ in series
    }
    assert len(distinct) == len(series)
    return Page(text, series)
