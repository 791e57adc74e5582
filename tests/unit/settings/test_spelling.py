"""Which names of an environment are taken for misspelt settings, and which are not."""

from __future__ import annotations

from itertools import product

import pytest
from azure.identity._constants import EnvironmentVariables
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk import environment_variables as otel

from authproxy.errors import SettingsError
from authproxy.settings import Settings, load_settings
from authproxy.settings.spelling import misspelt, nearest

OTHERS = {other for one in Settings.declared.values() for other in one.also}


def near(*names: str) -> dict[str, str]:
    return misspelt(dict.fromkeys(names, "a value"), Settings.declared, OTHERS)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AAD_CLIENTID", "AAD_CLIENT_ID"),
        ("AAD_CLIENT_SECRE", "AAD_CLIENT_SECRET"),
        ("AZURE_TENANTID", "AZURE_TENANT_ID"),
        ("TARGETHOST", "TARGET_HOST"),
        ("TARGET-HOST", "TARGET_HOST"),
        ("target_host", "TARGET_HOST"),
        ("BACKEND_HOST", "TARGET_HOST"),
        ("LISTEN_PORT", "LISTENING_PORT"),
        ("METRIC_PORT", "METRICS_PORT"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("WORKER", "WORKERS"),
        ("MAX_BODY_BYTES", "MAX_REQUEST_BODY_BYTES"),
        ("TARGET_ALLOW_HTTPS", "TARGET_ALLOW_HTTP"),
    ],
)
def test_a_near_miss_is_found(name: str, meant: str) -> None:
    assert near(name) == {name: meant}


def test_a_name_that_lacks_words_is_found() -> None:
    assert near("UPSTREAM_TIMEOUT")["UPSTREAM_TIMEOUT"].startswith("TARGET_")


SERVICES = [
    "prometheus-server",
    "target",
    "target-host",
    "metrics",
    "ingestion",
    "ingestion-url",
    "authproxy",
    "log",
    "listening",
    "identity",
    "worker",
    "threads",
    "audience",
    "kubernetes",
    "allowed-paths",
    "access-log",
    "aad",
    "max-tunnels",
]

#: What a pod, a unit, a login and Azure's platforms have besides.
ELSEWHERE = [
    "PATH",
    "HOME",
    "HOSTNAME",
    "LANG",
    "TERM",
    "SHELL",
    "USER",
    "LOGNAME",
    "PWD",
    "TZ",
    "TMPDIR",
    "PYTHON_VERSION",
    "PYTHONUNBUFFERED",
    "GPG_KEY",
    "MALLOC_ARENA_MAX",
    "KUBERNETES_SERVICE_HOST",
    "POD_NAME",
    "POD_NAMESPACE",
    "NODE_NAME",
    "HOST_IP",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "CREDENTIALS_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "https_proxy",
    "no_proxy",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "IDENTITY_ENDPOINT",
    "IMDS_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
    "WEBSITE_HOSTNAME",
    "WEBSITES_PORT",
    "PORT",
    "CONTAINER_APP_NAME",
    "CONTAINER_APP_PORT",
    "APACHE_LOG_DIR",
    "APACHE_RUN_USER",
    "AZURE_KUBERNETES_TOKEN_PROXY",
    "AZURE_REGIONAL_AUTHORITY_NAME",
    "AUTHPROXY_PYTHON",
    "GRPC_VERBOSITY",
]


def test_what_is_there_for_others_is_left_alone() -> None:
    links = {}
    ends = [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_80_TCP",
        "PORT_80_TCP_ADDR",
    ]
    for service, end in product(SERVICES, ends):
        links[f"{service.upper().replace('-', '_')}_{end}"] = "10.0.0.1"
    sdks = [
        name
        for constants in (vars(otel).values(), vars(EnvironmentVariables).values())
        for name in constants
        if isinstance(name, str) and name.isupper()
    ]
    assert len(sdks) > 50
    environ = {**links, **dict.fromkeys((*sdks, *ELSEWHERE), "x")}
    assert misspelt(environ, Settings.declared, OTHERS) == {}


def test_what_is_empty_or_known_is_no_mistake() -> None:
    assert misspelt({"AAD_CLIENTID": ""}, Settings.declared) == {}
    assert near(*Settings.declared, *OTHERS) == {}


@given(st.text(max_size=40))
def test_any_name_can_be_compared(name: str) -> None:
    assert set(near(name).values()) <= {*Settings.declared, *OTHERS}
    assert nearest(name, ["a", "b"]) in (None, "a", "b")


def test_a_near_miss_is_told_with_the_faults_that_it_may_have_caused() -> None:
    environ = {
        "TARGET_HOST": "a.example.com",
        "AUDIENCE": "api://a",
        "IDENTITY_TYPE": "userassigned",
        "AAD_CLIENTID": "s3cret",
    }
    with pytest.raises(SettingsError) as raised:
        load_settings(environ=environ, serving=False)
    first, second = raised.value.faults
    assert first.setting == "AAD_CLIENT_ID"
    assert (second.setting, second.hint) == ("AAD_CLIENTID", "Did you mean AAD_CLIENT_ID?")
    assert "s3cret" not in str(raised.value)
    loaded = load_settings(environ={**environ, "AAD_CLIENT_ID": "1-1"}, serving=False)
    assert loaded.misspelt == {"AAD_CLIENTID": "AAD_CLIENT_ID"}
