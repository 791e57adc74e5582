"""What ran aad-auth-proxy, or Azure Monitor's remote-write sidecar, runs authproxy unchanged.

The environments are those of the predecessors' published samples. Real host
names lead to a stand-in store by way of a forward proxy, so that there is no
DNS; its port, our own port, and where the certificate lies are all that
differs from the samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from authproxy.demo.stand_ins.directory import METRICS_INGESTION
from tests.support.authority import Authority
from tests.support.deployed import CLIENT, Deployed, Started, started
from tests.support.expect import assert_own_error
from tests.support.logfmt import parse_line
from tests.support.prometheus import Prometheus, require_prometheus

WORKSPACE = "azure-monitor-workspace.eastus-1.metrics.ingest.monitor.azure.com"
GOVERNMENT_WORKSPACE = "workspace.usgovvirginia-1.metrics.ingest.monitor.azure.us"
QUERY_ENDPOINT = "azure-monitor-workspace.eastus.prometheus.monitor.azure.com"
WRITE = "/api/v1/write"
#: The "Metrics ingestion endpoint" of a workspace, without the host.
STREAM = (
    "/dataCollectionRules/dcr-00000000000000000000000000000000"
    "/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2021-11-01-preview"
)
INGESTION_CLIENT = "a711a6a4-1052-44eb-aec8-182e2b604c7f"
QUERY_CLIENT = CLIENT
TENANT = "f511a6a4-1052-44eb-aec8-182e2b604c7f"

COLLECTOR = "otel-collector.observability.svc.cluster.local:4317"

#: aad-auth-proxy, docs/samples: sample-proxy-ingestion.yaml, sample-proxy-query.yaml,
#: sample-proxy-ingestion-aadapplication.yaml with the ids of
#: sample-docker-compose-ingestion-aadapplication.yaml, whose two services come
#: next, and sample-proxy-using-workload-identity-default.yaml. Then the system
#: identity of its IDENTITY.md, the manifest of Azure Monitor's article about it,
#: and what its chart renders: by default, in its first version, and for the
#: `helm install` of GETTING_STARTED.md.
GO_PROXY = {
    "ingestion": {
        "AUDIENCE": "https://monitor.azure.com/.default",
        "TARGET_HOST": f"https://{WORKSPACE}",
        "IDENTITY_TYPE": "userAssigned",
        "AAD_CLIENT_ID": INGESTION_CLIENT,
        "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "10",
        "OTEL_GRPC_ENDPOINT": COLLECTOR,
        "OTEL_SERVICE_NAME": "azuremonitor_ingestion",
    },
    "query": {
        "AUDIENCE": "https://prometheus.monitor.azure.com",
        "TARGET_HOST": f"https://{WORKSPACE}",
        "IDENTITY_TYPE": "userAssigned",
        "AAD_CLIENT_ID": QUERY_CLIENT,
        "AAD_TOKEN_REFRESH_INTERVAL_IN_MINUTES": "10",
        "OTEL_GRPC_ENDPOINT": COLLECTOR,
        "OTEL_SERVICE_NAME": "azuremonitor_query",
    },
    "application": {
        "AUDIENCE": "https://monitor.azure.com/.default",
        "TARGET_HOST": f"https://{WORKSPACE}",
        "IDENTITY_TYPE": "aadapplication",
        "AAD_CLIENT_ID": INGESTION_CLIENT,
        "AAD_TENANT_ID": TENANT,
        "AAD_CLIENT_CERTIFICATE_PATH": "/certs/AuthProxyPem.pem",
        "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "10",
        "OTEL_GRPC_ENDPOINT": COLLECTOR,
        "OTEL_SERVICE_NAME": "azuremonitor_ingestion",
    },
    "compose-ingestion": {
        "AUDIENCE": "https://monitor.azure.com/.default",
        "TARGET_HOST": f"https://{WORKSPACE}",
        "IDENTITY_TYPE": "aadApplication",
        "AAD_CLIENT_ID": INGESTION_CLIENT,
        "AAD_TENANT_ID": TENANT,
        "AAD_CLIENT_CERTIFICATE_PATH": "/certs/AuthProxyPem.pem",
    },
    "compose-query": {
        "AUDIENCE": "https://prometheus.monitor.azure.com/.default",
        "TARGET_HOST": f"https://{WORKSPACE}",
        "IDENTITY_TYPE": "aadApplication",
        "AAD_CLIENT_ID": INGESTION_CLIENT,
        "AAD_TENANT_ID": TENANT,
        "AAD_CLIENT_CERTIFICATE_PATH": "/certs/AuthProxyPem.pem",
    },
    # The rest of its identity comes from the webhook of workload identity.
    "workload-identity": {
        "AUDIENCE": "https://prometheus.monitor.azure.com/.default",
        "TARGET_HOST": f"https://{WORKSPACE}",
    },
    # That is the identity's object id, for nothing.
    "system-identity": {
        "AUDIENCE": "https://monitor.azure.com/.default",
        "TARGET_HOST": f"https://{WORKSPACE}",
        "IDENTITY_TYPE": "systemassigned",
        "AAD_CLIENT_ID": "12345678-abcd-abcd-abcd-1234567890ab",
        "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "10",
    },
    "article": {
        "AUDIENCE": "https://monitor.azure.com/.default",
        "TARGET_HOST": f"http://{WORKSPACE}",
        "IDENTITY_TYPE": "userAssigned",
        "AAD_CLIENT_ID": INGESTION_CLIENT,
        "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "10",
    },
    "chart": {
        "AUDIENCE": "https://prometheus.monitor.azure.com/.default",
        "TARGET_HOST": f"https://{QUERY_ENDPOINT}",
        "IDENTITY_TYPE": "",
        "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "10",
        "OTEL_SERVICE_NAME": "aad_auth_proxy",
        "OTEL_GRPC_ENDPOINT": "",
        "OVERRIDE_REQUEST_HEADERS": "{}",
    },
    "first-chart": {
        "AUDIENCE": "https://prometheus.monitor.azure.com",
        "TARGET_HOST": f"https://{QUERY_ENDPOINT}",
        "IDENTITY_TYPE": "systemAssigned",
        "AAD_TOKEN_REFRESH_INTERVAL_IN_MINUTES": "60",
        "OTEL_SERVICE_NAME": "aad_auth_proxy",
        "OTEL_GRPC_ENDPOINT": "http://localhost:4317",
    },
    "helm-install": {
        "AUDIENCE": "https://monitor.azure.com/.default",
        "TARGET_HOST": f"https://{QUERY_ENDPOINT}",
        "IDENTITY_TYPE": "userAssigned",
        "AAD_CLIENT_ID": INGESTION_CLIENT,
        "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "10",
        "OTEL_SERVICE_NAME": "aad_auth_proxy",
        "OTEL_GRPC_ENDPOINT": "",
        "OVERRIDE_REQUEST_HEADERS": "{}",
    },
}

#: The sidecar, in Azure Monitor's articles on remote write: with a managed
#: identity, an application, a workload identity, and in other clouds. A system
#: identity has no sample; this is its form.
SIDECAR = {
    "sidecar-user-identity": {
        "INGESTION_URL": f"https://{WORKSPACE}{STREAM}",
        "IDENTITY_TYPE": "userAssigned",
        "AZURE_CLIENT_ID": INGESTION_CLIENT,
        "CLUSTER": "sample-cluster",
    },
    "sidecar-system-identity": {
        "INGESTION_URL": f"https://{WORKSPACE}{STREAM}",
        "IDENTITY_TYPE": "systemAssigned",
    },
    "sidecar-application": {
        "INGESTION_URL": f"https://{WORKSPACE}{STREAM}",
        "IDENTITY_TYPE": "aadApplication",
        "AZURE_CLIENT_ID": INGESTION_CLIENT,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_CERTIFICATE_PATH": "/mnt/secrets-store/remote-write",
        "CLUSTER": "sample-cluster",
    },
    "sidecar-workload-identity": {
        "INGESTION_URL": f"https://{WORKSPACE}{STREAM}",
        "IDENTITY_TYPE": "workloadIdentity",
    },
    "sidecar-government": {
        "INGESTION_URL": f"https://{GOVERNMENT_WORKSPACE}{STREAM}",
        "IDENTITY_TYPE": "workloadIdentity",
        "CLOUD": "AZUREGOVERNMENT",
        "INGESTION_AAD_AUDIENCE": "https://monitor.azure.us/.default",
    },
    "sidecar-custom-cloud": {
        "INGESTION_URL": f"https://sample.metrics.ingest.monitor.cloud.example{STREAM}",
        "IDENTITY_TYPE": "workloadIdentity",
        "CLOUD": "AZURECUSTOM",
        "INGESTION_AAD_AUDIENCE": "https://monitor.cloud.example/.default",
    },
}


@pytest.fixture(scope="module")
def running(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A proxy and stand-ins of its own for each sample."""
    samples = GO_PROXY | SIDECAR

    def deployed(name: str) -> Deployed:
        return Deployed(samples[name], authority, tmp_path_factory.mktemp(name))

    with started(deployed) as running:
        yield running


def complaints(log: str) -> list[str]:
    """Return what the log warns of, save that there is no collector."""
    lines = re.findall("^.* level=(?:warning|error) .*$", log, re.MULTILINE)
    return [line for line in lines if 'msg="Telemetry export failing"' not in line]


@pytest.mark.parametrize("name", GO_PROXY)
def test_the_go_proxys_samples_run_unchanged(running: Started, name: str) -> None:
    sample, deployed = GO_PROXY[name], running(name)
    proxy, store = deployed.proxy, deployed.store
    audience = sample["AUDIENCE"].removesuffix("/.default")
    store.audiences = (audience,)
    assert proxy.get("/health").status == 200
    assert deployed.write().status == 200
    answer = proxy.get("/api/v1/query?query=up")
    assert answer.status == 200
    assert b'"job": "sample"' in answer.body
    assert [request.target for request in store.requests] == [WRITE, "/api/v1/query?query=up"]
    assert deployed.scopes == {f"{audience}/.default"}
    settings = proxy.wait_for_event("Configuration settings loaded:")
    assert settings["level"] == "info"
    assert settings["TARGET_HOST"].startswith(sample["TARGET_HOST"])
    sent = "Successfully sent request, returning response back."
    line = proxy.wait_for_line(f'level=info msg="{sent}" .*query=up" StatusCode=200( |$)')
    assert parse_line(line)["Request"].startswith(f"https://{deployed.host}:")
    # Some samples have the audience of queries with a host for writes, or the reverse.
    reads = sample["TARGET_HOST"].endswith(QUERY_ENDPOINT)
    fits = reads == ("prometheus" in audience)
    warned = [parse_line(line)["msg"] for line in complaints(proxy.log)]
    assert warned == (
        [] if fits else ["Tokens are for another audience than the target's host takes"]
    )


@pytest.mark.parametrize("name", SIDECAR)
def test_the_sidecars_samples_run_unchanged(running: Started, name: str) -> None:
    sample, deployed = SIDECAR[name], running(name)
    proxy, store = deployed.proxy, deployed.store
    audience = sample.get("INGESTION_AAD_AUDIENCE", METRICS_INGESTION).removesuffix("/.default")
    store.audiences = (audience,)
    assert proxy.get("/health").status == 200
    assert deployed.write().status == 200
    assert [sample.name for sample in store.samples] == ["up"]
    assert_own_error(proxy.get("/api/v1/query?query=up"), 404, "NoRoute")
    assert [request.target for request in store.requests] == [STREAM]
    assert deployed.scopes == {f"{audience}/.default"}
    settings = proxy.wait_for_event("Configuration settings loaded:")
    assert settings["INGESTION_URL"].startswith(f"https://{deployed.host}")
    assert settings.get("CLUSTER", "") == sample.get("CLUSTER", "")
    proxy.wait_for_line("returning response back.* StatusCode=200( |$)")


@pytest.mark.real("prometheus")
def test_a_prometheus_with_a_sidecar_keeps_its_url(authority: Authority, tmp_path: Path) -> None:
    require_prometheus()
    sidecar = Deployed(SIDECAR["sidecar-user-identity"], authority, tmp_path)
    sidecar.store.audiences = (METRICS_INGESTION,)
    with (
        started(lambda _: sidecar) as running,
        Prometheus(tmp_path / "prometheus") as sender,
    ):
        sender.wait_for_scrapes(1)
        proxy = running("sidecar").proxy
        with sender.writing_to("sidecar", f"http://localhost:{proxy.port}{WRITE}") as route:
            samples = sidecar.store.wait_for_samples(1000)
            route.catch_up()
            assert route.lost == 0
    assert {dict(sample.labels)["job"] for sample in samples} == {"self"}
    assert {request.target for request in sidecar.store.requests} == {STREAM}
    assert sidecar.scopes == {f"{METRICS_INGESTION}/.default"}
