"""The overlays in deploy/kustomize change the manifests in what is yours, and in nothing else."""

from __future__ import annotations

import copy
import re
import shutil
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.manifests import MANIFESTS, Object, check_object
from tests.support.programs import completed
from tests.support.source import ROOT

FOLDER = ROOT / "deploy" / "kustomize"
OVERLAYS = {"managed-identity": "", "workload-identity": "workload-identity/"}
COMPONENTS = ("only-ingestion", "only-query")

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def read(folder: Path) -> dict[str, Any]:
    [file] = folder.glob("kustomization.y*ml")
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def base(overlay: str) -> list[Object]:
    """Return the objects that the overlay begins with."""
    names = ("ingestion.yaml", "query.yaml")
    return [each for name in names for each in MANIFESTS[OVERLAYS[overlay] + name].objects]


def in_order(objects: list[Object]) -> list[Object]:
    """Return copies in an order; a patch of variables moves them to the front."""
    objects = copy.deepcopy(objects)
    for each in objects:
        if each["kind"] == "Deployment":
            [container] = each["spec"]["template"]["spec"]["containers"]
            container["env"].sort(key=itemgetter("name"))
    return sorted(objects, key=lambda each: (each["kind"], each["metadata"]["name"]))


def rendered(folder: Path) -> list[Object]:
    """Return what kubectl makes of a folder; it is not on every machine."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl is installed")
    ended = completed(["kubectl", "kustomize", str(folder)])
    assert ended.returncode == 0, ended.stderr
    return in_order(list(yaml.safe_load_all(ended.stdout)))


def test_there_is_an_overlay_for_each_identity_and_a_component_for_each_purpose() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*OVERLAYS, *COMPONENTS}


@each_overlay
def test_what_an_overlay_names_is_there(overlay: str) -> None:
    content = read(FOLDER / overlay)
    assert (content["apiVersion"], content["kind"]) == (
        *("kustomize.config.k8s.io/v1beta1", "Kustomization"),
    )
    [resource] = content["resources"]
    below = (FOLDER / overlay / resource).resolve()
    assert read(below)["resources"] == ["ingestion.yaml", "query.yaml"]
    assert [below / name for name in read(below)["resources"]] == [
        MANIFESTS[OVERLAYS[overlay] + name].path for name in ("ingestion.yaml", "query.yaml")
    ]
    for patch in content["patches"]:
        target, change = patch["target"], yaml.safe_load(patch["patch"])
        assert change["kind"] == target["kind"]
        assert [
            each
            for each in base(overlay)
            if each["kind"] == target["kind"]
            and re.fullmatch(target["name"], each["metadata"]["name"])
        ]
    [image] = content["images"]
    used = {each.proxy["image"].partition(":")[0] for each in MANIFESTS.values()}
    assert used == {image["name"]}


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_removes_the_other_purpose(component: str) -> None:
    content = read(FOLDER / component)
    assert content["kind"] == "Component"
    [patch] = content["patches"]
    other = {"only-ingestion": "query", "only-query": "ingestion"}[component]
    assert patch["target"] == {"name": f"authproxy-{other}"}
    assert yaml.safe_load(patch["patch"])["$patch"] == "delete"


@each_overlay
def test_with_the_values_of_the_manifests_an_overlay_is_the_manifests(overlay: str) -> None:
    found = rendered(FOLDER / overlay)
    assert found == in_order(base(overlay))
    for document in found:
        check_object(document)


@each_overlay
@pytest.mark.parametrize("component", COMPONENTS)
def test_your_values_reach_the_pods(overlay: str, component: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    folder = tmp_path / "deploy" / "kustomize" / overlay
    file = folder / "kustomization.yaml"
    text = re.sub(
        r"^#(components:\n)#(  - ../)only-\S+", rf"\1\2{component}", file.read_text(), flags=re.M
    )
    text = text.replace("newName: registry.example.com/", "newName: mine.example.com/")
    text = text.replace("workspace-abcd", "mine").replace("1111-111111111111", "2222-222222222222")
    file.write_text(text)
    purpose = component.removeprefix("only-")
    found = rendered(folder)
    assert {each["metadata"]["name"] for each in found} == {f"authproxy-{purpose}"}
    assert len(found) == 5
    shown = yaml.safe_dump(found)
    assert "image: mine.example.com/authproxy:" in shown
    assert "https://mine.westeurope" in shown
    assert "2222-222222222222" in shown
    for placeholder in ("workspace-abcd", "registry.example.com", "1111-111111111111"):
        assert placeholder not in shown
