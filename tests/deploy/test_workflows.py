"""What GitHub runs, held to its schema, to a linter, and to what there is to call."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.scripts_and_commands import judge_script
from tests.support.pages import Block
from tests.support.programs import completed
from tests.support.source import ROOT
from tools.release import pyz, versions

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.name: path for path in sorted(FOLDER.glob("*.yml"))}

each_workflow = pytest.mark.parametrize("path", WORKFLOWS.values(), ids=WORKFLOWS)


def read(path: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(path.read_text())
    return content


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def valid(path: Path) -> subprocess.CompletedProcess[str]:
    checker = [sys.executable, "-m", "check_jsonschema"]
    return completed([*checker, "--builtin-schema", "vendor.github-workflows", str(path)])


def linted(*paths: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("actionlint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no actionlint is installed")
    return completed([program, "-no-color", *map(str, paths)])


def test_there_is_one_for_pull_requests_and_one_for_releases() -> None:
    assert set(WORKFLOWS) == {"ci.yml", "release.yml"}


@each_workflow
def test_a_workflow_keeps_to_the_schema(path: Path) -> None:
    ended = valid(path)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.real("actionlint")
def test_the_linter_finds_nothing() -> None:
    ended = linted(*WORKFLOWS.values())
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.real("actionlint")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("${{ steps.image.outputs.digest }}", "${{ steps.img.outputs.digest }}"), ("id-token", "id")],
)
def test_the_linter_would_find_a_slip(tmp_path: Path, right: str, wrong: str) -> None:
    text = WORKFLOWS["release.yml"].read_text()
    assert right in text
    file = tmp_path / "release.yml"
    file.write_text(text.replace(right, wrong))
    assert linted(file).returncode == 1


@each_workflow
def test_each_step_calls_what_there_is(path: Path) -> None:
    """Its make targets, their variables, and the files of the repository."""
    scripts = [step["run"] for step in steps(path) if "run" in step]
    assert scripts
    for script in scripts:
        called = [
            line.strip()
            for line in script.replace("\\\n", " ").splitlines()
            if re.match(r"\s*make ", line)
        ]
        for command in called:
            judge_script(Block(path, "a step", "bash", command + "\n"))
        for name in re.findall(r"(?<![\w/])(?:\.ci|scripts|tools|docker|helm)/[\w./-]+", script):
            assert (ROOT / name).exists(), name


def test_pull_requests_run_the_gate_on_every_supported_python() -> None:
    workflow = read(WORKFLOWS["ci.yml"])
    [job] = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == pyz.pythons(ROOT)
    assert job["steps"][-1]["run"] == "bash .ci/run"
    assert "pull_request" in workflow[True]  # YAML 1.1 reads "on" so.


def test_the_release_is_made_by_make_release_and_publishes_nothing_else() -> None:
    [made] = [step["run"] for step in steps(WORKFLOWS["release.yml"]) if "make " in str(step)]
    assert made.startswith('make release VERSION="$RELEASE" ')
    published = "".join(step.get("run", "") for step in steps(WORKFLOWS["release.yml"]))
    assert "docker build " not in published
    assert "oci-archive:dist/authproxy-$RELEASE-image.tar" in published


def test_a_tag_is_a_version_with_a_v() -> None:
    [pattern] = read(WORKFLOWS["release.yml"])[True]["push"]["tags"]
    [version] = {found.version for found in versions.found_in(ROOT)}
    assert re.fullmatch(pattern, f"v{version}")


@each_workflow
def test_actions_are_pinned_and_rights_are_named(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        # What an event brings is never part of a script.
        assert "${{" not in step.get("run", "")
    assert read(path)["permissions"] in ({}, {"contents": "read"})
