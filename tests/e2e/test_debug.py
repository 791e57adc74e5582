"""/debug on METRICS_PORT: what is told there, to whom, and what it changes."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.conftest import Launch
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.scrape import settled
from tests.support.wire import DEADLINE, Client, message

TOKEN = "a-token-of-an-operator"
LEVEL = "/debug/log-level"


@pytest.fixture(scope="module")
def shared(launch_for_module: Launch, tmp_path_factory: pytest.TempPathFactory) -> ProxyProcess:
    file = tmp_path_factory.mktemp("debug") / "tokens"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    return launch_for_module(METRICS_PORT=str(free_port()), DEBUG_TOKEN_FILE=str(file))


@dataclass(frozen=True)
class Got:
    status: int
    kind: str
    body: str


def ask(
    proxy: ProxyProcess,
    line: str,
    fields: Mapping[str, str] | None = None,
    *,
    body: str = "",
    source: str = "127.0.0.1",
) -> Got:
    """Ask METRICS_PORT; from another address of this machine, as from afar."""
    method, target = line.split()
    port = int(proxy.settings["METRICS_PORT"])
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE, source_address=(source, 0))
    with closing(connection):
        connection.request(method, target, body=body, headers=fields or {})
        response = connection.getresponse()
        return Got(response.status, response.headers["Content-Type"], response.read().decode())


def told(got: Got) -> Any:
    assert got.status == 200, got.body
    return json.loads(got.body)


def test_stacks_of_all_threads_are_told_without_values(shared: ProxyProcess) -> None:
    response = ask(shared, "GET /debug/threads")
    assert response.kind == "text/plain; charset=utf-8"
    text = response.body
    assert text.startswith(f"Process {shared.pid}\n")
    for thread in ("MainThread", "metrics-port", "refresher"):
        assert f"Thread {thread}" in text
    assert 'authproxy/server/main_loop.py", line ' in text
    assert shared.settings["IDENTITY_HEADER"] not in text


def test_a_profile_is_in_the_form_of_speedscope(shared: ProxyProcess) -> None:
    profile = told(ask(shared, "GET /debug/profile?seconds=1"))
    frames, threads = profile["shared"]["frames"], profile["profiles"]
    assert profile["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert str(shared.pid) in profile["name"]
    assert "MainThread" in {thread["name"] for thread in threads}
    for thread in threads:
        assert (thread["type"], thread["unit"]) == ("sampled", "seconds")
        assert len(thread["samples"]) == len(thread["weights"]) > 0
        assert 0 < sum(thread["weights"]) == pytest.approx(thread["endValue"])
        assert {place for stack in thread["samples"] for place in stack} <= set(range(len(frames)))
    assert any(frame["file"].endswith("authproxy/server/main_loop.py") for frame in frames)


@pytest.mark.parametrize("seconds", ["0", "61", "-1", "1e1", "x", "%D9%A1", "5&seconds=999"])
def test_a_profile_has_bounds(shared: ProxyProcess, seconds: str) -> None:
    got = ask(shared, f"GET /debug/profile?seconds={seconds}")
    assert got.status == 400
    assert "from 1 to 60" in got.body


@pytest.mark.parametrize(
    ("source", "fields", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.0.0.1", {"Host": "localhost:9464"}, 200),
        ("127.0.0.1", {"Host": "rebound.example.com"}, 401),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, 401),
        ("127.0.0.1", {"X-Forwarded-Proto": ""}, 401),
        ("127.0.0.1", {"Sec-Fetch-Site": "none"}, 200),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}, 401),
        ("127.0.0.6", {}, 401),
        ("127.0.0.6", {"Authorization": f"Bearer {TOKEN}"}, 200),
        ("127.0.0.6", {"X-Authproxy-Token": TOKEN, "Host": "pod:1"}, 200),
        ("127.0.0.6", {"Authorization": f"Bearer {TOKEN}x"}, 401),
    ],
)
def test_it_is_for_this_machine_and_for_those_with_a_token(
    shared: ProxyProcess, source: str, fields: dict[str, str], status: int
) -> None:
    for path in ("/debug/threads", LEVEL):
        response = ask(shared, f"GET {path}", fields, source=source)
        assert response.status == status
        if status == 401:
            assert json.loads(response.body)["code"] == "Unauthorized"
    assert ask(shared, "GET /status.json", source=source).status == 200


def test_the_logs_level_changes_while_it_runs(launch: Launch) -> None:
    port = free_port()
    proxy = launch(METRICS_PORT=str(port), LOG_LEVEL="info")
    assert told(ask(proxy, f"GET {LEVEL}"))["new"] == "info"
    changed = told(ask(proxy, f"PUT {LEVEL}", body="Error\n"))
    assert (changed["old"], changed["new"]) == ("info", "error")
    assert proxy.get("/quiet").status == 200
    settled(port, requests=1)  # counted behind the place where it would be logged
    assert told(ask(proxy, f"PUT {LEVEL}", body="info"))["old"] == "error"
    assert proxy.get("/told").status == 200
    proxy.wait_for_line("/told")
    assert "/quiet" not in proxy.log
    changes = [line for line in proxy.log.splitlines() if "The log's level was changed" in line]
    assert ["From=info To=error" in changes[0], "From=error To=info" in changes[1]] == [True, True]
    assert ["level=error" in line for line in changes] == [True, False]
    for method, body in (("PUT", "loud"), ("PUT", "")):
        assert ask(proxy, f"{method} {LEVEL}", body=body).status == 400
    assert ask(proxy, f"POST {LEVEL}", body="info").status == 405


def test_several_workers_are_told_of_and_changed_together(launch: Launch) -> None:
    proxy = launch(METRICS_PORT=str(free_port()), WORKERS="2")
    wait_until(
        "both have begun to serve the port",
        lambda: ask(proxy, "GET /debug/threads").body.count("\nThread metrics-port") == 2,
    )

    def levels(line: str, body: str, when: str) -> list[str | None]:
        # None of one that does not report within a second.
        return [worker.get(when) for worker in told(ask(proxy, line, body=body))["workers"]]

    both = ["debug", "debug"]
    wait_until("both change it", lambda: levels(f"PUT {LEVEL}", "debug", "new") == both)
    wait_until("both have changed it", lambda: levels(f"GET {LEVEL}", "", "old") == both)


def test_one_profile_is_taken_at_a_time_and_none_holds_up_the_end(launch: Launch) -> None:
    proxy = launch(METRICS_PORT=str(free_port()))
    with Client(("127.0.0.1", int(proxy.settings["METRICS_PORT"]))) as client:
        client.send(message("GET /debug/profile?seconds=60", host="127.0.0.1"))
        wait_until(
            "it is being taken", lambda: "in sampled" in ask(proxy, "GET /debug/threads").body
        )
        assert ask(proxy, "GET /debug/profile?seconds=1").status == 503
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
