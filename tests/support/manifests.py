"""The manifests in deploy/kubernetes, as a cluster would read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.support.helm import OLDEST
from tests.support.source import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"

#: The versions that the manifests are for, the oldest and the newest there is a schema of.
VERSIONS = (OLDEST, kubernetes_validate.latest_version())

Object = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """One file: its objects, and the proxy in it."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(FOLDER))

    @cached_property
    def objects(self) -> list[Object]:
        return list(yaml.safe_load_all(self.path.read_text()))

    def all(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, *kinds: str) -> Object:
        """Return the one object of these kinds."""
        [found] = [each for each in self.objects if each["kind"] in kinds]
        return found

    @property
    def workload(self) -> Object:
        return self.one("Deployment", "StatefulSet")

    @property
    def template(self) -> Object:
        template: Object = self.workload["spec"]["template"]
        return template

    @property
    def pod(self) -> Object:
        spec: Object = self.template["spec"]
        return spec

    @property
    def proxy(self) -> Object:
        """The container that is authproxy."""
        [found] = [each for each in self.pod["containers"] if each["name"] == "authproxy"]
        container: Object = found
        return container

    @property
    def environment(self) -> dict[str, str]:
        return {entry["name"]: entry["value"] for entry in self.proxy["env"]}

    @property
    def has_routes(self) -> bool:
        """Whether it serves several targets, by a settings file."""
        return "AUTHPROXY_CONFIG" in self.environment

    def settings_file(self, folder: Path) -> Path:
        """Write the settings file that the proxy finds in its pod; return where it is."""
        inside = Path(self.environment["AUTHPROXY_CONFIG"])
        [mount] = [each for each in self.proxy["volumeMounts"] if each["name"] == "routes"]
        [volume] = [each for each in self.pod["volumes"] if each["name"] == "routes"]
        content = self.one("ConfigMap")
        assert (mount["mountPath"], mount["readOnly"]) == (str(inside.parent), True)
        assert volume["configMap"]["name"] == content["metadata"]["name"]
        path = folder / inside.name
        path.write_text(content["data"][inside.name])
        return path

    @property
    def ports(self) -> dict[str, int]:
        """The proxy's ports that others reach."""
        return {port["name"]: port["containerPort"] for port in self.proxy.get("ports", [])}

    @property
    def probes(self) -> dict[str, Object]:
        """The proxy's probes, by name."""
        return {name: probe for name, probe in self.proxy.items() if name.endswith("Probe")}

    @property
    def client_id(self) -> str | None:
        """Whom the webhook of workload identity makes the pod; None where it stays away."""
        if self.template["metadata"]["labels"].get("azure.workload.identity/use") != "true":
            return None
        annotations = self.one("ServiceAccount")["metadata"]["annotations"]
        return str(annotations["azure.workload.identity/client-id"])

    @property
    def service_account(self) -> str:
        metadata = self.one("ServiceAccount")["metadata"]
        return f"{metadata['namespace']}:{metadata['name']}"


MANIFESTS = {manifest.name: manifest for manifest in map(Manifest, sorted(FOLDER.rglob("*.yaml")))}


def check_object(document: Object) -> None:
    """Raise ValidationError where the oldest or the newest version would refuse `document`."""
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def webhook_variables(folder: Path, client_id: str) -> dict[str, str]:
    """Return what the webhook of workload identity adds to a pod, and write the token's file."""
    token_file = folder / "azure-identity-token"
    token_file.write_text("x.y.z")
    return {
        "AZURE_CLIENT_ID": client_id,
        "AZURE_TENANT_ID": "00000000-0000-0000-0000-000000000000",
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
    }
