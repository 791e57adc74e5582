"""What Helm prints after an installation: what is left to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.deploy.chart.conftest import EXAMPLES
from tests.support.helm import CHART, NAMESPACE, RELEASE, Helm

pytestmark = pytest.mark.real("helm")

VALUES = Path(__file__).parent / "values"
LEAST = VALUES / "default-identity.yaml"


Notes = Callable[..., str]


@pytest.fixture(scope="module")
def notes(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Notes:
    """Return the notes for a values file, with values besides.

    `helm install` alone prints them, and wants a cluster. A copy of the chart
    renders them into a manifest.
    """
    chart = tmp_path_factory.mktemp("notes") / "authproxy"
    shutil.copytree(CHART, chart)
    shown = '{"notes": {{ include "authproxy/templates/NOTES.txt" . | toJson }}}'
    (chart / "templates" / "notes.yaml").write_text(shown)

    def notes(values: Path, *assignments: str) -> str:
        arguments = [part for one in assignments for part in ("--set", one)]
        result = helm.run(
            *("template", RELEASE, str(chart), "--namespace", NAMESPACE),
            *("--show-only", "templates/notes.yaml", "--values", str(values), *arguments),
        )
        assert result.returncode == 0, result.stderr
        said: str = yaml.safe_load(result.stdout)["notes"]
        return said

    return notes


def test_remote_writes_need_the_publisher_role_and_a_federated_credential(notes: Notes) -> None:
    said = notes(CHART / "examples" / "ingestion.yaml")
    assert 'role assignment create --role "Monitoring Metrics Publisher"' in said
    assert "--assignee 11111111-1111-1111-1111-111111111111" in said
    assert "--subject system:serviceaccount:observability:rel-authproxy" in said
    assert "- url: http://rel-authproxy.observability.svc/api/v1/write" in said
    assert "Prometheus keeps its samples meanwhile." in said
    assert "helm test rel --namespace observability" in said
    assert "exec deployment/rel-authproxy -- authproxy check" in said
    assert "WARNING" not in said


def test_queries_need_the_reader_role(notes: Notes) -> None:
    said = notes(LEAST, "service.port=8080")
    assert 'role assignment create --role "Monitoring Data Reader"' in said
    assert "federated-credential" not in said
    assert "http://rel-authproxy.observability.svc:8080\n" in said
    assert "WARNING" not in said
    assert "takes up to half an hour" in said
    assert "keeps its samples" not in said  # nothing is written


def test_who_may_connect_is_said_and_how_to_open_it(notes: Notes) -> None:
    said = notes(LEAST)
    assert "CLOSED to all but its named clients." in said
    assert '\n     rel-authproxy-client: "true"\n' in said
    assert "namespaceSelector" in said
    assert "networkPolicy.allowSameNamespace=true" in said
    said = notes(LEAST, "networkPolicy.allowSameNamespace=true")
    assert "All pods in namespace observability may connect." in said
    assert "CLOSED" not in said
    named = "networkPolicy.allowFrom[0].podSelector.matchLabels.app=writer"
    assert "and the peers in networkPolicy.allowFrom." in notes(LEAST, named)


def test_who_may_scrape_is_said(notes: Notes) -> None:
    assert "Port 9090" not in notes(LEAST)
    said = notes(LEAST, "metricsPort=9090")
    assert "Port 9090 (metrics) is open to the peers in networkPolicy.allowMetricsFrom only" in said
    said = notes(LEAST, "metricsPort=9090", "networkPolicy.allowMetricsFrom=null")
    assert "WARNING: nobody may scrape port 9090" in said


def test_a_pasted_endpoint_needs_no_path_from_prometheus(notes: Notes) -> None:
    host = "https://x.westeurope-1.metrics.ingest.monitor.azure.com"
    said = notes(LEAST, f"targetHost={host}")
    assert "- url: http://rel-authproxy.observability.svc/dataCollectionRules/..." in said
    said = notes(LEAST, f"targetHost={host}/dataCollectionRules/x/api/v1/write")
    assert "- url: http://rel-authproxy.observability.svc\n" in said


@pytest.mark.parametrize(
    ("assignments", "warning"),
    [
        (["networkPolicy.enabled=false"], "networkPolicy.enabled is false"),
        (["service.type=LoadBalancer"], "service.type is LoadBalancer and clients need no token"),
        (["overrideRequestHeaders.X-Key=x"], "overrideRequestHeaders is kept in clear"),
        (
            ["audience=https://monitor.azure.com"],
            "audience=https://monitor.azure.com does not fit",
        ),
        (["aadTokenRefreshIntervalInMinutes=60"], "aadTokenRefreshIntervalInMinutes has no effect"),
    ],
)
def test_what_is_unwise_is_said(notes: Notes, assignments: list[str], warning: str) -> None:
    assert f"WARNING: {warning}" in notes(LEAST, *assignments)


def test_an_audience_that_fits_is_no_reason_to_warn(notes: Notes) -> None:
    assert "WARNING" not in notes(LEAST, "audience=https://prometheus.monitor.azure.com/.default")
    ingests = "targetHost=x.westeurope-1.metrics.ingest.monitor.azure.com"
    assert "WARNING" not in notes(LEAST, ingests, "audience=https://monitor.azure.com")
    said = notes(LEAST, ingests, "audience=https://prometheus.monitor.azure.com")
    assert "takes tokens for https://monitor.azure.com" in said


def test_a_token_for_clients_is_mentioned_and_calms(notes: Notes) -> None:
    said = notes(LEAST, "service.type=LoadBalancer", "inboundTokens.existingSecret=tokens")
    assert "token of the Secret tokens" in said
    assert "WARNING" not in said


@pytest.mark.parametrize("file", [*EXAMPLES, VALUES / "socket.yaml"], ids=lambda path: path.stem)
def test_notes_have_no_holes(notes: Notes, file: Path) -> None:
    said = notes(file)
    assert "authproxy check" in said
    assert "<no value>" not in said
    assert "<nil>" not in said
    assert "\n\n\n" not in said
