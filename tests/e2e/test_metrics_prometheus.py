"""A real Prometheus scrapes METRICS_PORT and understands all of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support import outcomes
from tests.support.process import free_port
from tests.support.programs import LIMIT
from tests.support.prometheus import require_prometheus
from tests.support.scrape import settled
from tests.support.scraper import Scraper, job
from tests.support.upstream import Upstream

pytestmark = pytest.mark.real("prometheus")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def scraper(tmp_path: Path, port: int) -> Iterator[Scraper]:
    require_prometheus()
    with Scraper(tmp_path / "prometheus", [job(port)]) as running:
        yield running


@pytest.mark.parametrize("workers", ["1", "2"])
def test_prometheus_scrapes_every_outcome(
    launch: Launch, target: Upstream, scraper: Scraper, port: int, workers: str
) -> None:
    proxy = launch(METRICS_PORT=str(port), WORKERS=workers, **outcomes.SETTINGS)
    proxy.wait_for_tokens(int(workers))
    outcomes.drive(proxy, target)
    total = len(outcomes.EXPECTED)
    counted = "aad_auth_proxy_requests_total"
    at = scraper.wait_for("all requests are scraped", f"sum({counted})", total)
    assert scraper.value("up", at) == 1
    assert scraper.value("sum(aad_auth_proxy_request_duration_milliseconds_count)", at) == total
    by_status = {
        int(series["metric"]["status_code"]): float(series["value"][1])
        for series in scraper.ask_for(f"sum by (status_code) ({counted})", at)
    }
    assert sum(by_status.values()) == total
    assert set(by_status) == set(outcomes.EXPECTED.values())
    quantile = "histogram_quantile(0.5, sum by (le) (%s))"
    legacy = "aad_auth_proxy_request_duration_milliseconds_bucket"
    assert scraper.value(quantile % legacy, at)
    assert scraper.value(quantile % "http_server_request_duration_seconds_bucket", at)
    expiry = scraper.value("aad_auth_proxy_token_expiry_timestamp_seconds", at)
    assert expiry is not None
    assert expiry > at
    metadata = scraper.ask("GET", "/api/v1/metadata").data()
    # By the names of OpenMetrics, which Prometheus asks for.
    assert metadata["aad_auth_proxy_requests"][0]["type"] == "counter"
    assert metadata["aad_auth_proxy_request_duration_milliseconds"][0]["type"] == "histogram"


def test_promtool_finds_nothing_wrong_with_the_page(
    launch: Launch, target: Upstream, port: int
) -> None:
    require_prometheus()
    proxy = launch(METRICS_PORT=str(port), WORKERS="2", **outcomes.SETTINGS)
    proxy.wait_for_tokens(2)
    outcomes.drive(proxy, target)
    page = settled(port).text
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    remarks = [line for line in checked.stderr.splitlines() if not is_legacy(line)]
    assert remarks == []
    assert checked.returncode in (0, 3)  # 3: there were remarks, the legacy ones


def is_legacy(remark: str) -> bool:
    """Whether promtool dislikes a name that dashboards of the retired proxy know."""
    return "milliseconds" in remark
