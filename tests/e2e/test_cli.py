"""The commands as a user runs them: what is printed, and the exit status."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import authproxy
from authproxy.cli.commands import cli
from authproxy.settings import Settings
from tests.support.process import clean_environment
from tests.support.programs import LIMIT, completed

MINIMAL = {"TARGET_HOST": "metrics.example.com", "AUDIENCE": "https://a", "LISTENING_PORT": "1"}


def run(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "authproxy", *arguments],
        env={**clean_environment(str(home)), **environ},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize("command", ["serve", "check", "settings"])
def test_faults_are_listed_a_line_each_and_end_the_command_with_2(tmp_path, command):
    done = run(
        tmp_path,
        command,
        "--threads",
        "many",
        TARGET_HOST="https://user:s3cret@a",
        LOG_LEVEL="loud",
        AAD_CLIENT_SECRET="s3cret\n",
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("authproxy: ")
    named = [line.split("=")[0].split(":")[0].strip() for line in lines[1:-1]]
    listener = ["LISTENING_PORT"] if command == "serve" else []
    assert named == ["TARGET_HOST", "AAD_CLIENT_SECRET", *listener, "THREADS", "LOG_LEVEL"]
    assert lines[0] == f"authproxy: {len(named)} faults in the settings"
    assert "authproxy serve --help" in lines[-1]
    assert "s3cret" not in done.stderr


def test_faults_end_serve_before_it_opens_a_socket(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "serve", **{**MINIMAL, "LISTENING_PORT": port, "WORKERS": "0"})
    # Bound first, it would have been the port that is complained of, with 1.
    assert done.returncode == 2
    assert "WORKERS='0'" in done.stderr
    assert port not in done.stderr


SOCKETS_FORBIDDEN = """
import sys
def forbid(event, arguments):
    if event.startswith("socket."):
        raise SystemExit("a socket was touched: " + event)
sys.addaudithook(forbid)
from authproxy.cli.commands import main
sys.argv[0] = "authproxy"
main()
"""


def test_no_socket_is_even_made_while_settings_are_read(tmp_path):
    done = completed(
        [sys.executable, "-c", SOCKETS_FORBIDDEN, "serve"],
        {**clean_environment(str(tmp_path)), **MINIMAL, "THREADS": "0"},
    )
    assert (done.returncode, done.stderr.count("fault in the settings")) == (2, 1)


HEAVY = ("azure", "cryptography", "flask", "waitress", "requests")
WHAT_WAS_IMPORTED = """
import sys
from authproxy.cli.commands import cli
try:
    cli(["serve"])
except SystemExit as end:
    print(end.code, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_faults_are_told_before_anything_heavy_is_loaded(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WHAT_WAS_IMPORTED],
        env=clean_environment(str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    status, *modules = done.stdout.split()
    assert status == "2"
    assert not set(HEAVY).intersection(modules)


def test_settings_prints_each_with_its_value_and_origin_and_masks_secrets(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("workers: 3\n")
    done = run(
        tmp_path,
        "settings",
        "--threads=7",
        "--config",
        str(config),
        **MINIMAL,
        AZURE_CLIENT_ID="abc",
        AAD_CLIENT_SECRET="s3cret",
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
    assert list(printed) == list(Settings.declared)
    assert printed["THREADS"] == ["7", "option"]
    assert printed["WORKERS"] == ["3", "file"]
    assert printed["TARGET_HOST"] == ["metrics.example.com", "environment"]
    assert printed["AAD_CLIENT_ID"] == ["abc", "environment (AZURE_CLIENT_ID)"]
    assert printed["AAD_CLIENT_SECRET"] == ["***", "environment"]
    assert printed["AAD_TENANT_ID"] == ["-", "default"]
    assert printed["TARGET_POOL_SIZE"] == ["7", "default (from THREADS)"]
    assert "s3cret" not in done.stdout


def test_settings_prints_json_for_scripts(tmp_path):
    done = run(tmp_path, "settings", "--json", **MINIMAL, AAD_CLIENT_SECRET="s3cret")
    printed = json.loads(done.stdout)
    assert printed["AUDIENCE"] == {"value": "https://a/.default", "origin": "environment"}
    assert printed["AAD_CLIENT_SECRET"]["value"] == "***"


UNFIT = {
    **MINIMAL,
    "TARGET_HOST": "ws.eastus.prometheus.monitor.azure.com",
    "AUDIENCE": "https://monitor.azure.com",
}


def test_settings_warn_of_an_audience_that_the_targets_host_does_not_take(tmp_path):
    said = "takes tokens for https://prometheus.monitor.azure.com only"
    done = run(tmp_path, "settings", **UNFIT)
    assert done.returncode == 0
    assert said in done.stdout.splitlines()[-1]
    [warning] = json.loads(run(tmp_path, "settings", "--json", **UNFIT).stdout)["warnings"]
    assert said in warning
    fits = {**UNFIT, "AUDIENCE": "https://prometheus.monitor.azure.com/"}
    assert "Warning" not in run(tmp_path, "settings", **fits).stdout


def test_the_audience_follows_the_targets_host_or_the_fault_names_the_likely_one(tmp_path):
    lone = {**MINIMAL, "AUDIENCE": ""}
    vault = {**lone, "TARGET_HOST": "a-vault.vault.azure.net"}
    shown = json.loads(run(tmp_path, "settings", "--json", **vault).stdout)["AUDIENCE"]
    assert shown == {
        "value": "https://vault.azure.net/.default",
        "origin": "default (from TARGET_HOST)",
    }
    done = run(tmp_path, "settings", **{**lone, "TARGET_HOST": "a.servicebus.windows.net"})
    assert done.returncode == 2
    assert "probably https://servicebus.azure.net" in done.stderr


@pytest.mark.parametrize("command", ["serve", "check", "settings"])
def test_each_setting_but_a_secret_has_an_option_with_its_meaning(command):
    result = CliRunner().invoke(  # so wide that no word is cut at a hyphen
        cli, [command, "--help"], terminal_width=1000, max_content_width=1000
    )
    assert result.exit_code == 0
    words = " ".join(result.output.split())
    # Lines may be broken within a word, at a hyphen.
    letters = words.replace(" ", "")
    for one in Settings.declared.values():
        option = f" --{one.name.replace('_', '-')} "
        told = f"{option}VALUE {one.doc}".replace(" ", "")
        assert letters.count(told) == (0 if one.kind.secret else 1), one.name
        assert one.kind.secret == (option not in words), one.name


def test_an_unknown_option_ends_with_2(tmp_path):
    done = run(tmp_path, "serve", "--trheads", "7")
    assert done.returncode == 2
    assert "--threads" in done.stderr


def test_a_secret_cannot_be_given_where_a_process_list_shows_it(tmp_path):
    done = run(tmp_path, "settings", "--aad-client-secret", "s3cret", **MINIMAL)
    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_version_is_the_packages(tmp_path):
    done = run(tmp_path, "--version")
    assert done.stdout.split()[-1] == authproxy.__version__


def test_a_port_in_use_is_no_fault_of_the_settings_and_ends_with_1(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = {**MINIMAL, "LISTENING_PORT": port, "LISTENING_HOST": "127.0.0.1"}
        done = run(tmp_path, "serve", **environ)
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_warns_at_start_of_an_audience_that_the_targets_host_does_not_take(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = {**UNFIT, "LISTENING_PORT": str(taken.getsockname()[1])}
        done = run(tmp_path, "serve", **environ)
    [line] = [line for line in done.stderr.splitlines() if "another audience" in line]
    assert "level=warning" in line
    assert "takes tokens for https://prometheus.monitor.azure.com only" in line
    assert "misspelt" not in done.stderr


def test_serve_and_settings_warn_of_variables_that_are_probably_misspelt(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = {**MINIMAL, "LISTENING_PORT": str(taken.getsockname()[1]), "TARGETHOST": "s3cret"}
        done = run(tmp_path, "serve", **environ)
    [line] = [line for line in done.stderr.splitlines() if "probably misspelt" in line]
    assert "level=warning" in line
    assert line.endswith(" Variable=TARGETHOST Setting=TARGET_HOST")
    assert "s3cret" not in done.stderr
    warning = "TARGETHOST: no setting has that name. Did you mean TARGET_HOST?"
    printed = run(tmp_path, "settings", "--json", **environ).stdout
    assert json.loads(printed)["warnings"] == [warning]


def test_serve_logs_every_setting_at_start_as_the_retired_proxy_did(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = {**MINIMAL, "LISTENING_PORT": port, "LISTENING_HOST": "127.0.0.1"}
        done = run(tmp_path, "serve", **environ, AAD_CLIENT_SECRET="s3cret")
    line = next(line for line in done.stderr.splitlines() if "Configuration settings" in line)
    assert 'level=info msg="Configuration settings loaded:"' in line
    for variable in Settings.declared:
        assert f" {variable}=" in line
    assert 'AAD_CLIENT_SECRET="***"' in line
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(("allowed", "warnings"), [("true", 1), ("false", 0)])
def test_serve_warns_of_a_target_that_gets_tokens_in_clear(tmp_path, allowed, warnings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = {
            **MINIMAL,
            "TARGET_HOST": "http://metrics.example.com",
            "TARGET_ALLOW_HTTP": allowed,
            "LISTENING_PORT": str(taken.getsockname()[1]),
            "LISTENING_HOST": "127.0.0.1",
        }
        done = run(tmp_path, "serve", **environ)
    assert done.stderr.count('level=warning msg="Tokens travel in clear') == warnings


BLOCKS = """
import sys
from authproxy import settings
from authproxy.cli import commands
def wait(*_, **__):
    print("waiting", flush=True)
    import threading
    threading.Event().wait()
settings.load_settings = wait
sys.argv = ["authproxy", "settings"]
commands.main()
"""


def test_control_c_ends_a_command_without_a_traceback(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKS],
        env=clean_environment(str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert "Traceback" not in errors
