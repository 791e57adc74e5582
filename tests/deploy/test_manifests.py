"""deploy/kubernetes: valid, hardened, and in step with itself and with the settings."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from authproxy.demo.stand_ins.directory import METRICS_INGESTION, METRICS_QUERY
from authproxy.settings import Settings, load_settings
from tests.support.manifests import (
    MANIFESTS,
    VERSIONS,
    Manifest,
    Object,
    check_object,
    webhook_variables,
)
from tests.support.pages import blocks
from tests.support.source import ROOT
from tests.support.storage import LOG_BYTES, buffered_bytes, in_bytes, memory_bytes

each_manifest = pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
DEPLOYED = {name: each for name, each in MANIFESTS.items() if each.all("Deployment")}
each_deployment = pytest.mark.parametrize("manifest", DEPLOYED.values(), ids=DEPLOYED)


def in_the_operators_object(values: str) -> Object:
    """Return the proxy in values of kube-prometheus-stack."""
    [container] = yaml.safe_load(values)["prometheus"]["prometheusSpec"]["containers"]
    return dict(container)


def of_the_page() -> Object:
    """Return the proxy in docs/kubernetes.md."""
    page = ROOT / "docs" / "kubernetes.md"
    [values] = [each.code for each in blocks(page, "yaml") if "containers:" in each.code]
    return in_the_operators_object(values)


EXAMPLE = ROOT / "helm" / "authproxy" / "examples" / "sidecar-kube-prometheus-stack.yaml"
#: The proxy as a sidecar, wherever we show it.
SIDECARS = {
    "sidecar.yaml": MANIFESTS["sidecar.yaml"].proxy,
    "docs/kubernetes.md": of_the_page(),
    "helm's example": in_the_operators_object(EXAMPLE.read_text()),
}
each_sidecar = pytest.mark.parametrize("container", SIDECARS.values(), ids=SIDECARS)


def healthcheck_seconds() -> float:
    """Return how long docker/healthcheck.py waits for a response."""
    script = (ROOT / "docker" / "healthcheck.py").read_text()
    [seconds] = re.findall(r"^SECONDS = ([\d.]+)$", script, re.M)
    return float(seconds)


def test_there_is_one_for_each_purpose() -> None:
    assert set(MANIFESTS) == {
        "ingestion.yaml",
        "query.yaml",
        "routes.yaml",
        "sidecar.yaml",
        "workload-identity/ingestion.yaml",
        "workload-identity/query.yaml",
    }


@each_manifest
def test_every_object_is_valid_in_the_oldest_and_the_newest_version(manifest: Manifest) -> None:
    for document in manifest.objects:
        check_object(document)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mistyped_field_would_not_be_valid(version: str) -> None:
    document = copy.deepcopy(MANIFESTS["ingestion.yaml"].workload)
    container = document["spec"]["template"]["spec"]["containers"][0]
    container["readynessProbe"] = container.pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, version, strict=True)


@each_manifest
def test_a_pod_fits_the_restricted_profile(manifest: Manifest) -> None:
    """Pod Security Standards, "restricted", and a root file system that nobody writes to."""
    pod = manifest.pod
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostUsers"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for volume in pod["volumes"]:
        assert volume.keys() - {"name"} <= {"emptyDir", "configMap"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert context.get("runAsUser", 1) > 0
        assert not any("hostPort" in port for port in container.get("ports", []))
    assert "privileged" not in manifest.path.read_text()


@each_manifest
def test_the_proxy_runs_as_the_images_user(manifest: Manifest) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.M)
    assert user
    context = manifest.pod["securityContext"] | manifest.proxy["securityContext"]
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user.groups()


@each_manifest
def test_no_pod_has_a_token_for_the_cluster_nor_variables_of_its_services(
    manifest: Manifest,
) -> None:
    assert manifest.pod["automountServiceAccountToken"] is False
    assert manifest.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert manifest.pod["enableServiceLinks"] is False


@each_manifest
def test_every_container_is_bounded(manifest: Manifest) -> None:
    for container in manifest.pod["containers"]:
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
    for volume in manifest.pod["volumes"]:
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": "none"})


@each_manifest
def test_what_the_proxy_may_buffer_fits_its_storage(manifest: Manifest) -> None:
    workers = int(manifest.environment.get("WORKERS", "1"))
    [tmp] = [each for each in manifest.pod["volumes"] if each["name"] == "tmp"]
    resources = manifest.proxy["resources"]
    size = in_bytes(tmp["emptyDir"]["sizeLimit"])
    assert size >= workers * buffered_bytes()
    assert in_bytes(resources["requests"]["ephemeral-storage"]) >= workers * buffered_bytes()
    # A pod whose files are larger than its containers' limits together is evicted.
    assert in_bytes(resources["limits"]["ephemeral-storage"]) == size + LOG_BYTES
    assert in_bytes(resources["limits"]["memory"]) >= 2 * memory_bytes(workers)


@each_manifest
def test_the_variables_are_settings_without_a_fault(manifest: Manifest, tmp_path: Path) -> None:
    environment = manifest.environment
    assert environment.keys() <= {"AUTHPROXY_CONFIG", *Settings.declared}
    if manifest.has_routes:
        environment["AUTHPROXY_CONFIG"] = str(manifest.settings_file(tmp_path))
    webhook = webhook_variables(tmp_path, manifest.client_id) if manifest.client_id else {}
    settings = load_settings(environ={**webhook, **environment}, serving=True).settings
    if manifest.has_routes:
        scopes = {route.name: route.settings.scope for route in settings.routes}
        assert scopes == {
            "ingestion": f"{METRICS_INGESTION}/.default",
            "query": f"{METRICS_QUERY}/.default",
        }
        return
    query = "query" in manifest.name
    assert settings.scope == f"{METRICS_QUERY if query else METRICS_INGESTION}/.default"
    assert settings.forwards_only_remote_write is not query


@each_deployment
def test_ports_and_probes_are_those_that_the_proxy_listens_on(manifest: Manifest) -> None:
    environment = manifest.environment
    assert manifest.ports == {
        "http": int(environment["LISTENING_PORT"]),
        "metrics": int(environment["METRICS_PORT"]),
    }
    assert "LISTENING_HOST" not in environment  # The kubelet asks at the pod's address.
    asked = {
        name: (probe["httpGet"]["path"], probe["httpGet"]["port"])
        for name, probe in manifest.probes.items()
    }
    assert asked == {
        "startupProbe": ("/health", "http"),
        "livenessProbe": ("/health", "http"),
        "readinessProbe": ("/ready", "http"),
    }


@each_sidecar
def test_a_sidecar_listens_on_the_loopback_address_and_is_probed_there(container: Object) -> None:
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    # Both in the environment: the probe's command then need not read a settings file.
    assert environment["LISTENING_HOST"] == "127.0.0.1"
    assert "LISTENING_PORT" in environment
    assert "ports" not in container
    probes = {name: probe for name, probe in container.items() if name.endswith("Probe")}
    assert probes.keys() == {"startupProbe", "livenessProbe"}
    for name, probe in probes.items():
        assert probe["exec"] == {"command": ["healthcheck"]}
        assert probe["timeoutSeconds"] > healthcheck_seconds()
        # A run costs a process: seldom, save at the start.
        assert probe["periodSeconds"] >= (2 if name == "startupProbe" else 20)


def test_the_sidecar_is_the_same_wherever_it_is_shown() -> None:
    parts = ("startupProbe", "livenessProbe", "resources")
    shown = [{part: container[part] for part in parts} for container in SIDECARS.values()]
    assert all(one == shown[0] for one in shown)


@each_manifest
def test_a_pod_is_given_the_time_that_its_drain_may_take(manifest: Manifest) -> None:
    environment = manifest.environment
    delay = int(environment["SHUTDOWN_DELAY_SECONDS"])
    grace = int(environment["SHUTDOWN_GRACE_SECONDS"])
    assert delay > 0  # For as long as other nodes still send to the pod.
    assert manifest.pod["terminationGracePeriodSeconds"] >= delay + grace + 5


def test_the_sidecar_goes_on_for_as_long_as_prometheus_flushes() -> None:
    manifest = MANIFESTS["sidecar.yaml"]
    [prometheus] = [each for each in manifest.pod["containers"] if each["name"] == "prometheus"]
    [deadline] = [
        match[1]
        for argument in prometheus["args"]
        if (match := re.fullmatch(r"--storage\.remote\.flush-deadline=(\d+)s", argument))
    ]
    assert int(deadline) < int(manifest.environment["SHUTDOWN_DELAY_SECONDS"])


@each_manifest
def test_whatever_selects_pods_selects_these(manifest: Manifest) -> None:
    labels = manifest.template["metadata"]["labels"]
    spec = manifest.workload["spec"]
    selectors = [
        spec["selector"]["matchLabels"],
        manifest.one("Service")["spec"]["selector"],
        manifest.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(pdb["spec"]["selector"]["matchLabels"] for pdb in manifest.all("PodDisruptionBudget")),
        *(
            constraint["labelSelector"]["matchLabels"]
            for constraint in manifest.pod.get("topologySpreadConstraints", [])
        ),
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert manifest.pod["serviceAccountName"] == manifest.one("ServiceAccount")["metadata"]["name"]
    assert {each["metadata"]["namespace"] for each in manifest.objects} == {"observability"}
    named = {port["name"] for each in manifest.pod["containers"] for port in each.get("ports", [])}
    rules = manifest.one("NetworkPolicy")["spec"]["ingress"]
    used = [port["targetPort"] for port in manifest.one("Service")["spec"]["ports"]]
    used += [port["port"] for rule in rules for port in rule["ports"]]
    assert set(used) <= named


@each_deployment
def test_a_deployment_survives_a_rollout_and_the_loss_of_a_node(manifest: Manifest) -> None:
    spec = manifest.workload["spec"]
    assert spec["replicas"] > manifest.one("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert manifest.pod["topologySpreadConstraints"]
    annotations = manifest.template["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == manifest.environment["METRICS_PORT"]


@each_manifest
def test_only_named_clients_come_in(manifest: Manifest) -> None:
    policy = manifest.one("NetworkPolicy")["spec"]
    assert "Ingress" in policy["policyTypes"]
    for rule in policy["ingress"]:
        assert len(rule["ports"]) == 1, "who sends requests and who scrapes are two matters"
        assert rule["from"]
        for peer in rule["from"]:
            assert peer["namespaceSelector"]["matchLabels"]
            assert peer["podSelector"]["matchLabels"]


@each_deployment
def test_only_what_is_needed_goes_out(manifest: Manifest) -> None:
    policy = manifest.one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    allowed = {
        (port["port"], port.get("protocol", "TCP"), bool(rule.get("to")))
        for rule in policy["egress"]
        for port in rule["ports"]
    }
    identity = set() if manifest.client_id else {(80, "TCP", True)}
    assert allowed == {(53, "UDP", False), (53, "TCP", False), (443, "TCP", False)} | identity


def test_nobody_reaches_the_sidecar_from_another_pod() -> None:
    policy = MANIFESTS["sidecar.yaml"].one("NetworkPolicy")["spec"]
    assert "Ingress" in policy["policyTypes"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["web"]


def without_identity(manifest: Manifest) -> list[Object]:
    """Return the objects without what makes one identity differ from another."""
    objects = copy.deepcopy(manifest.objects)
    for document in objects:
        match document:
            case {"kind": "ServiceAccount", "metadata": metadata}:
                metadata.pop("annotations", None)
            case {"kind": "Deployment", "spec": {"template": template}}:
                template["metadata"]["labels"].pop("azure.workload.identity/use", None)
                container: dict[str, Any] = template["spec"]["containers"][0]
                container["env"] = [
                    entry
                    for entry in container["env"]
                    if entry["name"] not in ("IDENTITY_TYPE", "AAD_CLIENT_ID")
                ]
            case {"kind": "NetworkPolicy", "spec": spec}:
                spec["egress"] = [rule for rule in spec["egress"] if "to" not in rule]
    return objects


@pytest.mark.parametrize("purpose", ["ingestion.yaml", "query.yaml"])
def test_another_identity_changes_nothing_else(purpose: str) -> None:
    managed, workload = MANIFESTS[purpose], MANIFESTS[f"workload-identity/{purpose}"]
    assert managed.client_id is None
    assert managed.environment["IDENTITY_TYPE"] == "userAssigned"
    assert workload.client_id is not None
    assert workload.environment["IDENTITY_TYPE"] == "workloadIdentity"
    assert "AAD_CLIENT_ID" not in workload.environment
    assert without_identity(managed) == without_identity(workload)


@pytest.mark.real("promtool")
def test_the_sidecars_prometheus_has_a_sound_configuration(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool is installed")
    manifest = MANIFESTS["sidecar.yaml"]
    configuration = manifest.one("ConfigMap")["data"]["prometheus.yml"]
    (tmp_path / "prometheus.yml").write_text(configuration)
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=True)
    environment = manifest.environment
    assert f"http://127.0.0.1:{environment['LISTENING_PORT']}/api/v1/write" in configuration
    assert f"[127.0.0.1:{environment['METRICS_PORT']}]" in configuration
