"""What the tutorial's commands talk to: an Azure and a cluster that only take notes.

Answers have the shape that the Azure CLI gives them, and its `--query` is
carried out. That the commands themselves exist, with these options, is known
from a run of the real CLI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import jmespath

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-00000000000a"
RULE_ID = (
    f"{SUBSCRIPTION}/resourceGroups/MA_my-workspace_westeurope_managed"
    "/providers/Microsoft.Insights/dataCollectionRules/my-workspace"
)
ENDPOINT_ID = RULE_ID.replace("dataCollectionRules", "dataCollectionEndpoints")
WORKSPACE_ID = f"{SUBSCRIPTION}/resourceGroups/w/providers/microsoft.monitor/accounts/my-workspace"
IDENTITY_ID = (
    f"{SUBSCRIPTION}/resourceGroups/c/providers"
    "/Microsoft.ManagedIdentity/userAssignedIdentities/authproxy"
)
INGESTION_URL = (
    "https://my-workspace-ab12.westeurope-1.metrics.ingest.monitor.azure.com"
    "/dataCollectionRules/dcr-00112233445566778899aabbccddeeff"
    "/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24"
)
QUERY_ENDPOINT = "https://my-workspace-cd34.westeurope.prometheus.monitor.azure.com"
ISSUER = "https://westeurope.oic.prod-aks.azure.com/tenant/cluster/"
KUBELET = {
    "clientId": "22222222-2222-2222-2222-222222222222",
    "objectId": "33333333-3333-3333-3333-333333333333",
    "resourceId": f"{SUBSCRIPTION}/identity",
}
OWN = {
    "clientId": "44444444-4444-4444-4444-444444444444",
    "id": IDENTITY_ID,
    "principalId": "55555555-5555-5555-5555-555555555555",
}
SCALE_SETS = ["aks-nodepool1-vmss", "aks-userpool-vmss"]

#: What `az` answers, by the words before the first option.
_ANSWERS: dict[str, Any] = {
    "aks show": {
        "identityProfile": {"kubeletidentity": KUBELET},
        "nodeResourceGroup": "MC_c_my-cluster_westeurope",
        "oidcIssuerProfile": {"enabled": True, "issuerUrl": ISSUER},
    },
    "identity show": OWN,
    "monitor account show": {
        "defaultIngestionSettings": {
            "dataCollectionEndpointResourceId": ENDPOINT_ID,
            "dataCollectionRuleResourceId": RULE_ID,
        },
        "id": WORKSPACE_ID,
        "metrics": {"prometheusQueryEndpoint": QUERY_ENDPOINT},
    },
    "vmss list": [{"name": name} for name in SCALE_SETS],
}
_RESOURCES = {
    RULE_ID: {"properties": {"immutableId": INGESTION_URL.split("/")[4]}},
    ENDPOINT_ID: {
        "properties": {"metricsIngestion": {"endpoint": INGESTION_URL.partition("/dataC")[0]}}
    },
}
_NOTES = "commands.jsonl"


def command(arguments: Sequence[str]) -> None:
    """Be the program that `arguments` begin with: note them, and answer."""
    with Path(os.environ["NOTES"], _NOTES).open("a") as notes:
        notes.write(json.dumps(arguments) + "\n")
    options = _options(arguments)
    if arguments[0] != "az" or "--query" not in options:
        return
    asked = " ".join(takewhile(lambda word: not word.startswith("-"), arguments[1:]))
    document = _RESOURCES[options["--ids"]] if asked == "resource show" else _ANSWERS[asked]
    found = jmespath.search(options["--query"], document)
    if not found or options.get("--output") != "tsv":
        sys.exit(f"nothing to show for {arguments}")
    print("\n".join(found) if isinstance(found, list) else found)  # noqa: T201


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """Return each word's follower: an option's value, under the option's name."""
    return dict(pairwise(arguments))


class Shell:
    """A folder that looks like a clone of the repository, to run commands in."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._notes = folder / _NOTES
        for name in ("deploy", "docker"):
            (folder / name).symlink_to(root / name)
        programs = folder / "bin"
        programs.mkdir()
        for name in ("az", "docker", "kubectl"):
            (programs / name).write_text(
                f"#!{sys.executable}\nimport sys\nfrom tests.support.tutorial import command\n"
                f"command([{name!r}, *sys.argv[1:]])\n"
            )
            (programs / name).chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NOTES": str(folder),
        }

    def run(self, script: str) -> None:
        """Run commands as they are, in one shell; the first that fails ends it."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def read(self, name: str) -> Path:
        return self._folder / name

    @property
    def commands(self) -> list[list[str]]:
        """What was run of the noted programs."""
        return [json.loads(line) for line in self._notes.read_text().splitlines()]

    def given(self, *words: str) -> list[dict[str, str]]:
        """Return the options of each command that begins with `words`."""
        found = [each for each in self.commands if each[: len(words)] == list(words)]
        return [_options(each) for each in found]
