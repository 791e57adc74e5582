"""The proxy runs as deploy/kubernetes says, probed as the kubelet would.

Each container's environment is taken as it is declared, with the identity that
its manifest claims; see tests.support.deployed for what differs.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from authproxy.demo.stand_ins.directory import METRICS_INGESTION, METRICS_QUERY
from authproxy.demo.stand_ins.remote_write import HEADERS, Sample, encode
from tests.support.authority import Authority
from tests.support.deployed import Deployed, Started, Workspace, identity_of, started
from tests.support.forward_proxy import ForwardProxy
from tests.support.logfmt import parse_line
from tests.support.manifests import MANIFESTS, Manifest
from tests.support.probes import passes
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.scrape import settled
from tests.support.stand_ins.entra import StandInEntra
from tests.support.wire import message

SENT = 'level=info msg="Successfully sent request, returning response back."'


@pytest.fixture(scope="module")
def running(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The proxy of each manifest."""

    def deployed(name: str) -> Deployed:
        manifest = MANIFESTS[name]
        return Deployed(
            manifest.environment,
            authority,
            tmp_path_factory.mktemp("pod"),
            client=manifest.client_id or "",
            service_account=manifest.service_account,
        )

    with started(deployed) as running:
        yield running


#: Those with one target.
SINGLE = [name for name, each in MANIFESTS.items() if not each.has_routes]


@pytest.fixture(params=SINGLE)
def manifest(request: pytest.FixtureRequest) -> Manifest:
    return MANIFESTS[request.param]


@pytest.fixture
def pod(running: Started, manifest: Manifest) -> Deployed:
    return running(manifest.name)


def test_the_declared_probes_are_answered(pod: Deployed, manifest: Manifest) -> None:
    assert len(manifest.probes) >= 2
    for probe in manifest.probes.values():
        assert passes(probe, pod.proxy, manifest.environment)


def test_the_sidecar_is_reached_from_its_own_pod_alone(running: Started) -> None:
    """127.0.0.2 stands for the pod's address: what listens on all addresses listens there too."""
    pods = {name: running(name) for name in ("sidecar.yaml", "ingestion.yaml")}

    def reached(pod: Deployed) -> set[str]:
        ports = {"proxied": pod.proxy.port, "metrics": pod.metrics_port}
        return {name for name, port in ports.items() if takes_connections("127.0.0.2", port)}

    assert reached(pods["sidecar.yaml"]) == set()
    assert reached(pods["ingestion.yaml"]) == {"proxied", "metrics"}


def takes_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_request_gets_through_and_the_log_says_so(pod: Deployed, manifest: Manifest) -> None:
    if "query" in manifest.name:
        pod.store.audiences = (METRICS_QUERY,)
        answer = pod.proxy.get("/api/v1/query?query=vector(1)")
        sent_to = f"https://{pod.host}"
    else:
        pod.store.audiences = (METRICS_INGESTION,)
        answer = pod.write()
        sent_to = manifest.environment["INGESTION_URL"]
    assert answer.status == 200
    line = parse_line(pod.proxy.wait_for_line(f"{SENT}.* StatusCode=200( |$)"))
    port = pod.store.url.rpartition(":")[2]
    assert line["Request"].replace(f":{port}", "").startswith(sent_to)
    assert "level=error" not in pod.proxy.log


def test_it_is_whom_the_manifest_names(pod: Deployed, manifest: Manifest) -> None:
    expected = manifest.client_id or manifest.environment["AAD_CLIENT_ID"]
    assert {token.claims["appid"] for token in pod.entra.issued} == {expected}


def test_the_metrics_are_where_they_are_declared(pod: Deployed, manifest: Manifest) -> None:
    refreshes = "aad_auth_proxy_token_refresh_total"
    wait_until(  # counted just after the token is there
        "the refresh is counted",
        lambda: settled(pod.metrics_port).sum(refreshes, is_success="true") > 0,
    )


def test_one_deployment_takes_writes_and_queries_to_their_endpoints(
    authority: Authority, entra: StandInEntra, tmp_path: Path
) -> None:
    """By the hosts' real names: a forward proxy leads each port to that port on loopback."""
    manifest = MANIFESTS["routes.yaml"]
    config = manifest.settings_file(tmp_path)
    hosts = [
        str(urlsplit(route["target_host"]).hostname or route["target_host"])
        for route in yaml.safe_load(config.read_text())["routes"]
    ]
    with ExitStack() as stack:
        stores = [stack.enter_context(Workspace(entra, authority, host)) for host in hosts]
        forward = stack.enter_context(ForwardProxy())
        for store, host, audience in zip(
            stores, hosts, (METRICS_INGESTION, METRICS_QUERY), strict=True
        ):
            store.audiences = (audience,)
            port = store.url.rpartition(":")[2]
            config.write_text(config.read_text().replace(host, f"{host}:{port}"))
        environment = {
            **manifest.environment,
            **identity_of(manifest.environment, entra, tmp_path),
            "AUTHPROXY_CONFIG": str(config),
            "METRICS_PORT": str(free_port()),
            "SHUTDOWN_DELAY_SECONDS": "0",
            "TARGET_CA_FILE": str(authority.bundle),
            "HTTPS_PROXY": f"http://127.0.0.1:{forward.port}",
            "NO_PROXY": "127.0.0.1",
        }
        del environment["LISTENING_PORT"]
        proxy = stack.enter_context(ProxyProcess(environment))
        proxy.wait_for_every_route()
        body = encode([Sample.of("up", 1.0, int(time.time() * 1000), job="sample")])
        fields = [f"{name}: {value}" for name, value in HEADERS.items()]
        assert proxy.ask(message("POST /ingest", *fields, body=body)).status == 200
        assert proxy.get("/query/api/v1/query?query=vector(1)").status == 200
        assert proxy.get("/ingest").status == 405
