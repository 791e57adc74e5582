"""A rendered pod works: the real proxy, started with its arguments and its environment.

What a pod gets from elsewhere is added: the identity endpoint of its node, or
what the webhook of workload identity injects, and the stand-ins' CAs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from authproxy.demo.stand_ins.directory import TENANT
from authproxy.settings import load_settings
from tests.conftest import Launch
from tests.support.authority import Authority
from tests.support.client_certificates import client_authority
from tests.support.helm import (
    CHART,
    NAMESPACE,
    Document,
    Helm,
    is_test,
    only,
    plain_environment,
    proxy_container,
)
from tests.support.identity import AUDIENCE, identity_settings
from tests.support.pod import Objects, Pod
from tests.support.probes import passes
from tests.support.process import ProxyProcess, clean_environment, free_port, wait_until
from tests.support.programs import completed
from tests.support.scrape import settled
from tests.support.stand_ins.applications import (
    Application,
    FederatedCredential,
    ServiceAccountIssuer,
)
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import message

pytestmark = pytest.mark.real("helm")

VALUES = Path(__file__).parent / "values"
CLIENT = "11111111-1111-1111-1111-111111111111"
CLIENT_TOKEN = "a-token-of-a-client-0123456789"
TEAM_B, TEAM_B_TOKEN = "22222222-2222-2222-2222-222222222222", "a-token-of-team-b-0123456789"
PASSWORD = b"certificate's password"
SECRET = "kept~under~wraps"

Start = Callable[..., tuple[ProxyProcess, Pod]]


@pytest.fixture(scope="module")
def certificate() -> Any:
    return client_authority().issue()


@pytest.fixture
def objects(certificate: Any, authority: Authority) -> Objects:
    """The Secrets, ConfigMaps and vaults that the values files name."""
    return {
        "authproxy-certificate": {
            "client.pem": certificate.pem(PASSWORD),
            "client.pfx": certificate.pfx(PASSWORD),
            "password": PASSWORD,
        },
        "authproxy-application": {"secret": SECRET.encode()},
        "authproxy-tokens": {"tokens": CLIENT_TOKEN.encode()},
        "authproxy-callers-of-team-b": {"callers": TEAM_B_TOKEN.encode()},
        "authproxy-headers": {"headers.json": b'{"X-Scope-OrgID": "team"}'},
        "authproxy-collector": {"config.yaml": b"{}"},
        "ca": {"ca.pem": authority.bundle.read_bytes()},
        "otel": {"OTEL_RESOURCE_ATTRIBUTES": b"k8s.cluster.name=example"},
        "somebody-elses": {},
        "rel-authproxy": {"authproxy": certificate.pem()},
    }


@pytest.fixture
def second_target(authority: Authority) -> Iterator[Upstream]:
    upstream = Upstream(authority.context())
    yield upstream
    upstream.close()


@pytest.fixture
def token_file(tmp_path: Path, entra: StandInEntra) -> Path:
    """The token of the pod's service account, whom an application trusts."""
    cluster = ServiceAccountIssuer()
    subject = f"system:serviceaccount:{NAMESPACE}:rel-authproxy"
    entra.register(Application(CLIENT, federated=(FederatedCredential(cluster, subject),)))
    file = tmp_path / "azure-identity-token"
    file.write_text(cluster.token(subject, now=time.time()))
    return file


@pytest.fixture
def start(
    helm: Helm,
    authority: Authority,
    entra: StandInEntra,
    target: Upstream,
    tmp_path: Path,
    objects: Objects,
) -> Iterator[Start]:
    """Render a values file with the stand-ins for target and Entra, and start its container."""
    entra_ca = entra.authority.write_bundle(tmp_path / "entra-ca.pem")
    with ExitStack() as stack:

        def start(
            name: str, *assignments: str, ready: bool = True, **elsewhere: str
        ) -> tuple[ProxyProcess, Pod]:
            led = [
                *([] if "routes" in name else [f'targetHost="{target.authority}"']),
                'targetCaFile="/etc/ca/ca.pem"',
                'extraVolumes=[{"name": "ca", "configMap": {"name": "ca"}}]',
                'extraVolumeMounts=[{"name": "ca", "mountPath": "/etc/ca"}]',
                f'audience="{AUDIENCE}"',
                f"listeningPort={free_port()}",
                f'aadAuthorityHost="{entra.authority_host}"',
                *assignments,
            ]
            arguments = [part for one in led for part in ("--set-json", one)]
            documents = helm.render_file(VALUES / f"{name}.yaml", *arguments)
            pod = Pod(documents, tmp_path / "volumes", objects)
            serve, *options = pod.container["args"]
            assert serve == "serve"
            surroundings = {"REQUESTS_CA_BUNDLE": str(entra_ca), **elsewhere}
            process = ProxyProcess({**surroundings, **pod.environment}, options=options)
            stack.push(process.__exit__)
            return process.start(ready=ready), pod

        yield start


def ask(process: ProxyProcess) -> int:
    """Send a request as a client that has a token; return the status."""
    request = message("GET /api/v1/query?query=up", f"X-Authproxy-Token: {CLIENT_TOKEN}")
    return process.ask(request).status


def assert_probed(process: ProxyProcess, pod: Pod) -> None:
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        port, path = pod.probe(kind)
        assert port == process.port
        assert process.get(path).status == 200
    assert pod.port("http") == process.port


def run_helm_test(documents: list[Document], port: int) -> subprocess.CompletedProcess[str]:
    """Run what the pod of `helm test` runs, with the service's address on this machine."""
    (pod,) = (one["spec"] for one in documents if is_test(one))
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-c"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    service = only(documents, "Service")
    address = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert environment == {"AUTHPROXY_URL": address}
    return completed(
        [sys.executable, "-c", *container["args"]],
        {
            **clean_environment(os.devnull),
            "AUTHPROXY_URL": f"http://127.0.0.1:{port}",
            "AUTHPROXY_ATTEMPTS": "1",
            # As in a namespace that hands a forward proxy to every pod.
            "http_proxy": "http://127.0.0.1:9",
        },
    )


def test_a_managed_identity_serves_passes_helm_test_and_ends(
    start: Start, helm: Helm, target: Upstream, entra: StandInEntra
) -> None:
    process, pod = start("system-assigned", **entra.managed_identity_environment())
    assert_probed(process, pod)
    assert ask(process) == 200
    assert target.requests[0].one("Authorization") == f"Bearer {entra.issued[-1].value}"
    result = run_helm_test(helm.render_file(VALUES / "system-assigned.yaml"), process.port)
    assert (result.returncode, result.stderr) == (0, "")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_pod_on_a_socket_is_probed_there(
    helm: Helm, launch: Launch, entra: StandInEntra, tmp_path: Path
) -> None:
    container = proxy_container(helm.render_file(VALUES / "socket.yaml"))
    probes = {kind: container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    environment = plain_environment(container)
    entra.system_assigned = None
    proxy = launch(ready=False, unix_socket=tmp_path / "s", **identity_settings(entra))
    assert {kind: passes(probe, proxy, environment) for kind, probe in probes.items()} == {
        "startupProbe": True,
        "livenessProbe": True,
        "readinessProbe": False,
    }


def test_a_probe_of_ones_own_takes_the_place_of_the_charts(helm: Helm) -> None:
    own = '{"exec": {"command": ["true"]}}'
    documents = helm.render_file(
        *(VALUES / "socket.yaml", "--set-json", f"livenessProbe={own}"),
        *("--set-json", "readinessProbe=null"),
    )
    container = proxy_container(documents)
    assert container["livenessProbe"]["exec"] == {"command": ["true"]}
    assert "readinessProbe" not in container


def test_without_a_token_it_lives_and_fails_helm_test(
    start: Start, helm: Helm, entra: StandInEntra
) -> None:
    entra.system_assigned = None
    process, pod = start("system-assigned", ready=False, **entra.managed_identity_environment())
    assert process.get(pod.probe("startupProbe")[1]).status == 200
    assert process.get(pod.probe("livenessProbe")[1]).status == 200
    assert process.get(pod.probe("readinessProbe")[1]).status == 503
    documents = helm.render_file(VALUES / "system-assigned.yaml")
    for port, said in ((process.port, "/ready: 503"), (free_port(), "refused")):
        result = run_helm_test(documents, port)
        assert result.returncode == 1
        assert said in result.stderr
        assert "kubectl logs" in result.stderr


def test_an_application_shows_the_certificate_of_a_secret(
    start: Start, entra: StandInEntra, certificate: Any
) -> None:
    entra.register(Application(CLIENT, certificates=(certificate.certificate,)))
    process, _ = start(
        "application-certificate",
        f'aadTenantId="{entra.tenant}"',
    )
    assert ask(process) == 200


def test_an_application_shows_the_secret_of_a_secret(start: Start, entra: StandInEntra) -> None:
    entra.register(Application(CLIENT, secret=SECRET))
    process, pod = start("application-secret", f'aadTenantId="{entra.tenant}"')
    assert ask(process) == 200
    assert SECRET not in json.dumps(pod.spec)
    assert SECRET not in process.log


def test_a_service_account_is_the_identity_that_its_annotation_names(
    start: Start,
    helm: Helm,
    entra: StandInEntra,
    token_file: Path,
    tmp_path: Path,
    objects: Objects,
) -> None:
    rendered = helm.render_file(VALUES / "workload-identity.yaml")
    webhook = Pod(rendered, tmp_path / "webhook", objects).webhook(token_file, entra.tenant)
    assert webhook
    process, _ = start("workload-identity", f'aadTenantId="{entra.tenant}"', **webhook)
    assert ask(process) == 200
    assert {token.claims["appid"] for token in entra.issued} == {CLIENT}


def test_everything_at_once_works(
    start: Start, target: Upstream, entra: StandInEntra, certificate: Any
) -> None:
    entra.register(Application(CLIENT, certificates=(certificate.certificate,)))
    process, pod = start(
        "everything-on",
        f'aadTenantId="{entra.tenant}"',
        f"metricsPort={free_port()}",
        # What needs a network beyond this machine.
        "extraEnv=[]",
        'otelGrpcEndpoint=""',
        # Nobody waits here for endpoints to catch up, nor for every worker's token.
        "shutdownDelaySeconds=0",
        "workers=1",
    )
    assert_probed(process, pod)
    assert ask(process) == 200
    (request,) = target.requests
    assert request.one("X-Scope-OrgID") == "team"
    assert settled(pod.port("metrics")).sum("aad_auth_proxy_requests_total") == 1


def test_each_route_goes_to_its_target_with_its_identity_and_lets_in_its_callers(
    start: Start,
    helm: Helm,
    target: Upstream,
    second_target: Upstream,
    entra: StandInEntra,
    certificate: Any,
) -> None:
    entra.register(Application(CLIENT, certificates=(certificate.certificate,)))
    entra.register(Application(TEAM_B, secret=SECRET))
    process, pod = start(
        "routes",
        f'routes[0].targetHost="{target.authority}/write"',
        f'routes[1].targetHost="{second_target.authority}"',
        f'routes[2].targetHost="{second_target.authority}"',
        *(f'routes[{number}].aadTenantId="{entra.tenant}"' for number in (1, 2)),
        **entra.managed_identity_environment(),
    )
    assert_probed(process, pod)
    wait_until("every route is ready", lambda: b'"ready, but' not in process.get("/ready").body)
    client, team_b = f"X-Authproxy-Token: {CLIENT_TOKEN}", f"X-Authproxy-Token: {TEAM_B_TOKEN}"

    def status(start: str, *fields: str, host: str = "proxy.test") -> int:
        return process.ask(message(start, *fields, host=host)).status

    assert status("POST /ingest", "Content-Length: 0") == 200
    assert status("GET /ingest") == 405
    assert status("GET /query/api/v1/query?query=up", client) == 200
    assert status("GET /query/api/v1/query?query=up") == 401
    assert status("GET /api", team_b, host="team-b.metrics.example.com") == 200
    assert status("GET /api", client, host="team-b.metrics.example.com") == 401
    assert status("GET /elsewhere") == 404
    written = target.only()
    assert (written.target, written.one("X-Scope-Orgid")) == (b"/write", "team")
    queried, of_team_b = second_target.requests
    assert queried.target == b"/api/v1/query?query=up"
    identities = {token.value: token.claims["appid"] for token in entra.issued}
    for request, identity in ((queried, CLIENT), (of_team_b, TEAM_B)):
        assert identities[str(request.one("Authorization")).removeprefix("Bearer ")] == identity
    assert SECRET not in process.log
    result = run_helm_test(helm.render_file(VALUES / "routes.yaml"), process.port)
    assert (result.returncode, result.stderr) == (0, "")


def test_helm_test_asks_for_every_route(
    start: Start, helm: Helm, target: Upstream, entra: StandInEntra
) -> None:
    process, _ = start(
        "routes",
        *(f'routes[{number}].targetHost="{target.authority}"' for number in range(3)),
        # Nobody knows these applications.
        *(f'routes[{number}].aadTenantId="{entra.tenant}"' for number in (1, 2)),
        **entra.managed_identity_environment(),
    )
    result = run_helm_test(helm.render_file(VALUES / "routes.yaml"), process.port)
    assert result.returncode == 1
    assert "ready, but for /query, team-b: no valid token" in result.stderr


def test_headers_of_somebody_elses_secret_reach_the_environment(
    helm: Helm, tmp_path: Path, objects: Objects
) -> None:
    pod = Pod(helm.render_file(VALUES / "pod-monitor.yaml"), tmp_path, objects)
    assert pod.environment["OVERRIDE_REQUEST_HEADERS"] == '{"X-Scope-OrgID": "team"}'


def test_no_values_file_leads_to_faults_in_the_settings(
    helm: Helm, values: Path, tmp_path: Path, objects: Objects, token_file: Path
) -> None:
    pod = Pod(helm.render_file(values), tmp_path / "volumes", objects)
    accounts = {"monitoring": CLIENT}
    environment = {**pod.webhook(token_file, TENANT, accounts), **pod.environment}
    if "AUDIENCE" not in environment and "LISTENING_SOCKET" in environment:
        environment["LISTENING_SOCKET"] = str(tmp_path / "socket")
    loaded = load_settings(environ=environment, serving=True)
    given = {name for name, origin in loaded.origins.items() if origin.startswith("environment")}
    assert loaded.settings.has_routes or {"TARGET_HOST", "INGESTION_URL"} & given


def test_the_sidecar_of_prometheus_is_free_of_faults(token_file: Path) -> None:
    example = yaml.safe_load((CHART / "examples/sidecar-kube-prometheus-stack.yaml").read_text())
    prometheus = example["prometheus"]
    (container,) = prometheus["prometheusSpec"]["containers"]
    account = prometheus["serviceAccount"]["annotations"]
    environment = {
        "AZURE_CLIENT_ID": account["azure.workload.identity/client-id"],
        "AZURE_TENANT_ID": TENANT,
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
        **{entry["name"]: entry["value"] for entry in container["env"]},
    }
    assert prometheus["prometheusSpec"]["podMetadata"]["labels"] == {
        "azure.workload.identity/use": "true"
    }
    settings = load_settings(environ=environment, serving=True).settings
    (write,) = prometheus["prometheusSpec"]["remoteWrite"]
    assert settings.forwards_only_remote_write
    # tests/deploy/test_manifests.py sees to the rest of the container.
    assert settings.listening_host == "127.0.0.1"
    assert write["url"] == f"http://127.0.0.1:{settings.listening_port}/api/v1/write"
