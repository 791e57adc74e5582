"""Tools that print tokens are bounded too: in time, in output, and in what is told of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from authproxy.identity.credentials import FetchError
from tests.support.endpoints import whole
from tests.support.fetching import bound_fetches, fetcher, forget_identities, refused
from tests.support.process import wait_until

AUDIENCE = "https://monitor.azure.com"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_identities(monkeypatch)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    bound_fetches(monkeypatch, seconds=1.0)


def token(**changes: object) -> bytes:
    now = int(time.time())
    content = {"access_token": "the-token", "token_type": "Bearer", "resource": AUDIENCE}
    return whole(
        json.dumps({**content, "expires_in": 3600, "expires_on": now + 3600, **changes}).encode()
    )


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], None]:
    """Put a tool on the PATH that runs these shell lines."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def install(name: str, lines: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)

    return install


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", ["azurecli", "default"])
@pytest.mark.parametrize(
    "lines",
    [
        "sleep 1000",
        "sleep 1000 &\nwait",
        "exec sleep 1000 >&-",
        "while :; do printf .; sleep 0.1; done",
    ],
)
def test_a_tool_that_does_not_end_is_ended_with_all_that_it_started(
    tool: Callable[[str, str], None], tmp_path: Path, kind: str, lines: str
) -> None:
    tool("az", lines)
    error = refused(fetcher(kind))
    assert error.detail == "timed out: no whole response within 1 s"
    wait_until("its processes are gone", lambda: not started_with(tmp_path))


def started_with(folder: Path) -> list[str]:
    """Return the processes in whose environment the PATH begins in this folder."""
    path, found = f"PATH={folder}/".encode(), []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            if path in environment.read_bytes():
                found.append(environment.parent.name)
    return found


@pytest.mark.parametrize("stream", [1, 2])
def test_a_tool_that_writes_without_end_is_ended(
    tool: Callable[[str, str], None], stream: int
) -> None:
    tool("az", f"exec yes >&{stream}")
    error = refused(fetcher("azurecli"))
    assert error.explanation is not None
    assert error.explanation.code == "IdentityResponseTooLarge"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('echo \'{"accessToken": "eyJ-secret"}\'', "Unexpected output"),
        ('echo \'{"accessToken": "eyJ-secret", "expires_on": 1e999}\'', "Unexpected output"),
        ("echo 'accessToken'", "Unexpected output"),
        ("printf '[%.0s' $(seq 100000)", "Unexpected output"),
        ("echo 'AADSTS700082: expired, az login' >&2; exit 1", "AADSTS700082"),
        ("exit 3", "status 3"),
        ("kill -9 $$", "status -9"),
    ],
)
def test_whatever_else_a_tool_does_is_told_without_its_token(
    tool: Callable[[str, str], None], lines: str, told: str
) -> None:
    tool("az", lines)
    error = refused(fetcher("azurecli"))
    assert told in f"{error}"
    assert "eyJ-secret" not in f"{error}"


def test_a_tool_that_cannot_be_executed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "az").write_bytes(b"\0\0")
    (tmp_path / "az").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Failed to execute" in refused(fetcher("azurecli")).detail


def test_an_old_azure_cli_states_a_local_time(tool: Callable[[str, str], None]) -> None:
    expires = time.time() + 3600
    local = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.localtime(expires))
    tool("az", f"echo '{json.dumps({'accessToken': 'old', 'expiresOn': local})}'")
    fetched = fetcher("azurecli")(None)
    assert fetched.value == "old"
    assert fetched.expires_on == pytest.approx(expires, abs=2)


def test_by_default_the_developer_cli_is_asked_last(
    tool: Callable[[str, str], None], tmp_path: Path
) -> None:
    expires = time.time() + 3600
    utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    tool("az", "echo 'Please run az login' >&2; exit 1")
    output = json.dumps({"token": "of-azd", "expiresOn": utc})
    tool("azd", f"echo $@ > {tmp_path}/arguments\necho '{output}'")
    fetched = fetcher("default")(None)
    assert fetched.value == "of-azd"
    assert fetched.expires_on == pytest.approx(expires, abs=2)
    assert f"--scope {AUDIENCE}/.default" in (tmp_path / "arguments").read_text()


def test_a_tool_is_not_asked_to_answer_a_claims_challenge(
    tool: Callable[[str, str], None],
) -> None:
    tool("az", "exit 1")
    with pytest.raises(FetchError, match="claims challenge"):
        fetcher("azurecli")('{"access_token": {}}')
