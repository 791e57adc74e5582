"""Whatever stands in place of a file that a setting names is a fault at the start, not a wait."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from authproxy.errors import SettingsError
from authproxy.identity.credentials import FetchError, TokenFetcher
from authproxy.settings import Settings, load_settings
from tests.support.process import clean_environment, free_port
from tests.support.programs import completed

SIGNED = {"INBOUND_JWT_ISSUER": "i", "INBOUND_JWT_AUDIENCE": "a", "INBOUND_JWT_SUBJECTS": "s"}
FROM_URL = {**SIGNED, "INBOUND_JWKS_URL": "https://keys.example.com"}
APPLICATION = {"IDENTITY_TYPE": "aadapplication", "AAD_CLIENT_ID": "c", "AAD_TENANT_ID": "t"}
WORKLOAD = {**APPLICATION, "IDENTITY_TYPE": "workloadidentity"}
TLS = {"LISTENING_TLS_CERTIFICATE_FILE": __file__}
TARGET = {"TARGET_HOST": "x.metrics.ingest.monitor.azure.com"}

#: Each setting that names a file, and what else it needs.
SETTINGS = {
    "AUTHPROXY_CONFIG": {},
    "TARGET_CA_FILE": {},
    "INBOUND_TOKEN_FILE": {},
    "DEBUG_TOKEN_FILE": {"METRICS_PORT": "9090"},
    "INBOUND_JWKS_FILE": SIGNED,
    "INBOUND_JWKS_CA_FILE": FROM_URL,
    "INBOUND_JWKS_TOKEN_FILE": FROM_URL,
    "AAD_CLIENT_SECRET_FILE": APPLICATION,
    "AAD_CLIENT_CERTIFICATE_PATH": APPLICATION,
    "AAD_CLIENT_CERTIFICATE_KEY_PATH": {**APPLICATION, "AAD_CLIENT_CERTIFICATE_PATH": __file__},
    "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE": APPLICATION,
    "LISTENING_TLS_CERTIFICATE_FILE": {},
    "LISTENING_TLS_KEY_FILE": TLS,
    "LISTENING_TLS_CLIENT_CA_FILE": TLS,
    "AZURE_FEDERATED_TOKEN_FILE": WORKLOAD,
    "AAD_FEDERATED_TOKEN_FILE": WORKLOAD,
    "AZURE_KUBERNETES_CA_FILE": {**WORKLOAD, "AZURE_KUBERNETES_TOKEN_PROXY": "https://10.0.0.1"},
    "OTEL_EXPORTER_OTLP_CERTIFICATE": {},
    "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY": {},
}
ODD = {"a named pipe": "pipe", "a directory": ".", "a device": "/dev/zero"}


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("what", ODD)
def test_what_is_no_file_is_a_fault(pipe: Path, setting: str, what: str) -> None:
    environ = {**TARGET, **SETTINGS[setting], setting: str(pipe.parent / ODD[what])}
    with pytest.raises(SettingsError) as caught:
        load_settings({}, environ, serving=False)
    faults = {fault.setting: fault for fault in caught.value.faults}
    assert f"is {what}" in faults[setting].problem


def test_every_setting_that_names_a_file_is_tried() -> None:
    named = {name for name in Settings.declared if name.endswith(("_FILE", "_PATH"))}
    assert named <= SETTINGS.keys()


@pytest.mark.parametrize("command", ["serve", "check", "settings"])
@pytest.mark.parametrize(
    "line",
    ["echo 'target_host: h' | {} --config /dev/stdin", "{} --config <(echo 'target_host: h')"],
    ids=["standard input", "process substitution"],
)
def test_who_names_a_pipe_for_the_settings_file_is_told_what_to_do(
    tmp_path: Path, command: str, line: str
) -> None:
    program = f"{sys.executable} -m authproxy {command}"
    done = completed(["bash", "-c", line.format(program)], clean_environment(str(tmp_path)))
    assert done.returncode == 2
    assert "the settings file is a named pipe" in done.stderr
    assert "`command > settings.yaml`" in done.stderr


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSLKEYLOGFILE"])
def test_files_that_the_environment_names_are_no_pipes(
    base_settings: dict[str, str], pipe: Path, variable: str
) -> None:
    environment = clean_environment(str(pipe.parent)) | base_settings
    environment |= {"LISTENING_PORT": str(free_port()), variable: str(pipe)}
    done = completed([sys.executable, "-m", "authproxy", "serve"], environment)
    assert done.returncode == 2
    assert re.search(
        f"{variable}='{pipe}': (the file is a named pipe|it is no regular)", done.stderr
    )


@pytest.mark.parametrize(
    "variable", ["AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_CERTIFICATE_PATH"]
)
def test_a_fetch_waits_for_no_pipe_that_a_variable_of_the_platform_names(
    pipe: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(pipe))
    settings = load_settings({}, TARGET, serving=False).settings
    with pytest.raises(FetchError, match=f"{variable}=.*: the file is a named pipe"):
        TokenFetcher(settings)()
