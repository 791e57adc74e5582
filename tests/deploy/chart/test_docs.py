"""What is made in the chart agrees with what it is made from."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from authproxy import __version__
from tests.deploy.chart.conftest import EXAMPLES
from tests.support.helm import CHART, OLDEST, Helm, only
from tests.support.programs import LIMIT
from tests.support.source import ROOT
from tools import documents
from tools.chart_values import chart_values

README = (CHART / "README.md").read_text()
ALERTS = ROOT / "docs" / "telemetry" / "alerts.yaml"


def test_all_that_is_made_is_what_make_docs_writes() -> None:
    command = [sys.executable, "-m", "tools.documents", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The parts of the repository that files are made from, and those files."""
    shutil.copytree(CHART, tmp_path / "helm" / "authproxy")
    (tmp_path / "docs" / "telemetry").mkdir(parents=True)
    (tmp_path / "authproxy").mkdir()
    for name in ("telemetry/alerts.yaml", "settings.md.in", "settings.md", "settings.schema.json"):
        shutil.copy(ROOT / "docs" / name, tmp_path / "docs" / name)
    shutil.copy(ROOT / "authproxy" / "authproxy.1", tmp_path / "authproxy")
    return tmp_path


def test_what_differs_is_named_and_written_anew(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = copy / "helm/authproxy/values.yaml"
    values.write_text(values.read_text().replace("replicaCount: 2", "replicaCount: 3"))
    (copy / "docs/telemetry/alerts.yaml").write_text("groups: []\n")
    where = ["--root", str(copy)]
    assert documents.main(["--check", *where]) == 1
    said = capsys.readouterr().err
    named = re.findall(r"([\w.]+) is out of date: run `make docs`", said)
    assert sorted(named) == ["README.md", "alerts.yaml"]
    assert documents.main(where) == 0
    assert documents.main(["--check", *where]) == 0
    assert "| `replicaCount` | `3` |" in (copy / "helm/authproxy/README.md").read_text()


@pytest.mark.parametrize("line", ["mystery: 1", "# \nmystery: {a: 1}"])
def test_a_value_without_a_meaning_is_refused(copy: Path, line: str) -> None:
    values = copy / "helm/authproxy/values.yaml"
    values.write_text(f"{values.read_text()}\n{line}\n")
    with pytest.raises(ValueError, match="mystery has no comment above it"):
        documents.main(["--check", "--root", str(copy)])


def test_every_setting_is_a_value_with_a_row() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for one in chart_values():
        assert (one.name in values) is one.is_value
        assert (f"| `{one.name}` |" in README) is one.is_value
        if one.is_value:
            assert f"# {one.setting.variable}. " in (CHART / "values.yaml").read_text()


def test_the_charts_versions_are_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
    assert f"Kubernetes {OLDEST}" in README


def test_one_oldest_kubernetes_is_supported_everywhere() -> None:
    """Whatever names a version of Kubernetes as needed names this one, or a newer feature's."""
    tutorial = (ROOT / "docs" / "kubernetes.md").read_text()
    said = re.findall(r"Kubernetes (1\.\d+) (?:and|or) later", f"{README}{tutorial}")
    assert len(said) == 2
    assert set(said) == {OLDEST}
    compared = [
        int(minor)
        for template in (CHART / "templates").rglob("*")
        if template.is_file()
        for minor in re.findall(r'semverCompare ">=1\.(\d+)', template.read_text())
    ]
    assert compared
    assert min(compared) > int(OLDEST.partition(".")[2]), "a branch for what is not supported"


def test_every_row_has_as_many_cells_as_its_table() -> None:
    for line in README.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4), line


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", README)
    assert links
    for link in links:
        assert (CHART / link).exists(), link
    named = set(re.findall(r"examples/[\w.-]+", README))
    assert {f"examples/{path.name}" for path in EXAMPLES} <= named


def test_values_that_the_readme_names_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    prose = README.partition("\n## Values\n")[0]
    for dotted in re.findall(r"`([a-z]\w+(?:\.\w+)+)(?:=\w+)?`", prose):
        if dotted.rpartition(".")[2] in ("yaml", "md"):
            continue
        place = values
        for part in dotted.split("."):
            assert part in place, dotted
            place = place[part]


@pytest.mark.real("helm")
@pytest.mark.parametrize("page", [CHART / "README.md", ROOT / "README.md"], ids=["chart", "first"])
def test_the_installation_of_the_readme_renders(helm: Helm, page: Path) -> None:
    command = re.search(r"^helm upgrade --install.*?```", page.read_text(), re.S | re.M)
    assert command
    pairs = re.findall(r"--(set|set-string) ('[^']+'|[^\s']+='[^']+'|\S+)", command[0])
    arguments = [part for option, pair in pairs for part in (f"--{option}", pair.replace("'", ""))]
    assert len(pairs) == 4
    documents = helm.render(*arguments)
    env = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    given = {entry["name"]: entry["value"] for entry in env}
    assert given["INGESTION_URL"].endswith("?api-version=2023-04-24")
    assert given["IDENTITY_TYPE"] == "workloadIdentity"


def promtool(rules: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool is installed")
    return subprocess.run(
        [program, "check", "rules", str(rules)], capture_output=True, text=True, timeout=LIMIT
    )


@pytest.mark.real("helm", "promtool")
def test_promtool_takes_the_rendered_alerts(helm: Helm, tmp_path: Path) -> None:
    documents = helm.render_file(Path(__file__).parent / "values" / "everything-on.yaml")
    groups = only(documents, "PrometheusRule")["spec"]["groups"]
    wanted = yaml.safe_load(ALERTS.read_text())["groups"]
    assert groups[: len(wanted)] == wanted
    assert [group["name"] for group in groups[len(wanted) :]] == ["more"]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": groups}))
    result = promtool(rules)
    assert result.returncode == 0, result.stderr
    groups[0]["rules"][0]["expr"] += " +"
    rules.write_text(yaml.safe_dump({"groups": groups}))
    assert promtool(rules).returncode != 0
