"""A real Prometheus writes through the proxy into a second one, and loses nothing.

One sender scrapes itself four times a second. Each test adds a route of its
own through a proxy of its own, makes trouble on it, and then holds what has
arrived against what the sender scraped: sample by sample, value by value.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest

from authproxy.demo.stand_ins.directory import METRICS_QUERY
from tests.conftest import Launch
from tests.support.gatekeeper import Gatekeeper
from tests.support.identity import AUDIENCE, identity_settings
from tests.support.process import ProxyProcess, wait_until
from tests.support.prometheus import (
    EVERYTHING,
    Prometheus,
    ServerAuthority,
    ask,
    require_prometheus,
)
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream

pytestmark = pytest.mark.real("prometheus")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> ServerAuthority:
    return ServerAuthority(tmp_path_factory.mktemp("servers"))


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    require_prometheus()
    with Prometheus(tmp_path_factory.mktemp("sender")) as prometheus:
        prometheus.wait_for_scrapes(1)
        yield prometheus


@pytest.fixture
def receiver(tmp_path: Path, servers: ServerAuthority) -> Iterator[Prometheus]:
    require_prometheus()
    with Prometheus(tmp_path / "receiver", servers) as prometheus:
        yield prometheus


@pytest.fixture
def gatekeeper(
    entra: StandInEntra, receiver: Prometheus, servers: ServerAuthority
) -> Iterator[Gatekeeper]:
    upstream = Upstream(servers.context("localhost"))
    try:
        yield Gatekeeper(entra, AUDIENCE, receiver, upstream)
        assert not upstream.faults, "\n".join(upstream.faults)
    finally:
        upstream.close()


@pytest.fixture
def settings(entra: StandInEntra, servers: ServerAuthority) -> dict[str, str]:
    return {**identity_settings(entra), "TARGET_CA_FILE": str(servers.bundle)}


def write_url(proxy: ProxyProcess) -> str:
    return f"http://127.0.0.1:{proxy.port}/api/v1/write"


def test_samples_arrive_whole_across_token_refreshes(
    launch: Launch,
    settings: dict[str, str],
    entra: StandInEntra,
    gatekeeper: Gatekeeper,
    sender: Prometheus,
    receiver: Prometheus,
) -> None:
    entra.lifetime = 16  # The last ten seconds do not count: a new one every three.
    proxy = launch(**settings, TARGET_HOST=gatekeeper.upstream.authority)
    with sender.writing_to("refreshes", write_url(proxy)) as route:
        wait_until("three tokens in use", lambda: len(gatekeeper.tokens) >= 3)
        assert route.missing_from(receiver) == {}
        assert route.lost == 0
        assert route.count("samples_retried_total") == 0


def test_no_sample_is_lost_to_a_restart_of_the_target(
    launch: Launch, settings: dict[str, str], sender: Prometheus, receiver: Prometheus
) -> None:
    proxy = launch(**settings, TARGET_HOST=f"localhost:{receiver.port}")
    with sender.writing_to("target-restart", write_url(proxy)) as route:
        wait_until("samples arrive", lambda: receiver.scrapes(route.since) > 0)
        receiver.stop()
        sender.wait_for_scrapes(4)
        wait_until("batches are tried again", lambda: route.count("samples_retried_total") > 0)
        # The first one may be a request that the receiver had in its hands when it ended.
        proxy.wait_for_line('msg="Request failed" .*Code=TargetUnreachable')
        receiver.start()
        assert route.missing_from(receiver) == {}
        assert route.lost == 0


def test_no_sample_is_lost_to_a_restart_of_the_proxy(
    launch: Launch, settings: dict[str, str], sender: Prometheus, receiver: Prometheus
) -> None:
    first = launch(**settings, TARGET_HOST=f"localhost:{receiver.port}")
    with ExitStack() as proxies, sender.writing_to("proxy-restart", write_url(first)) as route:
        wait_until("samples arrive", lambda: receiver.scrapes(route.since) > 0)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        sender.wait_for_scrapes(4)
        wait_until("batches are tried again", lambda: route.count("samples_retried_total") > 0)
        proxies.enter_context(ProxyProcess({**first.settings, "LISTENING_PORT": str(first.port)}))
        assert route.missing_from(receiver) == {}
        assert route.lost == 0


def test_no_sample_is_lost_while_a_role_is_spreading(
    launch: Launch,
    settings: dict[str, str],
    gatekeeper: Gatekeeper,
    sender: Prometheus,
    receiver: Prometheus,
) -> None:
    proxy = launch(**settings, TARGET_HOST=gatekeeper.upstream.authority)
    gatekeeper.trouble = "403"
    with sender.writing_to("role", write_url(proxy)) as route:
        sender.wait_for_scrapes(12)
        wait_until("several refusals", lambda: gatekeeper.times("403") >= 3)
        assert not gatekeeper.passed
        gatekeeper.trouble = None
        assert route.missing_from(receiver) == {}
        assert route.lost == 0
        assert route.count("samples_retried_total") > 0
    assert "StatusCode=403" in proxy.log


@pytest.mark.parametrize("status", [307, 308])
def test_no_sample_is_lost_to_a_redirect(
    launch: Launch,
    settings: dict[str, str],
    gatekeeper: Gatekeeper,
    sender: Prometheus,
    receiver: Prometheus,
    status: int,
) -> None:
    proxy = launch(**settings, TARGET_HOST=gatekeeper.upstream.authority)
    gatekeeper.trouble = str(status)
    with sender.writing_to(f"redirect-{status}", write_url(proxy)) as route:
        sender.wait_for_scrapes(4)
        wait_until("several redirects", lambda: gatekeeper.times(str(status)) >= 3)
        gatekeeper.trouble = None
        assert route.missing_from(receiver) == {}
        assert route.lost == 0
        assert route.count("samples_retried_total") > 0
    assert gatekeeper.without_token == 0
    assert proxy.wait_for_event("Request failed")["Code"] == "TargetRedirectedWrite"


def test_a_plain_pass_through_loses_what_is_refused(
    launch: Launch,
    settings: dict[str, str],
    gatekeeper: Gatekeeper,
    sender: Prometheus,
    receiver: Prometheus,
) -> None:
    proxy = launch(
        **settings,
        TARGET_HOST=gatekeeper.upstream.authority,
        REMOTE_WRITE_RETRY_AUTH_FAILURES="false",
    )
    with sender.writing_to("pass-through", write_url(proxy)) as route:
        route.catch_up()  # what was scraped before `since` is not counted as missing below
        gatekeeper.trouble = "403"
        sender.wait_for_scrapes(4)
        wait_until("several refusals", lambda: gatekeeper.times("403") >= 3)
        gatekeeper.trouble = None
        missing = route.missing_from(receiver)
        failed = route.count("samples_failed_total")
        assert failed > 0
        assert sum(map(len, missing.values())) == failed


def test_queries_come_back_as_the_target_answers_them(
    launch: Launch, settings: dict[str, str], sender: Prometheus, receiver: Prometheus
) -> None:
    proxy = launch(
        **{**settings, "AUDIENCE": METRICS_QUERY}, TARGET_HOST=f"localhost:{receiver.port}"
    )
    with sender.writing_to("queries", write_url(proxy)) as route:
        sender.wait_for_scrapes(4, route.since)
        until = route.catch_up() / 1000
    query = urlencode({"query": f"count_over_time(up{EVERYTHING}[1m])", "time": until})
    over_time = urlencode({"query": EVERYTHING, "start": until - 5, "end": until, "step": "0.5"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    gzip = {"Accept-Encoding": "gzip", "User-Agent": "Grafana/11.0.0"}
    requests: list[tuple[str, str, dict[str, str], bytes | None]] = [
        ("GET", f"/api/v1/query?{query}", {}, None),
        ("POST", "/api/v1/query", form, query.encode()),
        ("GET", f"/api/v1/query_range?{over_time}", gzip, None),
        ("POST", "/api/v1/query_range", {**form, **gzip}, over_time.encode()),
    ]
    for method, target, headers, body in requests:
        through = ask(proxy.port, method, target, headers=headers, body=body)
        direct = receiver.ask(method, target, headers=headers, body=body)
        assert through.data()["result"]
        assert (through.status, through.body) == (direct.status, direct.body)
        assert through.headers["Content-Type"] == direct.headers["Content-Type"]
        assert through.headers["Content-Encoding"] == direct.headers["Content-Encoding"]
    assert through.headers["Content-Encoding"] == "gzip"
