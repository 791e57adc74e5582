"""`authproxy check` and `authproxy settings` where there are several routes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.diagnosing import Check
from tests.support.process import clean_environment, free_port
from tests.support.routes import to, write_routes
from tests.support.tls_client import Certificates
from tests.support.upstream import Upstream

Run = Callable[..., Check]


@pytest.fixture
def config(target: Upstream, tmp_path: Path) -> Path:
    """Routes of which the second one's target is not there."""
    gone = {"name": "gone", "target_host": f"localhost:{free_port()}"}
    return write_routes(tmp_path / "authproxy.yaml", [to(target, path="/a"), gone])


@pytest.fixture
def run(tmp_path: Path, base_settings: dict[str, str], config: Path) -> Run:
    """Start a check of these routes."""

    def start(*arguments: str, as_json: bool = True, **more: str) -> Check:
        settings = {**base_settings, "TARGET_HOST": "", "AUTHPROXY_CONFIG": str(config), **more}
        return Check(tmp_path, settings, *arguments, as_json=as_json)

    return start


def test_every_route_is_checked_and_the_first_failure_decides(run: Run, target: Upstream) -> None:
    check = run()
    assert check.status == 3
    report = check.report
    assert [route["name"] for route in report["routes"]] == ["/a", "gone"]
    assert report["routes"][0]["target"] == target.url
    assert report["target"] is None
    outcomes = {
        (step["route"], step["name"]): step["outcome"]
        for step in report["steps"]
        if step["name"] in ("tcp", "request")
    }
    assert outcomes == {
        ("/a", "tcp"): "ok",
        ("/a", "request"): "ok",
        ("gone", "tcp"): "failed",
        ("gone", "request"): "skipped",
    }


def test_people_read_which_route_it_is_about(run: Run) -> None:
    check = run(as_json=False)
    lines = check.output.splitlines()
    assert lines.index("Route /a") < lines.index("Route gone")


def test_the_certificate_that_clients_are_shown_is_of_no_route(run: Run, tmp_path: Path) -> None:
    check = run(**Certificates(tmp_path).settings)
    step = check.step("listening")  # once
    assert (step["route"], step["outcome"]) == (None, "ok")


def test_one_route_can_be_picked(run: Run) -> None:
    check = run("--route", "/a")
    assert check.status == 0
    assert {step["route"] for step in check.report["steps"]} == {"/a"}


def test_an_unknown_route_is_refused_with_those_there_are(run: Run) -> None:
    check = run("--route", "/b")
    assert check.status == 2
    assert "there is no such route; those there are: /a, gone" in check.errors


def settings_of(config: Path, base: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "authproxy", "settings", *arguments],
        env={
            **clean_environment(str(config.parent)),
            **base,
            "TARGET_HOST": "",
            "AUTHPROXY_CONFIG": str(config),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_settings_are_shown_route_by_route(
    config: Path, base_settings: dict[str, str], target: Upstream
) -> None:
    shown = json.loads(settings_of(config, base_settings, "--json"))
    first, second = shown["routes"]
    assert (first["Name"], first["TARGET_HOST"]) == ("/a", target.authority)
    assert (second["Name"], second["Path"]) == ("gone", "/")
    assert shown["IDENTITY_TYPE"] == {"value": "systemassigned", "origin": "environment"}
    lines = settings_of(config, base_settings).splitlines()
    at = lines.index("Route /a")
    # Only what differs from what holds for all.
    shown = [line.split()[0] for line in lines[at + 1 : lines.index("", at)]]
    assert shown == ["Name", "Host", "Path", "StripPath", "TARGET_HOST"]
