"""What ran aad-auth-proxy, or Azure Monitor's remote-write sidecar, runs authproxy unchanged.

The environments are those of the predecessors' published samples. Real host
names lead to a stand-in store by way of a forward proxy, so that there is no
DNS; its port, our own port, and where the certificate lies are all that
differs from the samples.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from authproxy.demo.certificates import EphemeralAuthority
from authproxy.demo.directory import (
    METRICS_INGESTION,
    Application,
    FederatedCredential,
    ManagedIdentity,
)
from authproxy.demo.entra import StandInEntra
from authproxy.demo.remote_write import HEADERS, Sample, encode
from authproxy.demo.signing import ServiceAccountIssuer
from authproxy.demo.store import StandInStore
from tests.support.authority import Authority
from tests.support.client_certificates import ClientAuthority
from tests.support.expect import assert_own_error
from tests.support.forward_proxy import ForwardProxy
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess
from tests.support.prometheus import Prometheus, require_prometheus
from tests.support.wire import Response, message

Run = Callable[[Mapping[str, str]], ProxyProcess]

WORKSPACE = "azure-monitor-workspace.eastus-1.metrics.ingest.monitor.azure.com"
WRITE = "/api/v1/write"
#: The "Metrics ingestion endpoint" of a workspace, without the host.
STREAM = (
    "/dataCollectionRules/dcr-00000000000000000000000000000000"
    "/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2021-11-01-preview"
)
INGESTION_CLIENT = "a711a6a4-1052-44eb-aec8-182e2b604c7f"
QUERY_CLIENT = "a711a6a4-1052-44eb-bcad-182e2b604c7f"
TENANT = "f511a6a4-1052-44eb-aec8-182e2b604c7f"
SERVICE_ACCOUNT = "system:serviceaccount:observability:aad-auth-proxy-sa"

COLLECTOR = "otel-collector.observability.svc.cluster.local:4317"

#: aad-auth-proxy, docs/samples: sample-proxy-ingestion.yaml, sample-proxy-query.yaml,
#: sample-proxy-ingestion-aadapplication.yaml with the ids of
#: sample-docker-compose-ingestion-aadapplication.yaml, whose two services come
#: next, and sample-proxy-using-workload-identity-default.yaml.
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
}

#: The sidecar, in Azure Monitor's articles on remote write with a managed
#: identity, with an application, and with workload identity.
SIDECAR = {
    "managed-identity": {
        "INGESTION_URL": f"https://{WORKSPACE}{STREAM}",
        "IDENTITY_TYPE": "userAssigned",
        "AZURE_CLIENT_ID": INGESTION_CLIENT,
        "CLUSTER": "sample-cluster",
    },
    "application": {
        "INGESTION_URL": f"https://{WORKSPACE}{STREAM}",
        "IDENTITY_TYPE": "aadApplication",
        "AZURE_CLIENT_ID": INGESTION_CLIENT,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_CERTIFICATE_PATH": "/mnt/secrets-store/remote-write",
        "CLUSTER": "sample-cluster",
    },
    "workload-identity": {
        "INGESTION_URL": f"https://{WORKSPACE}{STREAM}",
        "IDENTITY_TYPE": "workloadIdentity",
    },
}


class WorkspaceAuthority(EphemeralAuthority):
    """Issues the stand-in store a certificate for the name of a real workspace."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._issuer = authority

    def server_context(self) -> ssl.SSLContext:
        return self._issuer.context(WORKSPACE)


def machine(sample: Mapping[str, str], entra: StandInEntra, folder: Path) -> dict[str, str]:
    """Give `sample` its identity, and return what surrounds it where it runs."""
    kind = sample.get("IDENTITY_TYPE", "").lower()
    if kind == "userassigned":
        client_id = sample.get("AAD_CLIENT_ID") or sample["AZURE_CLIENT_ID"]
        entra.assign(ManagedIdentity(client_id))
        return entra.managed_identity_environment()
    entra.tenant = TENANT
    authority = {
        "AZURE_AUTHORITY_HOST": f"{entra.authority_host}/",
        "REQUESTS_CA_BUNDLE": str(entra.authority.write_bundle(folder / "entra-ca.pem")),
    }
    if kind == "aadapplication":
        certificate = ClientAuthority().issue()
        entra.register(Application(INGESTION_CLIENT, certificates=(certificate.certificate,)))
        (folder / "certificate").write_bytes(certificate.pem())
        return authority
    # What the webhook of workload identity adds to a pod.
    cluster = ServiceAccountIssuer()
    trust = FederatedCredential(cluster, SERVICE_ACCOUNT)
    entra.register(Application(QUERY_CLIENT, federated=(trust,)))
    token_file = folder / "azure-identity-token"
    token_file.write_text(cluster.token(SERVICE_ACCOUNT, now=time.time()))
    return {
        **authority,
        "AZURE_CLIENT_ID": QUERY_CLIENT,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
    }


@pytest.fixture
def store(authority: Authority, entra: StandInEntra) -> Iterator[StandInStore]:
    with StandInStore(entra.signing_key, authority=WorkspaceAuthority(authority)) as store:
        yield store


@pytest.fixture
def run(
    authority: Authority, entra: StandInEntra, store: StandInStore, tmp_path: Path
) -> Iterator[Run]:
    """Start the proxy that a sample describes."""
    port = store.url.rpartition(":")[2]

    def relocated(name: str, value: str) -> str:
        if name.endswith("_CERTIFICATE_PATH"):
            return str(tmp_path / "certificate")
        return value.replace(WORKSPACE, f"{WORKSPACE}:{port}")

    with ForwardProxy() as forward, ExitStack() as stack:

        def start(sample: Mapping[str, str]) -> ProxyProcess:
            process = ProxyProcess(
                {
                    "HTTPS_PROXY": f"http://127.0.0.1:{forward.port}",
                    "NO_PROXY": "127.0.0.1",
                    "TARGET_CA_FILE": str(authority.bundle),
                    **machine(sample, entra, tmp_path),
                    **{name: relocated(name, value) for name, value in sample.items()},
                }
            )
            return stack.enter_context(process)

        yield start
        assert forward.heads
        assert all(
            head.startswith(f"CONNECT {WORKSPACE}:{port} ".encode()) for head in forward.heads
        )


def scopes(entra: StandInEntra) -> set[str]:
    """Return what tokens were asked for, as scopes."""
    return {
        # The App Service protocol has resources, the v2.0 endpoint has scopes.
        request.form.get("scope") or f"{request.query['resource']}/.default"
        for request in entra.requests
        if request.path.endswith("/token")
    }


def write(proxy: ProxyProcess) -> Response:
    """Send a remote write of one sample."""
    body = encode([Sample.of("up", 1.0, int(time.time() * 1000), job="sample")])
    lines = [f"{name}: {value}" for name, value in HEADERS.items()]
    return proxy.ask(message(f"POST {WRITE}", *lines, body=body))


@pytest.mark.parametrize("name", GO_PROXY)
def test_the_go_proxys_samples_run_unchanged(
    run: Run, entra: StandInEntra, store: StandInStore, name: str
) -> None:
    sample = GO_PROXY[name]
    audience = sample["AUDIENCE"].removesuffix("/.default")
    store.audiences = (audience,)
    proxy = run(sample)
    assert proxy.get("/health").status == 200
    assert write(proxy).status == 204
    answer = proxy.get("/api/v1/query?query=up")
    assert answer.status == 200
    assert b'"job": "sample"' in answer.body
    assert [request.target for request in store.requests] == [WRITE, "/api/v1/query?query=up"]
    assert scopes(entra) == {f"{audience}/.default"}
    settings = proxy.wait_for_event("Configuration settings loaded:")
    assert settings["level"] == "info"
    assert settings["TARGET_HOST"].startswith(sample["TARGET_HOST"])
    sent = "Successfully sent request, returning response back."
    line = proxy.wait_for_line(f'level=info msg="{sent}" .* StatusCode=200( |$)')
    assert parse_line(line)["Request"].endswith("/api/v1/query?query=up")
    assert not re.search("level=(warning|error)", proxy.log)


@pytest.mark.parametrize("name", SIDECAR)
def test_the_sidecars_samples_run_unchanged(
    run: Run, entra: StandInEntra, store: StandInStore, name: str
) -> None:
    sample = SIDECAR[name]
    store.audiences = (METRICS_INGESTION,)
    proxy = run(sample)
    assert proxy.get("/health").status == 200
    assert write(proxy).status == 204
    assert [sample.name for sample in store.samples] == ["up"]
    assert_own_error(proxy.get("/api/v1/query?query=up"), 404, "NoRoute")
    assert [request.target for request in store.requests] == [STREAM]
    assert scopes(entra) == {f"{METRICS_INGESTION}/.default"}
    settings = proxy.wait_for_event("Configuration settings loaded:")
    assert settings["INGESTION_URL"].startswith(f"https://{WORKSPACE}")
    assert settings.get("CLUSTER", "") == sample.get("CLUSTER", "")
    proxy.wait_for_line("returning response back.* StatusCode=204( |$)")


@pytest.mark.real("prometheus")
def test_a_prometheus_with_a_sidecar_keeps_its_url(
    run: Run, entra: StandInEntra, store: StandInStore, tmp_path: Path
) -> None:
    require_prometheus()
    store.audiences = (METRICS_INGESTION,)
    proxy = run(SIDECAR["managed-identity"])
    with Prometheus(tmp_path / "prometheus") as sender:
        sender.wait_for_scrapes(1)
        with sender.writing_to("sidecar", f"http://localhost:{proxy.port}{WRITE}") as route:
            samples = store.wait_for_samples(1000)
            route.catch_up()
            assert route.lost == 0
    assert {dict(sample.labels)["job"] for sample in samples} == {"self"}
    assert {request.target for request in store.requests} == {STREAM}
    assert scopes(entra) == {f"{METRICS_INGESTION}/.default"}
