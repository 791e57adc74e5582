"""docs/migrating.md tells of settings and values that there are."""

from __future__ import annotations

import re

import pytest
import yaml

from authproxy.errors import SettingsError
from authproxy.settings import Settings, load_settings
from tests.support.source import ROOT

PAGE = (ROOT / "docs" / "migrating.md").read_text()
DECLARED = set(Settings.declared)
ALSO = {other for one in Settings.declared.values() for other in one.also}

#: What the retired chart's values.yaml had, over all its versions.
CHART_VALUES = {
    *("listeningPort", "audience", "targetHost", "identityType", "aadClientId", "aadTenantId"),
    *("aadClientCertificatePath", "aadTokenRefreshIntervalInMinutes"),
    *("aadTokenRefreshIntervalInPercentage", "otelServiceName", "otelGrpcEndpoint"),
    *("overrideRequestHeaders", "addWorkloadIdentityLabel", "replicaCount", "image"),
    *("imagePullSecrets", "nameOverride", "fullnameOverride", "serviceAccount"),
    *("podAnnotations", "podSecurityContext", "securityContext", "service", "resources"),
    *("autoscaling", "nodeSelector", "tolerations", "affinity"),
}
#: What the retired programs read.
GO_PROXY = {
    *("TARGET_HOST", "IDENTITY_TYPE", "AAD_CLIENT_ID", "AAD_TENANT_ID", "AUDIENCE"),
    *("AAD_CLIENT_CERTIFICATE_PATH", "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE"),
    *("AAD_TOKEN_REFRESH_INTERVAL_IN_MINUTES", "LISTENING_PORT", "OVERRIDE_REQUEST_HEADERS"),
    *("OTEL_GRPC_ENDPOINT", "OTEL_SERVICE_NAME", "TRACE_LOGGING"),
}
SIDECAR = {
    *("INGESTION_URL", "LISTENING_PORT", "IDENTITY_TYPE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"),
    *("AZURE_CLIENT_CERTIFICATE_PATH", "CLUSTER", "INGESTION_AAD_AUDIENCE", "CLOUD"),
    "AAD_HOST_ENDPOINT",
}


def section(heading: str) -> str:
    [found] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return str(found)


def rows(text: str, column: str) -> list[tuple[list[str], str]]:
    """Return the rows of the table whose first column has this name: its names, and the rest."""
    [table] = re.findall(rf"^\| {column} \|.*?\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    found = []
    for row in table.splitlines():
        names, rest = re.fullmatch(r"\| (.*?) \| (.*) \|", row).groups()  # type: ignore[union-attr]
        found.append((re.findall(r"`(\w+)`", names), rest))
    return found


SETTINGS = {
    "From aad-auth-proxy": rows(section("From aad-auth-proxy"), "variable"),
    "From the remote-write sidecar": rows(section("From the remote-write sidecar"), "variable"),
}


@pytest.mark.parametrize("heading", SETTINGS)
def test_each_row_names_settings_of_ours_or_says_that_they_are_not_read(heading: str) -> None:
    for names, rest in SETTINGS[heading]:
        assert names
        for name in names:
            assert (name not in DECLARED | ALSO) == rest.startswith(("Not read", "Of early")), name


@pytest.mark.parametrize(
    ("heading", "read"),
    [("From aad-auth-proxy", GO_PROXY), ("From the remote-write sidecar", SIDECAR)],
)
def test_each_setting_of_a_retired_program_has_a_row(heading: str, read: set[str]) -> None:
    assert read <= {name for names, _ in SETTINGS[heading] for name in names}


def test_whatever_else_looks_like_a_setting_is_one() -> None:
    mentioned = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)[`=]", PAGE))
    assert mentioned - DECLARED - ALSO <= {
        "AAD_TOKEN_REFRESH_INTERVAL_IN_MINUTES",
        "AAD_TOKEN_REFRESH_DURATION_IN_MINUTES",
        "AZURE_CUSTOM",
    }


def test_defaults_are_told_as_they_are_declared() -> None:
    declared = {variable: one.default for variable, one in Settings.declared.items()}
    told = dict(re.findall(r"`([A-Z_]+)` \((\d+)(?: MiB| KiB)?\)", PAGE))
    unit = {"MAX_REQUEST_BODY_BYTES": 1024 * 1024, "MAX_REQUEST_HEADER_BYTES": 1024}
    assert len(told) == 5
    for name, value in told.items():
        assert int(value) * unit.get(name, 1) == declared[name], name


def test_the_variable_of_a_service_named_metrics_is_the_fault_that_is_told_of() -> None:
    environ = {
        "TARGET_HOST": "workspace-abcd.westeurope.prometheus.monitor.azure.com",
        "LISTENING_PORT": "8081",
        "METRICS_PORT": "tcp://10.0.0.1:80",
    }
    with pytest.raises(SettingsError) as raised:
        load_settings(environ=environ, serving=True)
    assert "METRICS_PORT='tcp://10.0.0.1:80'" in str(raised.value)


def test_each_value_of_the_retired_chart_has_a_row_and_is_one_of_ours() -> None:
    told = {name for names, _ in rows(section("From aad-auth-proxy"), "value") for name in names}
    assert told == CHART_VALUES
    values = ROOT / "helm" / "authproxy" / "values.yaml"
    if not values.exists():
        pytest.skip("there is no chart yet")
    assert told <= set(yaml.safe_load(values.read_text()))
