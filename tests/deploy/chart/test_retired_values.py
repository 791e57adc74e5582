"""Each value that the retired chart had or documented renders, and means what it meant.

From Azure/aad-auth-proxy: both versions of deploy/chart/aad-auth-proxy/values.yaml and of its
template, the parameters of docs/getting-started/GETTING_STARTED.md in all its versions, and
IDENTITY.md; and from Azure Monitor's article about it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.docs.test_migrating import CHART_VALUES
from tests.support.helm import (
    NEWEST,
    Document,
    Helm,
    is_test,
    only,
    plain_environment,
    proxy_container,
)
from tests.support.pages import blocks
from tests.support.source import ROOT

pytestmark = pytest.mark.real("helm")

RETIRED = Path(__file__).parent / "values" / "retired.yaml"
CLIENT, TENANT = "a711a6a4-1052-44eb-aec8-182e2b604c7f", "f511a6a4-1052-44eb-aec8-182e2b604c7f"
QUERY = "https://azure-monitor-workspace.eastus.prometheus.monitor.azure.com"
INGESTION = "https://proxy-test-abc123.eastus-1.metrics.ingest.monitor.azure.com"
APPLICATION = {
    "identityType": "aadApplication",
    "aadClientId": CLIENT,
    "aadTenantId": TENANT,
    "aadClientCertificatePath": "/certs/AuthProxyPem.pem",
}
IMAGE = {"repository": "mcr.example.com/x"}
RESOURCES = ("requests", "limits")
TERMS = [
    {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
    {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
    {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]},
    {"key": "kubernetes.io/role", "operator": "NotIn", "values": ["master"]},
]


def affinity(**more: None) -> dict[str, Any]:
    """Return the affinity of the retired chart's values; its first one had a field too many."""
    term = {**more, "matchExpressions": TERMS}
    required = {"nodeSelectorTerms": [term]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


Option = tuple[dict[str, Any], dict[str, Any]]

#: For each value, or several that go together, what it may be; and what the container then has in
#: its environment. None: no such variable.
VARIABLES: dict[str, list[Option]] = {
    "listeningPort": [
        ({"listeningPort": port}, {"LISTENING_PORT": str(port)}) for port in (8081, "8082")
    ],
    "audience": [
        ({"audience": audience}, {"AUDIENCE": audience})
        for host in ("https://prometheus.monitor.azure.com", "https://monitor.azure.com")
        for audience in (host, f"{host}/.default")
    ],
    "targetHost": [
        ({"targetHost": target}, {"TARGET_HOST": target})
        for target in (QUERY, INGESTION, INGESTION.replace("https", "http"))
    ],
    "identityType": [
        ({"identityType": ""}, {"IDENTITY_TYPE": None}),
        *(
            ({"identityType": kind, "aadClientId": CLIENT}, {"IDENTITY_TYPE": kind})
            for kind in ("systemAssigned", "systemassigned", "userAssigned", "userassigned")
        ),
        *(
            (
                {**APPLICATION, "identityType": kind},
                {
                    "IDENTITY_TYPE": kind,
                    "AAD_CLIENT_ID": CLIENT,
                    "AAD_TENANT_ID": TENANT,
                    "AAD_CLIENT_CERTIFICATE_PATH": "/certs/AuthProxyPem.pem",
                },
            )
            for kind in ("aadApplication", "aadapplication")
        ),
    ],
    "aadTokenRefreshIntervalInPercentage": [
        (
            {"aadTokenRefreshIntervalInPercentage": share},
            {"AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": str(share)},
        )
        for share in ("10", 10)
    ],
    "aadTokenRefreshIntervalInMinutes": [
        (
            {"aadTokenRefreshIntervalInMinutes": minutes},
            {"AAD_TOKEN_REFRESH_INTERVAL_IN_MINUTES": None},
        )
        for minutes in ("60", 60, "10", "")
    ],
    "otelServiceName": [
        ({"otelServiceName": "aad_auth_proxy"}, {"OTEL_SERVICE_NAME": "aad_auth_proxy"})
    ],
    "otelGrpcEndpoint": [
        ({"otelGrpcEndpoint": endpoint}, {"OTEL_GRPC_ENDPOINT": endpoint or None})
        for endpoint in ("http://localhost:4317", "")
    ],
}
#: Likewise, and where in the Deployment what has to be.
PLACES: dict[str, list[Option]] = {
    "replicaCount": [({"replicaCount": 1}, {"replicas": 1})],
    "image": [
        (
            {"image": {**IMAGE, "tag": "0.1.0-main-01-10-2024-08b31473"}},
            {"container.image": "mcr.example.com/x:0.1.0-main-01-10-2024-08b31473"},
        ),
        ({"image": {**IMAGE, "tag": "v1"}}, {"container.image": "mcr.example.com/x:v1"}),
        (
            {"image": {**IMAGE, "pullPolicy": "IfNotPresent"}},
            {"container.imagePullPolicy": "IfNotPresent"},
        ),
    ],
    "imagePullSecrets": [
        ({"imagePullSecrets": secrets}, {"pod.imagePullSecrets": secrets or None})
        for secrets in ([], [{"name": "acr"}])
    ],
    "podAnnotations": [({"podAnnotations": {"a": "b"}}, {"annotations.a": "b"})],
    "podSecurityContext": [
        ({"podSecurityContext": {"fsGroup": 2000}}, {"pod.securityContext.fsGroup": 2000})
    ],
    "securityContext": [
        ({"securityContext": {"runAsUser": 1000}}, {"container.securityContext.runAsUser": 1000})
    ],
    "resources": [
        (
            {"resources": {part: {"cpu": "250m", "memory": "128Mi"} for part in RESOURCES}},
            {f"container.resources.{part}.cpu": "250m" for part in RESOURCES},
        )
    ],
    "nodeSelector": [({"nodeSelector": {"pool": "a"}}, {"pod.nodeSelector.pool": "a"})],
    "tolerations": [
        ({"tolerations": [{"operator": "Exists"}]}, {"pod.tolerations": [{"operator": "Exists"}]})
    ],
    "affinity": [
        ({"affinity": {}}, {"pod.affinity": None}),
        ({"affinity": affinity()}, {"pod.affinity": affinity()}),
        # A null is dropped by the cluster; helm keeps it.
        (
            {"affinity": affinity(labelSelector=None)},
            {"pod.affinity": affinity(labelSelector=None)},
        ),
    ],
    "serviceAccount": [
        (
            {"serviceAccount": {"create": create, "name": "aad-auth-proxy-sa"}},
            {"pod.serviceAccountName": "aad-auth-proxy-sa"},
        )
        for create in (False, True)
    ],
    "nameOverride": [({"nameOverride": "aad-auth-proxy"}, {"container.name": "authproxy"})],
}
#: The retired template put it on the pods for this word alone; ours does for `true` as well.
LABELS = {"": False, "azure": True, "true": True, "false": False}


def rendered(helm: Helm, values: Mapping[str, Any]) -> list[Document]:
    """Return the manifests of the retired chart's installation with other values."""
    assert set(values) <= CHART_VALUES
    arguments = [
        part
        for name, value in values.items()
        for part in ("--set-json", f"{name}={json.dumps(value)}")
    ]
    documents = helm.render_file(RETIRED, *arguments)
    for document in documents:
        kubernetes_validate.validate(_without_nulls(document), NEWEST, strict=True)
    return documents


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def together(options: Mapping[str, list[Option]]) -> list[Option]:
    """Return few rows in which each option is: rendering takes its time."""
    rows: list[Option] = []
    for number in range(max(map(len, options.values()))):
        row: Option = {}, {}
        for each in options.values():
            for whole, part in zip(row, each[number % len(each)], strict=True):
                whole.update(part)
        rows.append(row)
    return rows


@pytest.mark.parametrize(("given", "expected"), together(VARIABLES))
def test_a_value_reaches_the_container_as_its_variable(
    helm: Helm, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    environment = plain_environment(proxy_container(rendered(helm, given)))
    assert {name: environment.get(name) for name in expected} == expected


@pytest.mark.parametrize(("given", "expected"), together(PLACES))
def test_a_value_arrives_where_it_belongs(
    helm: Helm, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    deployment = only(rendered(helm, given), "Deployment")["spec"]
    template = deployment["template"]
    parts = {
        "replicas": deployment["replicas"],
        "annotations": template["metadata"]["annotations"],
        "pod": template["spec"],
        "container": template["spec"]["containers"][0],
    }

    def at(place: str) -> Any:
        found: Any = parts
        for part in place.split("."):
            found = found.get(part)
        return found

    assert {place: at(place) for place in expected} == expected


@pytest.mark.parametrize("asked", LABELS)
def test_the_label_of_workload_identity_is_asked_for_as_it_was(helm: Helm, asked: str) -> None:
    documents = rendered(helm, {"identityType": "", "addWorkloadIdentityLabel": asked})
    labels = only(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert (labels.get("azure.workload.identity/use") == "true") is LABELS[asked]


@pytest.mark.parametrize(
    "headers", ["{}", '{"header1": "value1", "header2": "value2" }'], ids=["none", "two"]
)
def test_headers_come_from_a_secret(helm: Helm, headers: str) -> None:
    documents = rendered(helm, {"overrideRequestHeaders": headers})
    secrets = [one for one in documents if one["kind"] == "Secret" and not is_test(one)]
    kept = [yaml.safe_dump(one) for one in secrets]
    assert len(kept) == (headers != "{}")


def test_service_and_autoscaler_are_as_they_were(helm: Helm) -> None:
    scaled = {"enabled": True, "minReplicas": 1, "maxReplicas": 3}
    share = {"targetCPUUtilizationPercentage": 80, "targetMemoryUtilizationPercentage": 80}
    documents = rendered(
        helm, {"autoscaling": {**scaled, **share}, "service": {"type": "ClusterIP", "port": 80}}
    )
    assert "replicas" not in only(documents, "Deployment")["spec"]
    scaler = only(documents, "HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 3)
    service = only(documents, "Service")["spec"]
    assert (service["type"], service["ports"][0]["port"]) == ("ClusterIP", 80)
    assert service["ports"][0]["targetPort"] == "http"


def test_the_service_account_is_made_with_its_annotations(helm: Helm) -> None:
    given = {"create": True, "name": "mine", "annotations": {"a": "b"}}
    account = only(rendered(helm, {"serviceAccount": given}), "ServiceAccount")["metadata"]
    assert (account["name"], account["annotations"]) == ("mine", {"a": "b"})


def test_every_value_of_the_retired_chart_is_tried() -> None:
    rows = [*together(VARIABLES), *together(PLACES)]
    tried = {name for given, _ in rows for name in given}
    tried |= {"addWorkloadIdentityLabel", "overrideRequestHeaders", "service", "autoscaling"}
    assert tried | {"fullnameOverride"} == CHART_VALUES
    assert set(yaml.safe_load(RETIRED.read_text())) == CHART_VALUES


def test_the_clients_that_the_page_names_are_let_in_when_the_policy_is_made(helm: Helm) -> None:
    page = ROOT / "docs" / "migrating.md"
    [code] = [one.code for one in blocks(page, "yaml") if "networkPolicy" in one.code]
    named = json.dumps(yaml.safe_load(code)["networkPolicy"])
    documents = helm.render_file(RETIRED, "--set-json", f"networkPolicy={named}")
    rule = only(documents, "NetworkPolicy")["spec"]["ingress"][0]
    assert yaml.safe_load(code)["networkPolicy"]["allowFrom"][0] in rule["from"]
    assert {"podSelector": {"matchLabels": {"rel-aad-auth-proxy-client": "true"}}} in rule["from"]
