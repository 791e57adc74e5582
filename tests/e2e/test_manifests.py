"""The proxy runs as deploy/kubernetes says, probed as the kubelet would.

Each container's environment is taken as it is declared, with the identity that
its manifest claims; see tests.support.deployed for what differs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authproxy.demo.directory import METRICS_INGESTION, METRICS_QUERY
from tests.support.authority import Authority
from tests.support.deployed import Deployed, Started, started
from tests.support.logfmt import parse_line
from tests.support.manifests import MANIFESTS, Manifest
from tests.support.process import wait_until
from tests.support.scrape import settled

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


@pytest.fixture(params=MANIFESTS)
def manifest(request: pytest.FixtureRequest) -> Manifest:
    return MANIFESTS[request.param]


@pytest.fixture
def pod(running: Started, manifest: Manifest) -> Deployed:
    return running(manifest.name)


def test_the_declared_probes_are_answered(pod: Deployed, manifest: Manifest) -> None:
    probes = [probe for name, probe in manifest.proxy.items() if name.endswith("Probe")]
    assert len(probes) >= 2
    for probe in probes:
        # Its port is LISTENING_PORT: tests/test_manifests.py.
        assert pod.proxy.get(probe["httpGet"]["path"]).status == 200


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
