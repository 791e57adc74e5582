"""`authproxy check`: what a person reads, and the exit status that a script does."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.check import describe, run_check
from authproxy.credentials import FetchedToken
from authproxy.demo.entra import StandInEntra
from authproxy.settings import load_settings
from tests.support.identity import SECRET, application_settings, identity_settings

TARGET = {"TARGET_HOST": "target.example.com"}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandInEntra]:
    with StandInEntra() as entra:
        yield entra


def check(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Run the check with these variables in the environment: its status and output."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    lines: list[str] = []
    status = run_check(load_settings(environ=environ, serving=False).settings, lines.append)
    return status, "\n".join(lines)


def test_a_token_is_told_by_its_claims_and_never_shown(
    stand_in: StandInEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, output = check({**TARGET, **identity_settings(stand_in)}, monkeypatch)
    issued = stand_in.issued[-1]
    assert status == 0
    for claim in ("appid", "oid", "tid", "aud"):
        assert f"{claim}: {issued.claims[claim]}" in output
    assert "(in 59 min" in output
    for part in issued.value.split("."):
        assert part not in output


def test_settings_and_token_are_told_apart(
    stand_in: StandInEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, output = check({**TARGET, **identity_settings(stand_in)}, monkeypatch)
    settings, token = [line for line in output.splitlines() if not line.startswith(" ")]
    assert "IDENTITY_TYPE=systemassigned" in settings
    assert "https://target.example.com" in settings
    assert "https://monitor.azure.com/.default" in token


def test_a_refusal_is_explained_with_cause_mend_and_entras_message(
    stand_in: StandInEntra, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ = {**TARGET, **application_settings(stand_in, tmp_path)}
    environ["AAD_CLIENT_SECRET"] = wrong = "quite another secret"
    status, output = check(environ, monkeypatch)
    assert status == 1
    assert "Cause: The client secret is wrong (AADSTS7000215)." in output
    assert "Mend: Put the secret's value" in output
    assert "Message: Authentication failed: AADSTS7000215: " in output
    assert wrong not in output
    assert SECRET not in output


def test_an_error_without_explanation_is_told_as_it_is(
    stand_in: StandInEntra, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ = {**TARGET, **identity_settings(stand_in)}
    stand_in.fail_with(418, {"statusCode": 418, "message": "a teapot"})
    status, output = check(environ, monkeypatch)
    stand_in.recover()
    assert status == 1
    assert "a teapot" in output
    assert "Cause" not in output


def test_the_command_tells_of_a_failure_once_and_exits_with_1(tmp_path: Path) -> None:
    environ = {**TARGET, "AUDIENCE": "api://metrics", "IDENTITY_TYPE": "azurecli"}
    environ["PATH"] = str(tmp_path)
    command = [sys.executable, "-m", "authproxy", "check"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Cause: The Azure CLI is not installed" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "\u2713"), ("ascii", "ok:")])
def test_the_tick_becomes_a_word_where_it_cannot_be_shown(
    stand_in: StandInEntra, monkeypatch: pytest.MonkeyPatch, encoding: str, mark: str
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    _, output = check({**TARGET, **identity_settings(stand_in)}, monkeypatch)
    assert output.startswith(mark)
    output.encode(encoding)


def jwt(payload: bytes) -> str:
    middle = base64.urlsafe_b64encode(payload).decode().rstrip("=")
    return f"e30.{middle}.signature"


def lines(claims: Any, expires_in: float = 3599) -> list[str]:
    return describe(FetchedToken(jwt(json.dumps(claims).encode()), 1000 + expires_in), 1000)


def test_claims_are_shown_where_they_are_present_and_in_one_order() -> None:
    assert lines({"roles": ["Reader", "Writer"], "azp": "a", "aud": "b", "secret": "x"}) == [
        "azp: a",
        "aud: b",
        "roles: Reader, Writer",
        "exp: 1970-01-01T01:16:39Z (in 59 min 59 s)",
    ]


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.b", "..", jwt(b"[]"), jwt(b"\xff")])
def test_an_opaque_token_is_said_to_be_one(token: str) -> None:
    told = describe(FetchedToken(token, 4600), 1000)
    assert "opaque" in told[0]
    assert "(in 60 min 0 s)" in told[1]


def test_a_claim_cannot_move_the_cursor() -> None:
    assert lines({"appid": "\x1b[2Jx\n"})[0] == "appid: ?[2Jx?"


@given(st.text())
def test_any_token_can_be_described(value: str) -> None:
    describe(FetchedToken(value, 1.0), 0.0)
    describe(FetchedToken(f"a.{value}.b", 1.0), 0.0)
