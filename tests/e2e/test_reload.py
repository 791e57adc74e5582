"""SIGHUP: the settings file anew, without losing a request; what is wrong changes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support.authority import Authority
from tests.support.callers import Cluster
from tests.support.client_certificates import replace_file
from tests.support.expect import assert_own_error
from tests.support.identity import application_settings
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.routes import to, write_routes
from tests.support.scrape import settled
from tests.support.stand_ins.entra import StandInEntra
from tests.support.stand_ins.machine import ManagedIdentity
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import message

#: Seconds that two hundred signals take at most where nothing holds up their sender meanwhile: in
#: more, one reload may end and another one begin.
IN_ONE_GO = 0.01

RELOADED, NOT_RELOADED = "Settings reloaded", "Settings not reloaded, those before stay in force"


@pytest.fixture
def second(authority: Authority) -> Iterator[Upstream]:
    """Another target than `target`."""
    upstream = Upstream(authority.context())
    yield upstream
    upstream.close()


def reload(proxy: ProxyProcess, outcome: str = RELOADED, *, times: int = 1) -> dict[str, str]:
    """Send SIGHUP and return the event that says what came of it, once `times` have said so."""
    mark = proxy.mark()
    proxy.signal(signal.SIGHUP)
    event = proxy.wait_for_event(outcome, after=mark)
    wait_until(
        "all have reloaded",
        lambda: sum(outcome in line for line in proxy.lines[mark:]) == times,
    )
    return event


def start(launch: Launch, config: Path, **settings: str) -> ProxyProcess:
    proxy = launch(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(config), **settings)
    if "WORKERS" in settings:
        proxy.wait_for_tokens(int(settings["WORKERS"]))
    return proxy


def test_a_changed_target_takes_the_requests_from_then_on(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    config = tmp_path / "authproxy.yaml"
    replace_file(config, f"target_host: {second.authority}\n".encode())
    proxy = start(launch, config)
    assert proxy.get("/1").status == 200
    replace_file(config, f"target_host: {target.authority}\n".encode())
    reload(proxy)
    assert proxy.get("/2").status == 200
    assert second.only().target == b"/1"
    assert target.only().target == b"/2"
    wait_until("the connection to the former target is closed", lambda: not second.open_connections)


def test_routes_come_and_go(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target, path="/a")])
    proxy = start(launch, config)
    assert_own_error(proxy.get("/b"), 404, "NoRoute")
    write_routes(config, [to(second, path="/b")])
    reload(proxy)
    assert proxy.get("/b").status == 200
    assert_own_error(proxy.get("/a"), 404, "NoRoute")
    assert proxy.wait_for_line(r'msg="Route:" Name=/b')


def test_a_request_in_flight_ends_as_it_began(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    config = tmp_path / "authproxy.yaml"
    replace_file(config, f"target_host: {target.authority}\n".encode())
    proxy = start(launch, config)
    gate = target.gate()
    began = threading.Event()

    def slowly(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhal")
        began.set()
        gate.wait()
        exchange.send("ves")

    target.script(slowly)
    with proxy.connect() as client:
        client.send(message("GET /slow"))
        assert began.wait(20)
        replace_file(config, f"target_host: {second.authority}\n".encode())
        reload(proxy)
        assert proxy.get("/next").status == 200
        gate.open()
        assert client.receive().body == b"halves"
    assert second.only().target == b"/next"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_is_lost_to_reloads_under_load(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path, workers: str
) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target)])
    proxy = start(launch, config, WORKERS=workers)
    over = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        number = 0
        while not over.is_set():
            with proxy.connect() as client:
                for _ in range(10):
                    number += 1
                    statuses.append(client.ask(message("POST /x", body=b"%d" % number)).status)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        for destination in (second, target, second):
            write_routes(config, [to(destination)])
            reload(proxy, times=int(workers))
        wait_until("there is a load", lambda: len(statuses) > 10)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert set(statuses) == {200}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("target_host: [", "AUTHPROXY_CONFIG"),
        ("target_host: a.example.com\nthreads: none", "THREADS='none'"),
        ("", "TARGET_HOST: it is required"),
        ("target_host: a.example.com\nlisten_port: 1", "listen_port: there is no such setting"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_faults_are_told_and_the_settings_before_stay(
    launch: Launch, target: Upstream, tmp_path: Path, text: str, told: str, workers: str
) -> None:
    config = tmp_path / "authproxy.yaml"
    replace_file(config, f"target_host: {target.authority}\n".encode())
    proxy = start(launch, config, WORKERS=workers)
    replace_file(config, text.encode())
    event = reload(proxy, NOT_RELOADED)
    assert event["level"] == "error"
    assert told in event["Error"]
    assert proxy.get("/1").status == 200
    # And they can be mended.
    replace_file(config, f"target_host: {target.authority}\nlog_level: debug\n".encode())
    reload(proxy, times=int(workers))
    assert proxy.get("/2").status == 200


def test_an_identity_that_gets_no_token_does_not_replace_one_that_does(
    launch: Launch, target: Upstream, tmp_path: Path, entra: StandInEntra
) -> None:
    config = tmp_path / "authproxy.yaml"
    replace_file(config, f"target_host: {target.authority}\n".encode())
    proxy = launch(
        without=("TARGET_HOST", "IDENTITY_TYPE"),
        AUTHPROXY_CONFIG=str(config),
        **entra.managed_identity_environment(),
    )
    wrong = f"target_host: {target.authority}\nidentity_type: userassigned\naad_client_id: nobody\n"
    replace_file(config, wrong.encode())
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_event("Failed to refresh token")
    assert proxy.get("/meanwhile").status == 200
    # Before the reload gives up, there is such an identity after all.
    mark = proxy.mark()
    entra.assign(ManagedIdentity(client_id="nobody"))
    proxy.wait_for_event(RELOADED, after=mark)
    assert proxy.get("/then").status == 200


def test_a_respawned_worker_begins_with_the_settings_in_force(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target)])
    proxy = start(launch, config, WORKERS="2")
    write_routes(config, [to(second)])
    reload(proxy, times=2)
    before = proxy.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until("the workers are replaced", lambda: len(set(proxy.workers()) - set(before)) == 2)
    proxy.wait_for_tokens(4)
    assert proxy.get("/x").status == 200
    assert second.only().target == b"/x"
    assert not target.requests


def test_what_is_fixed_for_the_process_is_told_and_kept(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    config = tmp_path / "authproxy.yaml"
    replace_file(config, f"target_host: {target.authority}\n".encode())
    proxy = start(launch, config)
    changed = f"target_host: {target.authority}\nthreads: 3\nlog_format: json\nlog_level: debug\n"
    replace_file(config, changed.encode())
    reload(proxy)
    event = proxy.wait_for_event("Some changed settings take effect only after a restart")
    assert event["Settings"] == "THREADS, MAX_QUEUED_REQUESTS, LOG_FORMAT"
    assert proxy.get("/x").status == 200


@pytest.mark.parametrize("quiet", ["log_level: error", "access_log: none"])
def test_what_is_logged_is_reloaded(
    launch: Launch, target: Upstream, tmp_path: Path, quiet: str
) -> None:
    config = tmp_path / "authproxy.yaml"
    replace_file(config, f"target_host: {target.authority}\n{quiet}\n".encode())
    proxy = start(launch, config)
    assert proxy.get("/x").status == 200
    assert "Successfully sent request" not in proxy.log
    replace_file(config, f"target_host: {target.authority}\n".encode())
    proxy.signal(signal.SIGHUP)
    wait_until(
        "requests are logged",
        lambda: proxy.get("/x").status == 200 and "Successfully sent request" in proxy.log,
    )


def test_callers_are_judged_by_the_settings_in_force(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target)])
    proxy = start(launch, config)
    assert proxy.ask(message("DELETE /x", body=b"x")).status == 200
    write_routes(config, [to(target, allowed_methods="GET")])
    reload(proxy)
    assert_own_error(proxy.ask(message("DELETE /x", "Content-Length: 9")), 405, "MethodNotAllowed")
    write_routes(config, [to(target)])
    reload(proxy)
    assert proxy.ask(message("DELETE /x", body=b"x")).status == 200


def test_metrics_go_on_and_the_former_token_is_forgotten(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target)])
    port = free_port()
    proxy = start(launch, config, METRICS_PORT=str(port))
    assert proxy.get("/x").status == 200
    write_routes(config, [to(second, audience="https://prometheus.monitor.azure.com")])
    reload(proxy)
    assert proxy.get("/x").status == 200
    page = settled(port)
    hosts = {labels["target_host"] for labels in page.labels("aad_auth_proxy_requests_total")}
    assert hosts == {target.authority, second.authority}
    expiries = page.labels("aad_auth_proxy_token_expiry_timestamp_seconds")
    assert [labels["audience"] for labels in expiries] == [
        "https://prometheus.monitor.azure.com/.default"
    ]


def test_what_did_not_change_keeps_its_token_its_keys_and_its_connections(
    launch: Launch,
    target: Upstream,
    second: Upstream,
    tmp_path: Path,
    authority: Authority,
    entra: StandInEntra,
) -> None:
    with Cluster(authority.context()) as cluster:
        callers = {name.lower(): value for name, value in cluster.settings.items()}
        kept = to(target, path="/kept", inbound_jwks_ca_file=str(authority.bundle), **callers)
        config = write_routes(tmp_path / "authproxy.yaml", [kept])
        proxy = start(launch, config, **entra.managed_identity_environment())
        caller = f"Authorization: Bearer {cluster.token()}"
        assert proxy.get("/kept/1", caller).status == 200
        asked = len(entra.requests), len(cluster.requests)
        write_routes(config, [kept, to(second, path="/new")])
        reload(proxy)
        assert proxy.get("/kept/2", caller).status == 200
        assert proxy.get("/new", caller).status == 200
        assert (len(entra.requests), len(cluster.requests)) == asked
    first, again = target.requests
    assert first.connection == again.connection
    assert first.one("Authorization") == again.one("Authorization")
    assert second.only().one("Authorization") == again.one("Authorization")


def test_a_replaced_secret_is_proved_before_it_is_put_in_force(
    launch: Launch, target: Upstream, tmp_path: Path, entra: StandInEntra
) -> None:
    settings = application_settings(entra, tmp_path)
    (application,) = entra.applications.values()
    secret = tmp_path / "secret"
    replace_file(secret, settings.pop("AAD_CLIENT_SECRET").encode())
    config = tmp_path / "authproxy.yaml"
    replace_file(config, f"target_host: {target.authority}\n".encode())
    proxy = start(launch, config, AAD_CLIENT_SECRET_FILE=str(secret), **settings)
    reload(proxy)
    assert len(entra.issued) == 1
    entra.register(replace(application, secret="the-next"))
    replace_file(secret, b"the-next")
    reload(proxy)
    assert len(entra.issued) == 2
    assert proxy.get("/x").status == 200
    assert target.only().one("Authorization") == f"Bearer {entra.issued[1].value}"


def flood(proxy: ProxyProcess) -> int:
    """Send two hundred signals in one go; return the place in the log before them."""
    while True:
        mark, began = proxy.mark(), time.monotonic()
        for _ in range(200):
            proxy.signal(signal.SIGHUP)
        if time.monotonic() - began < IN_ONE_GO:
            return mark


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_flood_of_signals_is_a_few_reloads_and_the_last_settings_win(
    launch: Launch,
    target: Upstream,
    second: Upstream,
    tmp_path: Path,
    entra: StandInEntra,
    workers: str,
) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target)])
    environment = entra.managed_identity_environment()
    proxy = start(launch, config, WORKERS=workers, **environment)
    proxy.wait_for_tokens(int(workers))
    asked, mark = len(entra.requests), flood(proxy)
    write_routes(config, [to(second)])
    proxy.signal(signal.SIGHUP)
    wait_until(
        "the last settings are in force",
        lambda: all(proxy.get("/x").status == 200 for _ in range(8)) and len(second.requests) >= 8,
    )
    assert len(entra.requests) == asked
    reloads = sum(RELOADED in line for line in proxy.lines[mark:])
    assert reloads <= 4 * int(workers)


def held_back(proxy: subprocess.Popen[bytes]) -> bool:
    """Whether the process holds SIGHUP back, or listens to it already."""
    try:
        status = Path(f"/proc/{proxy.pid}/status").read_text()
    except ProcessLookupError:
        return False
    masks = dict(re.findall(r"^(SigBlk|SigCgt):\s*([0-9a-f]+)$", status, re.M))
    return any(int(mask, 16) & 1 << (signal.SIGHUP - 1) for mask in masks.values())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_at_the_very_start_ends_nothing_and_is_heard(
    base_settings: dict[str, str],
    target: Upstream,
    second: Upstream,
    tmp_path: Path,
    workers: str,
) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target)])
    settings = {**base_settings, "AUTHPROXY_CONFIG": str(config), "WORKERS": workers}
    del settings["TARGET_HOST"]
    proxy = ProxyProcess(settings)
    starting = threading.Thread(target=proxy.start)
    with ExitStack() as stack:
        stack.push(proxy.__exit__)
        starting.start()
        wait_until("there is a process", lambda: proxy._process is not None)
        process = proxy._process
        assert process is not None
        wait_until("it holds the signal back", lambda: held_back(process))
        write_routes(config, [to(second)])
        process.send_signal(signal.SIGHUP)
        starting.join()
        wait_until(
            "the settings are those of then",
            lambda: proxy.get("/x").status == 200 and len(second.requests) >= 4,
        )


@pytest.mark.slow
def test_a_refused_reload_leaves_nothing_behind(
    launch: Launch, target: Upstream, second: Upstream, tmp_path: Path
) -> None:
    config = tmp_path / "authproxy.yaml"
    replace_file(config, f"target_host: {target.authority}\n".encode())
    port = free_port()
    proxy = launch(
        without=("TARGET_HOST", "IDENTITY_TYPE"),
        AUTHPROXY_CONFIG=str(config),
        METRICS_PORT=str(port),
    )
    assert proxy.get("/x").status == 200
    before = series(port), held_by(proxy)
    refused = f"target_host: {second.authority}\nidentity_type: userassigned\naad_client_id: no\n"
    replace_file(config, refused.encode())
    proxy.signal(signal.SIGHUP)
    wait_until("it is refused", lambda: NOT_RELOADED in proxy.log, deadline=60)
    assert proxy.get("/x").status == 200
    assert series(port) == before[0]
    wait_until("threads and descriptors are those of before", lambda: held_by(proxy) == before[1])


def held_by(proxy: ProxyProcess) -> tuple[int, int]:
    """Return how many descriptors and threads the process has."""
    folder = Path(f"/proc/{proxy.pid}")
    return len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))


def series(port: int) -> set[tuple[str, ...]]:
    """Return the names and labels of what is measured of requests and tokens."""
    return {
        (name, *sorted(labels.values()))
        for name, labels, _ in settled(port).series
        if name.startswith("aad_auth_proxy_")
    }


def test_readiness_does_not_waver(launch: Launch, target: Upstream, tmp_path: Path) -> None:
    config = write_routes(tmp_path / "authproxy.yaml", [to(target)])
    proxy = start(launch, config)
    seen: set[int] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.add(proxy.get("/ready").status)

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(3):
        reload(proxy)
    over.set()
    looking.join()
    assert seen == {200}
    assert json.loads(proxy.get("/ready").body)["status"] == "ready"


def test_no_secret_of_a_route_is_told(
    launch: Launch, target: Upstream, tmp_path: Path, entra: StandInEntra
) -> None:
    settings = application_settings(entra, tmp_path)
    secrets = {"secret": settings.pop("AAD_CLIENT_SECRET"), "header": "s3cret-header"}
    route = to(
        target,
        path="/a",
        aad_client_secret=secrets["secret"],
        override_request_headers={"X-Key": secrets["header"]},
    )
    config = write_routes(tmp_path / "authproxy.yaml", [route])
    proxy = start(launch, config, LOG_LEVEL="debug", **settings)
    assert proxy.get("/a").status == 200
    assert target.only().one("X-Key") == secrets["header"]
    seen = [proxy.get("/ready").body.decode()]
    reload(proxy)
    write_routes(config, [{**route, "aad_client_secret": ["s3cret-list"], "threads": "s3cret-too"}])
    reload(proxy, NOT_RELOADED)
    seen.append(proxy.log)
    for secret in (secrets["secret"], secrets["header"], "s3cret"):
        assert not any(secret in text for text in seen)
