"""The dashboard and the alerts in front of a real Prometheus that scrapes real proxies.

One run for all tests: two proxies, everything that can happen to them, and
what Prometheus made of the dashboard's expressions and the alerts meanwhile.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import pytest

from lab.dashboard_picture.drawing import draw
from lab.dashboard_picture.recording import Recording, record
from tests.conftest import Launch
from tests.support import actions, outcomes
from tests.support.authority import Authority
from tests.support.dashboard import (
    ALERTS,
    Dashboard,
    alert_rules,
    selectors,
    substituted,
)
from tests.support.identity import identity_settings
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.prometheus import require_prometheus
from tests.support.scraper import Scraper, job
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import message

pytestmark = [pytest.mark.real("prometheus")]

ALL_ALERTS = {rule["alert"] for rule in alert_rules()}


@dataclass
class Observed:
    """What Prometheus said at the height of the trouble, and of the alerts all along."""

    #: Values by expression, of the dashboard's with its variables replaced.
    dashboard: dict[str, list[float]] = field(default_factory=dict)
    #: How many series each selector finds, of dashboard and alerts.
    selected: dict[str, int] = field(default_factory=dict)
    #: The alerts that were on at some time, one of each.
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    recording: Recording | None = None


class Watcher:
    """Asks Prometheus, and keeps what it said."""

    def __init__(self, prometheus: Scraper) -> None:
        self.prometheus = prometheus
        self.observed = Observed()
        self.began = time.time()

    def alerts(self) -> set[str]:
        """Return the names of the alerts that are pending or firing."""
        on = self.prometheus.alerts()
        for alert in on:
            self.observed.seen[alert["labels"]["alertname"]] = alert
        return {alert["labels"]["alertname"] for alert in on}

    def wait_for_alerts(self, *names: str) -> None:
        wait_until(f"{names} are on", lambda: self.alerts() >= set(names))

    def wait_for_evaluation(self) -> None:
        """Return once every rule has been evaluated again."""
        before = {rule["name"]: rule["lastEvaluation"] for rule in self.prometheus.rules()}
        wait_until(
            "all rules are evaluated",
            lambda: all(
                rule["lastEvaluation"] != before[rule["name"]] for rule in self.prometheus.rules()
            ),
        )

    def wait_for(self, what: str, query: str, value: float) -> None:
        wait_until(what, lambda: self.prometheus.value(query) == value)

    def look_at_the_dashboard(self, at: float) -> None:
        dashboard = Dashboard()
        choices = dashboard.choices(self.prometheus, rate_interval="10m")
        for title, expression in dashboard.expressions():
            asked = substituted(expression, choices)
            self.observed.dashboard[f"{title}: {asked}"] = [
                float(series["value"][1]) for series in self.prometheus.ask_for(asked, at)
            ]
            self._select(asked, at)
        self.observed.recording = record(
            dashboard, self.prometheus, self.began, time.time(), rate_interval="1m"
        )

    def look_at_the_alerts(self, at: float) -> None:
        for rule in alert_rules():
            self._select(rule["expr"], at)
        self.observed.rules = self.prometheus.rules()

    def _select(self, expression: str, at: float) -> None:
        for selector in selectors(expression):
            self.observed.selected[selector] = len(self.prometheus.ask_for(selector, at))


def prepare(target: Upstream) -> None:
    """Have the target answer each path in its own way."""
    for path, status in (
        ("/fine", "200 OK"),
        ("/moved", "302 Found"),
        ("/missing", "404 Not Found"),
        ("/broken", "500 Internal Server Error"),
        ("/forbidden/api/v1/write", "403 Forbidden"),
        ("/bad/api/v1/write", "400 Bad Request"),
    ):
        target.on(path, actions.raw(actions.answer(status, body=outcomes.ANSWER)))
    target.on("/silent", Exchange.wait_until_closed_by_proxy)
    target.on("/nonsense", actions.then_close(b"what?\r\n\r\n"))


def ask(proxy: ProxyProcess, start: str) -> int:
    """Send a request as Prometheus would; return the status."""
    write = [outcomes.REMOTE_WRITE] if start.endswith("/write") else []
    body = outcomes.BODY if start.startswith("POST") else None
    return proxy.ask(message(start, outcomes.AGENT, *write, body=body)).status


def go_through_everything(proxy: ProxyProcess, target: Upstream) -> int:
    """Send requests of every outcome but a retry; return how many."""
    expected = {
        "GET /fine": 200,
        "POST /fine": 200,
        "GET /moved": 302,
        "GET /missing": 404,
        "GET /broken": 500,
        "POST /forbidden/api/v1/write": 503,
        "POST /bad/api/v1/write": 400,
        "GET /silent": 504,
        "GET /nonsense": 502,
    }
    for start, status in expected.items():
        assert ask(proxy, start) == status, start
    with outcomes.unreachable(target):
        assert ask(proxy, "GET /fine") == 503
    return len(expected) + 1


def retry(proxy: ProxyProcess, target: Upstream) -> int:
    """Send requests that are sent to the target twice; return how many."""
    answered = actions.raw(actions.answer(200))
    target.script(actions.raw(actions.answer("401 Unauthorized")), answered)
    assert ask(proxy, "GET /retried") == 200
    target.script(actions.only_on_reused(actions.then_cut(), answered))
    assert ask(proxy, "GET /retried") == 200
    return 2


@pytest.fixture(scope="module")
def troubled(authority: Authority) -> Iterator[Upstream]:
    upstream = Upstream(authority.context())
    yield upstream
    upstream.close()
    assert not upstream.faults, "\n".join(upstream.faults)


@pytest.fixture(scope="module")
def observed(
    launch_for_module: Launch,
    troubled: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Observed:
    """Let everything happen once, and watch."""
    require_prometheus()
    ports = free_port(), free_port()
    folder = tmp_path_factory.mktemp("prometheus")
    jobs = [job(ports[0]), {**job(ports[1]), "job_name": "another"}]

    with ExitStack() as stack:
        entra = stack.enter_context(StandInEntra())
        prometheus = stack.enter_context(Scraper(folder, jobs, rules=ALERTS, interval="500ms"))
        watch = Watcher(prometheus)
        prepare(troubled)

        # All is well.
        proxy = launch_for_module(
            METRICS_PORT=str(ports[0]),
            TARGET_HOST=troubled.authority,
            TARGET_POOL_SIZE="1",
            **outcomes.SETTINGS,
        )
        assert ask(proxy, "GET /fine") == ask(proxy, "POST /fine") == 200
        total = "sum(aad_auth_proxy_requests_total)"
        watch.wait_for("they are counted", total, 2)
        assert ask(proxy, "GET /fine") == 200
        watch.wait_for("it is counted", total, 3)
        watch.wait_for_evaluation()
        wait_until("no alert is on while all is well", lambda: not watch.alerts())
        watch.observed.seen.clear()  # before the first scrape there were some

        # A second proxy gets no token for a while.
        entra.fail_with(500)
        entra.lifetime = 200
        other = launch_for_module(
            ready=False,
            METRICS_PORT=str(ports[1]),
            TARGET_HOST=troubled.authority,
            **identity_settings(entra),
        )
        assert ask(other, "GET /fine") == 503
        watch.wait_for_alerts("AuthproxyNotReady", "AuthproxyTokenRefreshFailing")
        entra.recover()
        # A counter is seen to grow from its second value on: all of it twice.
        sent = 4
        for _ in range(2):
            sent += go_through_everything(proxy, troubled)
            watch.wait_for("all is counted", total, sent)
        sent += retry(proxy, troubled)
        watch.wait_for("the retries are counted", total, sent)
        other.wait_ready()
        watch.wait_for_alerts(
            "AuthproxyTokenNearExpiry",
            "AuthproxyTargetUnreachable",
            "AuthproxyTargetRefusesAll",
            "AuthproxyTargetRefusesIdentity",
            "AuthproxyWritesRejected",
            "AuthproxyServerErrors",
        )

        # One request is still on its way while the dashboard is looked at.
        gate = troubled.gate()
        troubled.on("/slow", actions.raw(gate, actions.answer(200)))
        slow = threading.Thread(target=ask, args=(other, "GET /slow"), daemon=True)
        slow.start()
        at = prometheus.wait_for("it is in flight", "sum(http_server_active_requests)", 1)
        watch.look_at_the_dashboard(at)
        watch.look_at_the_alerts(at)
        gate.open()
        slow.join()

        # One ends, then the other.
        other.stop()
        watch.wait_for_alerts("AuthproxyDown")
        proxy.stop()
        watch.wait_for_alerts("AuthproxyAbsent")
        return watch.observed


def test_every_expression_of_the_dashboard_has_something_to_show(observed: Observed) -> None:
    assert len(observed.dashboard) == len(list(Dashboard().expressions()))
    empty = [expression for expression, values in observed.dashboard.items() if not values]
    assert not empty
    without_sense = {
        expression: values
        for expression, values in observed.dashboard.items()
        if not any(math.isfinite(value) and value > 0 for value in values)
    }
    # No request is a tunnel, and the log was read all the while.
    idle = ["Requests in flight", "Log lines lost"]
    assert [panel.partition(":")[0] for panel in without_sense] == idle
    undefined = {
        expression: values
        for expression, values in observed.dashboard.items()
        if any(map(math.isnan, values))
    }
    assert not undefined


def test_every_selector_of_dashboard_and_alerts_finds_something(observed: Observed) -> None:
    expected = {
        selector for rule in alert_rules() for selector in selectors(rule["expr"])
    } | observed.selected.keys()
    assert {selector for selector in expected if not observed.selected.get(selector)} == set()


def test_every_alert_is_set_off_by_what_it_warns_of(observed: Observed) -> None:
    assert observed.seen.keys() == ALL_ALERTS
    assert {rule["name"] for rule in observed.rules} == ALL_ALERTS
    # Only when it is evaluated, an expression meets series that do not match.
    assert {rule["health"] for rule in observed.rules} == {"ok"}


def test_the_alerts_texts_are_filled_in(observed: Observed) -> None:
    for name, alert in observed.seen.items():
        for text in alert["annotations"].values():
            assert "error expanding" not in text, name
            assert "<no value>" not in text, name
            assert "{{" not in text, name
        # Where a label is not there, nothing is in its place.
        told = f"{alert['annotations']['summary']} {alert['annotations']['description']}"
        assert not re.search(r"  |\(\)| [.,]", told), told


@pytest.mark.slow
def test_the_dashboards_picture_can_be_drawn(observed: Observed) -> None:
    assert observed.recording is not None
    picture = ElementTree.fromstring(draw(Dashboard(), observed.recording))
    written = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {panel.title for panel in Dashboard().panels} <= written
    assert {"up", "ready", "500", "p95", "GET /fine", "Prometheus/2.42.0"} <= written
