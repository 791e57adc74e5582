"""What the chart renders, from every values file, for the oldest and the newest Kubernetes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from authproxy.settings import Settings
from tests.deploy.chart.conftest import MATRIX
from tests.support.helm import (
    CHART,
    NAMESPACE,
    NEWEST,
    OLDEST,
    Document,
    Helm,
    is_test,
    kinds,
    only,
    plain_environment,
    proxy_container,
)
from tests.support.storage import LOG_BYTES, buffered_bytes, in_bytes, memory_bytes

pytestmark = pytest.mark.real("helm")

VERSIONS = (OLDEST, NEWEST)
VALUES = Path(__file__).parent / "values"
#: All that no values file renders fewer than.
ALWAYS = {"Deployment"}
EVERYTHING = {
    "ConfigMap",
    "Deployment",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "PodMonitor",
    "PrometheusRule",
    "Secret",
    "SecretProviderClass",
    "Service",
    "ServiceAccount",
    "ServiceMonitor",
}
OPERATOR = "monitoring.coreos.com/v1"
DRIVER = "secrets-store.csi.x-k8s.io/v1"


def every_document(helm: Helm, values: Path) -> Iterator[tuple[str, Document]]:
    for version in VERSIONS:
        for document in helm.render_file(values, version=version):
            yield version, document


def test_lint_has_nothing_to_say(helm: Helm, values: Path) -> None:
    result = helm.run("lint", "--strict", str(CHART), "--values", str(values))
    assert result.returncode == 0, result.stdout
    assert "[WARNING]" not in result.stdout
    assert "[ERROR]" not in result.stdout


def test_lint_takes_the_chart_as_it_is(helm: Helm) -> None:
    assert helm.run("lint", "--strict", str(CHART)).returncode == 0


@pytest.fixture(scope="module")
def seen() -> set[tuple[str, str]]:
    """What has been held against the schemas already: many files render the same."""
    return set()


def test_what_is_of_kubernetes_fits_its_schemas(
    helm: Helm, values: Path, seen: set[tuple[str, str]]
) -> None:
    for version, document in every_document(helm, values):
        if document["apiVersion"] in (OPERATOR, DRIVER):
            continue
        key = version, json.dumps(document)
        if key not in seen:
            assert kubernetes_validate.validate(document, version, strict=True) == version
            seen.add(key)


def test_a_mistyped_field_would_not_fit(helm: Helm) -> None:
    deployment = json.loads(
        json.dumps(only(helm.render_file(VALUES / "everything-on.yaml"), "Deployment"))
    )
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readynessProbe"] = container.pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


def all_of(helm: Helm, api_version: str) -> list[Document]:
    return [
        document
        for values in MATRIX
        for _, document in every_document(helm, values)
        if document["apiVersion"] == api_version
    ]


def test_what_is_of_the_prometheus_operator_fits_its_models(helm: Helm) -> None:
    # Here and not above: it takes seconds to load.
    from cloudcoil.models.prometheus_operator import v1

    def kept(document: Document) -> Any:
        """Return what the model has of a document: it drops what it does not know."""
        model = getattr(v1, document["kind"]).model_validate(document)
        return model.model_dump(by_alias=True, mode="json", exclude_unset=True)

    documents = all_of(helm, OPERATOR)
    assert {one["kind"] for one in documents} == {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
    for document in documents:
        assert kept(document) == document
    mistyped = json.loads(json.dumps(documents).replace('"interval"', '"intervall"'))
    assert any(kept(document) != document for document in mistyped)


def test_the_secret_provider_class_asks_for_the_certificate_with_its_key(helm: Helm) -> None:
    found = {}
    for document in all_of(helm, DRIVER):
        assert set(document["spec"]) == {"provider", "parameters"}
        assert document["spec"]["provider"] == "azure"
        parameters = document["spec"]["parameters"]
        assert all(isinstance(value, str) for value in parameters.values())
        objects = yaml.safe_load(parameters.pop("objects"))
        (wanted,) = (yaml.safe_load(one) for one in objects["array"])
        assert wanted["objectName"] == "authproxy"
        assert wanted["objectType"] == "secret"
        found[wanted.get("objectFormat", "pem")] = parameters
    assert found == {
        "pem": {
            "keyvaultName": "example-vault",
            "tenantId": "00000000-0000-0000-0000-000000000000",
            "usePodIdentity": "false",
            "clientID": "22222222-2222-2222-2222-222222222222",
        },
        "pfx": {
            "keyvaultName": "example-vault",
            "tenantId": "00000000-0000-0000-0000-000000000000",
            "usePodIdentity": "false",
            "useVMManagedIdentity": "true",
            "userAssignedIdentityID": "22222222-2222-2222-2222-222222222222",
            "cloudName": "AzureUSGovernmentCloud",
        },
    }


def test_the_values_files_render_every_kind_there_is(helm: Helm) -> None:
    rendered = [kinds(helm.render_file(values)) for values in MATRIX]
    assert set.union(*rendered) == EVERYTHING
    assert set.intersection(*rendered) == ALWAYS
    assert kinds(helm.render_file(VALUES / "everything-off.yaml")) == {"Deployment", "Service"}


def test_names_are_of_the_release_and_unique(helm: Helm, values: Path) -> None:
    documents = helm.render_file(values)
    names = [(one["kind"], one["metadata"]["name"]) for one in documents]
    assert len(names) == len(set(names))
    for document in documents:
        assert document["metadata"]["namespace"] == NAMESPACE
        assert len(document["metadata"]["name"]) <= 63
        assert all(len(label) <= 63 for label in document["metadata"]["labels"].values())


def test_selectors_find_the_proxys_pods_and_no_others(helm: Helm, values: Path) -> None:
    documents = helm.render_file(values)
    deployment = only(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    for one in documents:
        match one:
            case {"kind": "Service", "spec": {"selector": selector}}:
                selectors.append(selector)
            case {
                "kind": "PodDisruptionBudget" | "PodMonitor",
                "spec": {"selector": {"matchLabels": selector}},
            }:
                selectors.append(selector)
            case {"kind": "NetworkPolicy", "spec": {"podSelector": {"matchLabels": selector}}}:
                selectors.append(selector)
    for selector in selectors:
        assert selector.items() <= labels.items()
        for one in documents:
            if is_test(one):
                assert not selector.items() <= one["metadata"]["labels"].items()


def test_the_service_monitor_finds_the_metrics_service_and_its_port(helm: Helm) -> None:
    documents = helm.render_file(VALUES / "everything-on.yaml")
    monitor = only(documents, "ServiceMonitor")["spec"]
    services = [one for one in documents if one["kind"] == "Service"]
    wanted = monitor["selector"]["matchLabels"].items()
    (found,) = (one for one in services if wanted <= one["metadata"]["labels"].items())
    (port,) = found["spec"]["ports"]
    assert port["name"] == monitor["endpoints"][0]["port"]
    assert port["targetPort"] in {one["name"] for one in proxy_container(documents)["ports"]}


def pod_specs(documents: list[Document]) -> Iterator[dict[str, Any]]:
    for document in documents:
        match document:
            case {"kind": "Deployment", "spec": {"template": {"spec": spec}}}:
                yield spec
            case {"kind": "Pod", "spec": spec}:
                yield spec


def offences(spec: dict[str, Any]) -> list[str]:
    """Return what the restricted Pod Security Standard holds against a pod."""
    found = [field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    volumes = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
    found += [f"volume {one['name']}" for one in spec.get("volumes", []) if not volumes & set(one)]
    of_pod = spec.get("securityContext", {})
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        own = container.get("securityContext", {})
        both = {**of_pod, **own}
        name = container["name"]
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(f"{name}: allowPrivilegeEscalation")
        if own.get("privileged") or any("hostPort" in one for one in container.get("ports", [])):
            found.append(f"{name}: privileged or hostPort")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            found.append(f"{name}: capabilities")
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            found.append(f"{name}: runs as root")
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append(f"{name}: seccompProfile")
    return found


def test_pods_fit_the_restricted_standard(helm: Helm, values: Path) -> None:
    specs = list(pod_specs(helm.render_file(values)))
    assert specs
    if values.stem == "everything-off":
        assert all(offences(spec) for spec in specs)
        return
    for spec in specs:
        assert offences(spec) == []
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False


def test_the_proxy_can_write_to_tmp_and_nowhere_else(helm: Helm) -> None:
    documents = helm.render_file(VALUES / "default-identity.yaml")
    container = proxy_container(documents)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_storage_fits_what_the_workers_may_buffer(helm: Helm, workers: int) -> None:
    documents = helm.render_file(VALUES / "default-identity.yaml", "--set", f"workers={workers}")
    spec = only(documents, "Deployment")["spec"]["template"]["spec"]
    resources = proxy_container(documents)["resources"]
    size = in_bytes(spec["volumes"][0]["emptyDir"]["sizeLimit"])
    assert size == workers * buffered_bytes() * 5 // 4
    assert resources["requests"]["ephemeral-storage"] == f"{workers * buffered_bytes() >> 20}Mi"
    # A pod whose files are larger than its containers' limits together is evicted.
    assert in_bytes(resources["limits"]["ephemeral-storage"]) == size + LOG_BYTES
    assert in_bytes(resources["limits"]["memory"]) >= memory_bytes(workers)


def test_storage_that_is_given_is_left_as_it_is(helm: Helm) -> None:
    def resources(*assignments: str) -> Any:
        arguments = [part for one in assignments for part in ("--set-json", one)]
        documents = helm.render_file(VALUES / "default-identity.yaml", *arguments)
        return proxy_container(documents).get("resources")

    both = '{"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "2Gi"}}'
    given = resources(f"resources={both}")
    assert given["requests"]["ephemeral-storage"] == "1Gi"
    assert given["limits"]["ephemeral-storage"] == "2Gi"
    assert "limits" not in resources("resources.limits=null")
    assert resources("resources=null") is None
    assert resources('tmp.sizeLimit="1Gi"')["limits"]["ephemeral-storage"] == "1152Mi"


def test_secrets_are_mounted_read_only_and_for_the_group_alone(helm: Helm) -> None:
    documents = helm.render_file(VALUES / "application-certificate.yaml")
    spec = only(documents, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (one for one in spec["volumes"] if "secret" in one)
    assert volume["secret"]["defaultMode"] == 0o440
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    (mount,) = (
        one for one in proxy_container(documents)["volumeMounts"] if one["name"] == volume["name"]
    )
    assert mount["readOnly"] is True


def test_no_secret_is_in_clear(helm: Helm, values: Path) -> None:
    container = proxy_container(helm.render_file(values))
    secrets = {name for name, one in Settings.declared.items() if one.kind.secret}
    assert not secrets & set(plain_environment(container))
    for name, value in plain_environment(container).items():
        assert not name.endswith(("_SECRET", "_PASSWORD", "_TOKEN")), value


def test_overridden_headers_are_in_a_secret_and_nowhere_else(helm: Helm) -> None:
    headers = json.dumps('{"X-Key": "s3cr3t"}')
    documents = helm.render_file(
        VALUES / "default-identity.yaml", "--set-json", f"overrideRequestHeaders={headers}"
    )
    assert "X-Key" not in json.dumps([one for one in documents if one["kind"] != "Secret"])
    assert "OVERRIDE_REQUEST_HEADERS" not in plain_environment(proxy_container(documents))


def test_a_changed_header_restarts_the_pods(helm: Helm) -> None:
    def annotations(value: str) -> dict[str, str]:
        documents = helm.render_file(
            VALUES / "default-identity.yaml", "--set", f"overrideRequestHeaders.X-Key={value}"
        )
        template = only(documents, "Deployment")["spec"]["template"]
        found: dict[str, str] = template["metadata"]["annotations"]
        return found

    assert annotations("a") == annotations("a")
    assert annotations("a") != annotations("b")


def test_the_retired_charts_release_can_be_upgraded_in_place(helm: Helm) -> None:
    documents = helm.render_file(VALUES / "retired.yaml")
    # A Deployment's selector cannot change.
    assert only(documents, "Deployment")["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "aad-auth-proxy",
        "app.kubernetes.io/instance": "rel",
    }
    assert only(documents, "Service")["metadata"]["name"] == "rel-aad-auth-proxy"
    assert plain_environment(proxy_container(documents)) == {
        "AAD_CLIENT_ID": "a711a6a4-1052-44eb-aec8-182e2b604c7f",
        "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "10",
        "AUDIENCE": "https://monitor.azure.com",
        "IDENTITY_TYPE": "userAssigned",
        "LISTENING_PORT": "8081",
        "OTEL_GRPC_ENDPOINT": "http://localhost:4317",
        "OTEL_SERVICE_NAME": "aad_auth_proxy",
        "TARGET_HOST": "https://azure-monitor-workspace.eastus.prometheus.monitor.azure.com",
    }


@pytest.mark.parametrize(
    ("identity", "asked", "labelled"),
    [
        ("workloadIdentity", "", True),
        ("WorkloadIdentity", "false", False),
        ("default", "true", True),
        ("default", "azure", True),
        ("userAssigned", "", False),
    ],
)
def test_the_label_of_workload_identity_is_where_it_is_asked_for(
    helm: Helm, identity: str, asked: str, labelled: bool
) -> None:
    documents = helm.render_file(
        VALUES / "workload-identity.yaml",
        *("--set-string", f"identityType={identity},addWorkloadIdentityLabel={asked}"),
    )
    labels = only(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert (labels.get("azure.workload.identity/use") == "true") is labelled
    account = only(documents, "ServiceAccount")["metadata"]
    annotated = "azure.workload.identity/client-id" in account.get("annotations", {})
    assert annotated is labelled


def test_replicas_are_left_to_the_autoscaler(helm: Helm) -> None:
    scaled = only(helm.render_file(VALUES / "everything-on.yaml"), "Deployment")
    fixed = only(helm.render_file(VALUES / "everything-off.yaml"), "Deployment")
    assert "replicas" not in scaled["spec"]
    assert fixed["spec"]["replicas"] == 1


def test_each_rollout_is_spread_by_itself(helm: Helm) -> None:
    def constraints(version: str) -> list[dict[str, Any]]:
        documents = helm.render_file(VALUES / "default-identity.yaml", version=version)
        spec = only(documents, "Deployment")["spec"]["template"]["spec"]
        found: list[dict[str, Any]] = spec["topologySpreadConstraints"]
        return found

    for version in VERSIONS:
        keys = [one["topologyKey"] for one in constraints(version)]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        assert all("matchLabels" in one["labelSelector"] for one in constraints(version))
        assert all("matchLabelKeys" in one for one in constraints(version))
