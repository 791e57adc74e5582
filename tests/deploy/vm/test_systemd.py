"""deploy/systemd and docs/systemd.md on a machine of their own, under a real systemd."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.vm.machine import Machine
from tests.support.actions import raw
from tests.support.client_certificates import client_authority
from tests.support.commands import commands
from tests.support.heaps import heaps_in
from tests.support.identity import AUDIENCE, identity_settings
from tests.support.process import wait_until
from tests.support.source import ROOT
from tests.support.stand_ins.applications import Application
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import OK, Gate, Upstream
from tests.support.wire import Client, Response, exchange, message

pytestmark = [pytest.mark.vm, pytest.mark.timeout(240)]

Serve = Callable[..., None]

FOLDER = ROOT / "deploy" / "systemd"
PORT = ("127.0.0.1", 8081)
PAGE = "docs/systemd.md"


def ask(path: str = "/x", *, body: bytes = b"") -> Response:
    method = "POST" if body else "GET"
    return exchange(PORT, message(f"{method} {path}", "Connection: close", body=body))


def main_pid(machine: Machine) -> int:
    return int(machine.property("MainPID"))


def test_the_unit_becomes_ready_and_serves(
    serve: Serve, installed: Machine, target: Upstream, shared_entra: StandInEntra
) -> None:
    serve()
    assert installed.property("ActiveState") == "active"
    assert re.fullmatch(r"Ready\. The token is valid until .*Z\.", installed.property("StatusText"))
    assert ask("/a%2Fb").status == 200
    assert ask("/large", body=b"x" * 2_000_000).status == 200, "a body that waits in /tmp"
    small, large = target.wait_for_requests(2)
    assert small.one("Authorization") == f"Bearer {shared_entra.issued[-1].value}"
    assert len(large.body) == 2_000_000
    status = installed.run(f"cat /proc/{main_pid(installed)}/status").stdout
    assert int(re.search(r"^Uid:\s+(\d+)", status, re.M)[1]) > 60_000  # type: ignore[index]
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    assert re.search(r"^Seccomp:\s+2$", status, re.M)
    assert heaps_in(installed.run(f"cat /proc/{main_pid(installed)}/maps").stdout) == 2


def test_it_is_bounded_and_a_large_body_waits_on_disk(
    serve: Serve, installed: Machine, target: Upstream
) -> None:
    gate = Gate()
    target.respond(raw(gate, OK))
    serve()
    bounds = {name: installed.property(name) for name in ("MemoryHigh", "MemoryMax", "TasksMax")}
    assert bounds == {"MemoryHigh": "402653184", "MemoryMax": "536870912", "TasksMax": "512"}
    with Client(PORT) as client:
        client.send(message("POST /large", body=b"x" * 2_000_000))
        target.wait_for_requests(1)
        open_files = installed.run(f"ls -l /proc/{main_pid(installed)}/fd").stdout
        gate.open()
        assert client.receive().status == 200
    assert re.search(r"-> /var/tmp/\S+ \(deleted\)$", open_files, re.M), open_files


def test_stopping_and_restarting_leave_a_clean_exit(
    serve: Serve, installed: Machine, target: Upstream
) -> None:
    serve()
    since = installed.cursor()
    installed.run("systemctl restart authproxy")
    assert ask("/health").status == 200
    installed.run("systemctl stop authproxy")
    assert installed.property("ActiveState") == "inactive"
    assert installed.property("Result") == "success"
    assert installed.property("ExecMainStatus") == "0"
    assert installed.property("NRestarts") == "0"
    log = installed.journal(since, "--unit=authproxy")
    assert log.count('msg="Stopped"') == 2
    assert "Traceback" not in log


def test_the_journal_has_each_line_at_its_priority(
    serve: Serve, installed: Machine, target: Upstream, entra: StandInEntra
) -> None:
    since = installed.cursor()
    entra.fail_with(500)
    serve(ready=False, **identity_settings(entra))
    wait_until("it is refused", lambda: "identity endpoint" in installed.property("StatusText"))
    assert installed.property("ActiveState") == "active"
    assert ask("/x").status == 503
    entra.recover()
    wait_until("it has a token", lambda: "Ready." in installed.property("StatusText"))
    assert ask("/x").status == 200
    target.wait_for_requests(1)
    installed.run("systemctl stop authproxy; journalctl --sync")
    own = "--identifier=authproxy"
    priority = {
        words: {
            entry["PRIORITY"]
            for entry in installed.entries(since, own)
            if words in entry["MESSAGE"]
        }
        for words in ("Failed to refresh token", "Successfully sent request", "Listening")
    }
    assert priority == {
        "Failed to refresh token": {"3"},
        "Successfully sent request": {"6"},
        "Listening": {"6"},
    }
    errors = installed.journal(since, own, "--priority=err").splitlines()
    assert errors
    assert all(line.startswith('time="') for line in errors)


def test_a_fault_in_the_settings_is_told_and_not_tried_again(
    serve: Serve, installed: Machine
) -> None:
    since = installed.cursor()
    with pytest.raises(AssertionError, match="systemctl start authproxy"):
        serve(IDENTITY_TYPE="nobody")
    assert installed.property("ActiveState") == "failed"
    assert installed.property("ExecMainStatus") == "2"
    assert "IDENTITY_TYPE" in installed.journal(since, "--unit=authproxy", "--priority=err")


def test_the_page_checks_the_settings(
    serve: Serve, installed: Machine, shared_entra: StandInEntra
) -> None:
    serve()
    check, as_the_unit, enable = commands(PAGE, "Set up").split("\n", 2)
    for command in (check, as_the_unit):
        output = installed.run(command).stdout
        assert AUDIENCE in output
    installed.run(enable)
    assert installed.run("systemctl is-enabled authproxy").stdout == "enabled\n"


def test_a_drain_gets_the_time_that_the_settings_grant(
    serve: Serve, installed: Machine, target: Upstream
) -> None:
    gate = Gate()
    target.respond(raw(gate, OK))
    serve(drop_in="TimeoutStopSec=1", SHUTDOWN_GRACE_SECONDS="20")
    with Client(PORT) as client:
        client.send(message("GET /slow"))
        target.wait_for_requests(1)
        installed.run("systemctl stop --no-block authproxy")
        wait_until("it drains", lambda: "Draining" in installed.property("StatusText"))
        threading.Event().wait(2.5)
        gate.open()
        assert client.receive().status == 200
    wait_until("it ends", lambda: installed.property("ActiveState") == "inactive")
    assert installed.property("Result") == "success"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_that_hangs_is_restarted_and_says_where_it_hung(
    serve: Serve, installed: Machine, target: Upstream, workers: str
) -> None:
    since = installed.cursor()
    serve(drop_in="WatchdogSec=3", WORKERS=workers)
    pid = main_pid(installed)
    worker = installed.run(f"cat /proc/{pid}/task/{pid}/children").stdout.split()
    installed.run(f"kill -STOP {worker[0] if workers == '2' else pid}")
    wait_until("it is restarted", lambda: installed.property("NRestarts") == "1")
    wait_until("it is ready", lambda: "Ready." in installed.property("StatusText"))
    assert main_pid(installed) != pid
    assert ask().status == 200
    log = installed.journal(since, "--unit=authproxy")
    assert "Watchdog timeout" in log
    assert "main_loop.py" in log


def test_no_connection_is_lost_in_a_restart_with_the_socket(
    serve: Serve, installed: Machine, target: Upstream
) -> None:
    serve()
    environment = installed.root / "etc/authproxy/authproxy.env"
    kept = [line for line in environment.read_text().splitlines() if "LISTENING_PORT" not in line]
    environment.write_text("\n".join(kept))
    installed.run(commands(PAGE, "Restarts without a failed request"))
    statuses: list[int | str] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set() and len(statuses) < 10_000:
            try:
                statuses.append(ask("/ready").status)
            except OSError as error:
                statuses.append(repr(error))

    before = main_pid(installed)
    thread = threading.Thread(target=load)
    thread.start()
    try:
        wait_until("requests flow", lambda: 200 in statuses)
        installed.run("systemctl restart authproxy")
        served = len(statuses)
        wait_until("requests flow again", lambda: 200 in statuses[served:])
    finally:
        done.set()
        thread.join()
    assert main_pid(installed) != before
    # 503: not yet with a token, or draining. None was refused or cut.
    assert set(statuses) <= {200, 503}


def test_a_reload_takes_changed_routes_and_keeps_those_before_where_they_have_faults(
    serve: Serve, installed: Machine, target: Upstream
) -> None:
    variable, path = re.findall(
        r"^#(AUTHPROXY_CONFIG)=(.+)$", (FOLDER / "authproxy.env").read_text(), re.M
    )[0]

    def write(text: str) -> None:
        installed.write(path, text, 0o644)

    def route(prefix: str) -> str:
        return f"routes:\n  - path: {prefix}\n    target_host: {target.authority}\n"

    write(route("/before"))
    serve(without=("TARGET_HOST",), **{variable: path})
    assert [ask(each).status for each in ("/before/x", "/after/x")] == [200, 404]
    pid, since = main_pid(installed), installed.cursor()
    write(route("/after"))
    installed.run("systemctl reload authproxy")
    wait_until("it is reloaded", lambda: ask("/after/x").status == 200)
    assert ask("/before/x").status == 404
    write("routes: [")
    installed.run("systemctl reload authproxy")
    wait_until(
        "the fault is told",
        lambda: "Settings not reloaded" in installed.journal(since, "--unit=authproxy"),
    )
    assert ask("/after/x").status == 200
    assert main_pid(installed) == pid
    assert installed.property("NRestarts") == "0"


def test_everything_that_can_be_turned_on_works_within_the_unit(
    serve: Serve, installed: Machine, target: Upstream
) -> None:
    serve(
        without=("LISTENING_PORT",),
        LISTENING_SOCKET="/run/authproxy/proxy.sock",
        WORKERS="2",
        METRICS_PORT="8090",
        # Nobody is there: gRPC is loaded all the same.
        OTEL_GRPC_ENDPOINT="127.0.0.1:4317",
    )
    path = str(Path("/proc", str(installed.leader), "root", "run/authproxy/proxy.sock"))
    assert exchange(path, message("GET /x", "Connection: close")).status == 200

    def counted() -> bool:
        page = exchange(("127.0.0.1", 8090), message("GET /metrics", "Connection: close"))
        return b"aad_auth_proxy_requests_total" in page.body

    wait_until("the request is counted", counted)
    assert "Traceback" not in installed.journal("--unit=authproxy")


def test_a_certificate_comes_as_a_credential(
    serve: Serve, installed: Machine, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    certificate = client_authority().issue()
    application = entra.register(Application(certificates=(certificate.certificate,)))
    variables = entra.application_environment(application, tmp_path / "entra-ca.pem")
    variables["REQUESTS_CA_BUNDLE"] = "/etc/authproxy/entra-ca.pem"
    installed.write(variables["REQUESTS_CA_BUNDLE"], (tmp_path / "entra-ca.pem").read_text())
    (installed.root / "root/client.pem").write_bytes(certificate.pem())
    serve()  # The page begins with a unit that runs.
    environment = installed.root / "etc/authproxy/authproxy.env"
    identity = {"IDENTITY_TYPE": "aadApplication", **variables}
    kept = [line for line in environment.read_text().splitlines() if "IDENTITY" not in line]
    kept += [f"{name}={value}" for name, value in identity.items()]
    environment.write_text("\n".join(kept))
    installed.run(commands(PAGE, "Certificates and secrets"))
    wait_until("it has a token", lambda: "Ready." in installed.property("StatusText"))
    assert ask().status == 200
    assert target.only().one("Authorization") == f"Bearer {entra.issued[-1].value}"
    assert (installed.root / "etc/authproxy/client.pem").stat().st_mode & 0o777 == 0o600


def test_an_upgrade_and_the_way_back(serve: Serve, installed: Machine, target: Upstream) -> None:
    serve()
    old = main_pid(installed)
    installed.run(commands(PAGE, "Upgrade"))
    executable = "readlink /proc/{}/cwd; tr '\\0' ' ' < /proc/{}/cmdline"
    new = main_pid(installed)
    assert new != old
    assert "/opt/authproxy-0.2.0/" in installed.run(executable.format(new, new)).stdout
    assert ask("/health").status == 200
    installed.run(commands(PAGE, "Roll back"))
    back = main_pid(installed)
    assert "/opt/authproxy-0.1.0/" in installed.run(executable.format(back, back)).stdout
    assert ask("/health").status == 200


def test_a_second_instance_has_settings_of_its_own(
    serve: Serve, installed: Machine, target: Upstream
) -> None:
    serve()
    installed.run(commands(PAGE, "Several proxies"))
    first = installed.root / "etc/authproxy/authproxy.env"
    second = first.with_name("authproxy@query.env")
    second.write_text(first.read_text().replace("8081", "8082"))
    installed.run("systemctl start authproxy@query")
    try:
        assert (
            exchange(("127.0.0.1", 8082), message("GET /health", "Connection: close")).status == 200
        )
        assert ask("/health").status == 200
    finally:
        installed.run("systemctl stop authproxy@query")
        assert installed.property("Result", "authproxy@query.service") == "success"


def test_the_units_are_sound_and_confined(installed: Machine) -> None:
    installed.run("install -m 644 -t /etc/systemd/system systemd/authproxy.socket")
    checked = installed.run("systemd-analyze verify authproxy.service authproxy.socket")
    assert checked.stdout == ""
    installed.run("systemd-analyze security --threshold=20 authproxy.service")


def test_the_file_runs_by_itself_in_an_empty_folder(
    installed: Machine, base_settings: dict[str, str], target: Upstream
) -> None:
    installed.write(
        "/etc/authproxy/target-ca.pem", Path(base_settings["TARGET_CA_FILE"]).read_text()
    )
    settings = {**base_settings, "TARGET_CA_FILE": "/etc/authproxy/target-ca.pem"}
    options = " ".join(f"--setenv={name}={value}" for name, value in settings.items())
    installed.run("install -D -m 755 -t /srv/alone authproxy.pyz; chown -R nobody: /srv/alone")
    alone = f"systemd-run --quiet --collect --uid=nobody --setenv=HOME=/srv/alone {options}"
    alone += " --property=WorkingDirectory=/srv/alone"
    checked = installed.run(f"{alone} --pipe --wait /srv/alone/authproxy.pyz check")
    assert AUDIENCE in checked.stdout
    started = f"{alone} --unit=alone --setenv=LISTENING_PORT=8081 /srv/alone/authproxy.pyz serve"
    installed.run(started)
    try:

        def served() -> bool:
            try:
                return ask("/x").status == 200
            except OSError:
                return False

        wait_until("it serves", served)
        assert target.requests
    finally:
        installed.run("systemctl stop alone")
