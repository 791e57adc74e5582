"""What is packaged, locked and documented agrees with itself."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def declared(section: str, key: str) -> set[str]:
    """Return the normalised names of the distributions that setup.cfg asks for."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return {name_of(line) for line in config[section][key].split("\n") if line.strip()}


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def locked(lock: str) -> set[str]:
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    return {name_of(line) for line in lines if "==" in line}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_neither_index_nor_path(lock: Path) -> None:
    requirement = re.compile(r"[a-z0-9.-]+==[\w.]+( ; [^\\]+)? \\")
    for line in lock.read_text().splitlines():
        assert (
            line.startswith("#")
            or requirement.fullmatch(line)
            or re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)
        ), line


def test_the_run_time_lock_holds_what_is_declared_and_nothing_of_development() -> None:
    lock = locked("runtime.txt")
    assert declared("options", "install_requires") <= lock
    assert not lock & {"pytest", "ruff", "mypy", "hypothesis", "cramjam", "protobuf"}


def test_the_development_lock_pins_what_the_run_time_lock_pins() -> None:
    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^[^ #]+==.*$", (ROOT / "requirements" / lock).read_text(), re.M))

    assert pins("runtime.txt") <= pins("dev.txt")
    assert pins("build.txt") <= pins("dev.txt")


def test_each_direct_dependency_has_a_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    cells = re.findall(r"^\| ([^|]+) \|", page, re.M)
    reasoned = {name_of(name) for cell in cells for name in cell.split(",")}
    inputs = [
        line
        for source in ("dev.in", "build.in")
        for line in (ROOT / "requirements" / source).read_text().splitlines()
        if line and not line.startswith(("#", "-"))
    ]
    wanted = (
        declared("options", "install_requires")
        | declared("options.extras_require", "demo")
        | {name_of(line) for line in inputs}
    )
    assert wanted - reasoned == set()


def anchor_of(heading: str) -> str:
    """Return the fragment that a Markdown heading gets on the repository's pages."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if fragment:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert fragment in {anchor_of(heading) for heading in headings}, link


def examples(language: str) -> list[str]:
    pages = [page.read_text() for page in PAGES]
    return [code for page in pages for code in re.findall(rf"```{language}\n(.*?)```", page, re.S)]


def test_the_yaml_examples_are_yaml() -> None:
    documents = [
        document for code in examples("yaml") for document in yaml.safe_load_all(code) if document
    ]
    kinds = [document.get("kind") for document in documents]
    assert {"ServiceAccount", "Deployment", "Service"} <= set(kinds)


def test_the_kubernetes_example_outlives_its_own_drain() -> None:
    deployment = next(
        document
        for code in examples("yaml")
        for document in yaml.safe_load_all(code)
        if document.get("kind") == "Deployment"
    )
    pod = deployment["spec"]["template"]["spec"]
    env = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    drain = int(env["SHUTDOWN_DELAY_SECONDS"]) + int(env["SHUTDOWN_GRACE_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > drain
