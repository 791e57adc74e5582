"""docs/telemetry: what Grafana and Prometheus are to load, and whether it is whole."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from tests.support.dashboard import (
    ALERTS,
    TELEMETRY,
    Dashboard,
    alert_rules,
    alternatives,
    selectors,
    substituted,
)
from tests.support.programs import LIMIT

README = (TELEMETRY / "README.md").read_text()
RULE_TESTS = TELEMETRY / "alerts.test.yaml"
NAMES = {rule["alert"] for rule in alert_rules()}

#: Units that Grafana knows, as far as they are wanted here.
UNITS = {"s", "ms", "reqps", "percentunit", "bytes", "Bps", "none", "short"}


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool is installed")
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- alerts ------------------------------------------------------------------------


@pytest.mark.real("promtool")
def test_the_alerts_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))


@pytest.mark.real("promtool")
def test_the_alerts_go_off_when_they_should_and_only_then() -> None:
    promtool("test", "rules", str(RULE_TESTS))


def test_each_alert_is_seen_to_go_off() -> None:
    expected = re.findall(r'alertname="(\w+)", alertstate="firing"', RULE_TESTS.read_text())
    assert set(expected) == NAMES


def test_each_alert_says_what_to_do() -> None:
    for rule in alert_rules():
        assert rule["labels"].keys() == {"severity"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["annotations"]["runbook"].startswith("1. "), rule["alert"]
        assert rule["for"], rule["alert"]


def test_each_alert_is_in_the_readme_and_no_other() -> None:
    severities = dict(re.findall(r"^\| `(Authproxy\w+)` \| (\w+) \|", README, re.MULTILINE))
    assert severities == {rule["alert"]: rule["labels"]["severity"] for rule in alert_rules()}


def test_the_alerts_know_no_site() -> None:
    rules = yaml.safe_load(ALERTS.read_text())
    assert rules.keys() == {"groups"}
    for rule in alert_rules():
        for selector in selectors(rule["expr"]):
            assert not re.search(r"\b(job|instance|namespace|cluster|target_host)=", selector)


# -- the dashboard -----------------------------------------------------------------


def test_the_dashboard_shows_all_metrics_of_the_readme() -> None:
    shown = " ".join(expression for _, expression in Dashboard().expressions())
    ours = set(re.findall(r"^\| `(aad_auth_proxy_\w+)`", README, re.MULTILINE))
    assert len(ours) == 11
    standard = {
        "http_server_request_duration_seconds",
        "http_server_active_requests",
        "http_client_request_duration_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
    }
    assert {name for name in ours | standard if name not in shown} == set()


def test_the_dashboard_is_as_grafana_wants_it() -> None:
    dashboard = Dashboard()
    assert dashboard.content["schemaVersion"] == 38
    assert "id" not in dashboard.content  # Grafana gives one
    assert [variable["name"] for variable in dashboard.variables] == [
        "DS_PROMETHEUS",
        "job",
        "target_host",
        "instance",
    ]
    ids = [each["id"] for each in dashboard.everything]
    assert len(set(ids)) == len(ids)
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    for each in (*dashboard.panels, *dashboard.rows):
        assert each.kind in ("row", "stat", "timeseries")
    for each in dashboard.panels:
        assert each.content["datasource"] == source, each.title
        assert each.content["description"].endswith("."), each.title
        assert each.defaults["unit"] in UNITS, each.title
        refs = [target["refId"] for target in each.content["targets"]]
        assert refs == ["A", "B", "C"][: len(refs)], each.title
        assert all(legend for _, legend in each.queries), each.title
    for variable in dashboard.variables[1:]:
        assert variable["datasource"] == source


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    dashboard = Dashboard()
    taken: dict[tuple[int, int], str] = {}
    for each in (*dashboard.panels, *dashboard.rows):
        x, y, width, height = each.place
        assert x + width <= 24, each.title
        for cell in ((x + dx, y + dy) for dx in range(width) for dy in range(height)):
            assert cell not in taken, (each.title, taken[cell])
            taken[cell] = each.title
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


def test_what_the_dashboard_shows_can_be_narrowed_by_its_variables() -> None:
    choices = {name: f"${name}" for name in ("job", "target_host", "instance")}
    choices["__rate_interval"] = "5m"
    for title, expression in Dashboard().expressions():
        for selector in selectors(substituted(expression, choices)):
            assert 'job=~"$job"' in selector, title
            assert 'instance=~"$instance"' in selector, title


def test_variables_are_replaced_as_grafana_does() -> None:
    assert substituted('a{job=~"$job"}[${__interval}]', {"job": "x", "__interval": "1m"}) == (
        'a{job=~"x"}[1m]'
    )
    with pytest.raises(KeyError):
        substituted("$misspelt", {"job": "x"})
    assert alternatives(["a.b"]) == r"a\\.b"
    assert alternatives(["a.b:1", "c"]) == r"(a\\.b:1|c)"
    assert selectors(r'rate(a{b=~"c\\.d"}[5m]) > up') == [r'a{b=~"c\\.d"}', "up{}"]
