"""What the documentation has the Prometheus Operator add to a pod is valid, and without faults.

That every block of code is right in itself: tests/docs/test_blocks.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from authproxy.settings import Settings, load_settings
from tests.support.manifests import check_object, webhook_variables
from tests.support.pages import Block, all_blocks


def documents(block: Block) -> list[Any]:
    return [document for document in yaml.safe_load_all(block.code) if document]


YAML = [(block, document) for block in all_blocks("yaml") for document in documents(block)]
OPERATOR = [pair for pair in YAML if "prometheusSpec" in pair[1].get("prometheus", {})]


def by_place(found: Sequence[tuple[Any, ...]]) -> list[str]:
    return [str(block) for block, *_ in found]


def test_there_are_examples() -> None:
    assert OPERATOR
    assert SIDECARS


@pytest.mark.parametrize(("block", "values"), OPERATOR, ids=by_place(OPERATOR))
def test_what_the_operator_adds_to_the_pod_is_valid(block: Block, values: Any) -> None:
    spec = values["prometheus"]["prometheusSpec"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "prometheus", **spec.get("podMetadata", {})},
        "spec": {
            "containers": [{"name": "prometheus", "image": "p"}, *spec.get("containers", [])],
            "volumes": spec.get("volumes", []),
        },
    }
    check_object(pod)
    for container in spec.get("containers", []):
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounts <= {volume["name"] for volume in spec.get("volumes", [])}


SIDECARS = [
    (block, values, container)
    for block, values in OPERATOR
    for container in values["prometheus"]["prometheusSpec"].get("containers", [])
]


@pytest.mark.parametrize(("block", "values", "container"), SIDECARS, ids=by_place(SIDECARS))
def test_a_sidecars_settings_are_free_of_faults(
    block: Block, values: Any, container: Any, tmp_path: Path
) -> None:
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment.keys() <= set(Settings.declared)
    webhook = webhook_variables(tmp_path, "11111111-1111-1111-1111-111111111111")
    settings = load_settings(environ={**webhook, **environment}, serving=True).settings
    assert settings.scope == "https://monitor.azure.com/.default"
    [written_to] = values["prometheus"]["prometheusSpec"]["remoteWrite"]
    assert written_to["url"] == f"http://127.0.0.1:{settings.listening_port}/api/v1/write"
