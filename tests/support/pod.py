"""What a kubelet makes of a rendered pod: its environment, its files, where its probes go."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.helm import Document, only, plain_environment, proxy_container

#: Contents of Secrets, ConfigMaps and SecretProviderClasses by name and key.
Objects = Mapping[str, Mapping[str, bytes]]


class Pod:
    """The pod of a rendered Deployment, with its volumes in `folder`.

    There are no mounts: a variable, or a line of the settings file, that names a
    path within a volume names the same file in `folder` instead.
    """

    def __init__(self, documents: list[Document], folder: Path, objects: Objects) -> None:
        template = only(documents, "Deployment")["spec"]["template"]
        self.labels: dict[str, str] = template["metadata"]["labels"]
        self.spec: dict[str, Any] = template["spec"]
        self.container = proxy_container(documents)
        self._documents = documents
        self._objects = {**objects, **self._rendered_objects()}
        self._mounts = self._mount(folder)

    def _rendered_objects(self) -> dict[str, dict[str, bytes]]:
        decoders: dict[str, Callable[[str], bytes]] = {
            "Secret": lambda value: base64.b64decode(value, validate=True),
            "ConfigMap": str.encode,
        }
        return {
            one["metadata"]["name"]: {
                key: decoders[one["kind"]](value) for key, value in one["data"].items()
            }
            for one in self._documents
            if one["kind"] in decoders
        }

    def _mount(self, folder: Path) -> list[tuple[str, Path]]:
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        mounts: list[tuple[str, Path]] = []
        for mount in self.container["volumeMounts"]:
            place = folder / mount["name"]
            place.mkdir(parents=True, exist_ok=True)
            for name, content in self._files(volumes[mount["name"]]).items():
                (place / name).write_bytes(content)
            mounts.append((mount["mountPath"], place))
        for settings_file in folder.glob("*/authproxy.yaml"):
            text = settings_file.read_text()
            for path, place in mounts:
                text = text.replace(f": {path}/", f": {place}/")
            settings_file.write_text(text)
        return mounts

    def _files(self, volume: dict[str, Any]) -> dict[str, bytes]:
        match volume:
            case {"emptyDir": _}:
                return {}
            case {"secret": {"secretName": name, "items": items}}:
                return {item["path"]: self._objects[name][item["key"]] for item in items}
            case {"configMap": {"name": name}}:
                return dict(self._objects[name])
            case {"csi": {"volumeAttributes": {"secretProviderClass": name}}}:
                return dict(self._objects[name])
        raise AssertionError(f"no volume of this kind: {volume}")

    @property
    def environment(self) -> dict[str, str]:
        """The container's variables, those from Secrets and ConfigMaps included."""
        found: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            content = self._objects[source["configMapRef"]["name"]]
            found |= {key: value.decode() for key, value in content.items()}
        found |= plain_environment(self.container)
        for entry in self.container["env"]:
            match entry:
                case {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}:
                    found[name] = self._objects[secret][key].decode()
                case {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}:
                    found[name] = path
        return {name: self._within(value) for name, value in found.items()}

    def _within(self, value: str) -> str:
        for path, place in self._mounts:
            if value.startswith(f"{path}/"):
                return str(place / value.removeprefix(f"{path}/"))
        return value

    def webhook(
        self, token_file: Path, tenant: str, accounts: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return what the webhook of workload identity adds: nothing without label or client id.

        `accounts` has client ids of service accounts that the chart does not make.
        """
        if self.labels.get("azure.workload.identity/use") != "true":
            return {}
        name = self.spec["serviceAccountName"]
        clients = dict(accounts or {})
        for one in self._documents:
            if one["kind"] == "ServiceAccount":
                annotations = one["metadata"].get("annotations", {})
                client = annotations.get("azure.workload.identity/client-id")
                clients |= {one["metadata"]["name"]: client} if client else {}
        if name not in clients:
            return {}
        return {
            "AZURE_CLIENT_ID": clients[name],
            "AZURE_TENANT_ID": tenant,
            "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
        }

    def port(self, name: str) -> int:
        """Return the number of a named port."""
        (number,) = (
            port["containerPort"] for port in self.container["ports"] if port["name"] == name
        )
        assert isinstance(number, int)
        return number

    def probe(self, kind: str) -> tuple[int, str]:
        """Return port and path that the kubelet asks for a probe."""
        request = self.container[kind]["httpGet"]
        return self.port(request["port"]), request["path"]
