"""The real helm with the chart of this repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import completed
from tests.support.source import ROOT

CHART = ROOT / "helm" / "authproxy"
RELEASE, NAMESPACE = "rel", "observability"

#: The oldest and the newest Kubernetes that are supported.
OLDEST, NEWEST = "1.27", "1.37"

Document = dict[str, Any]

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def find_helm() -> str:
    """Return the path of helm, or skip the test where there is none."""
    found = shutil.which("helm", path=str(Path(sys.executable).parent)) or shutil.which("helm")
    if found is None:
        pytest.skip("no helm is installed")
    return found


@dataclass
class Helm:
    """Runs helm, away from any cluster and any configuration of whoever runs the tests."""

    folder: Path
    chart: Path = CHART
    program: str = field(default_factory=find_helm)
    _rendered: dict[tuple[str, ...], list[Document]] = field(default_factory=dict)

    def run(
        self, *arguments: str, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": str(self.folder),
            "KUBECONFIG": str(kubeconfig or self.folder / "none"),
            "GOGC": "off",  # It ends before collecting garbage pays: a quarter less time.
        }
        return completed([self.program, *arguments], environment)

    def template(
        self, *arguments: str, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = ["template", RELEASE, str(self.chart), "--namespace", NAMESPACE, *arguments]
        return self.run(*command, kubeconfig=kubeconfig)

    def render(self, *arguments: str, version: str = NEWEST) -> list[Document]:
        """Return the manifests for values given as helm takes them; the same ones only once."""
        key = (version, *arguments)
        if key not in self._rendered:
            result = self.template("--kube-version", version, *arguments)
            assert result.returncode == 0, result.stderr
            assert result.stderr == ""
            documents = yaml.load_all(result.stdout, Loader=_Loader)
            self._rendered[key] = [document for document in documents if document]
        return self._rendered[key]

    def render_file(self, values: Path, *arguments: str, version: str = NEWEST) -> list[Document]:
        """Return the manifests for a values file, and arguments besides."""
        return self.render("--values", str(values), *arguments, version=version)

    def faults(self, *arguments: str) -> str:
        """Return what helm says of values that it has to refuse."""
        result = self.template(*arguments)
        assert result.returncode != 0, result.stdout
        return result.stderr


def only(documents: list[Document], kind: str) -> Document:
    """Return the one manifest of a kind, among those of `helm install`."""
    found = [one for one in documents if one["kind"] == kind and not is_test(one)]
    assert len(found) == 1, [(one["kind"], one["metadata"]["name"]) for one in documents]
    return found[0]


def kinds(documents: list[Document]) -> set[str]:
    return {document["kind"] for document in documents if not is_test(document)}


def is_test(document: Document) -> bool:
    """Tell whether a manifest is for `helm test`."""
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


def proxy_container(documents: list[Document]) -> Document:
    containers = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    found = [one for one in containers if one["name"] == "authproxy"]
    assert len(found) == 1
    container: Document = found[0]
    return container


def plain_environment(container: Document) -> dict[str, str]:
    """Return the variables that are in clear; each is there once and a text."""
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names)), names
    plain = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    assert all(isinstance(value, str) for value in plain.values()), plain
    return plain
