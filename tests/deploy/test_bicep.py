"""deploy/bicep, as far as it can be judged without Azure and the Bicep compiler."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from authproxy.settings import load_settings
from tests.support.source import ROOT

FOLDER = ROOT / "deploy" / "bicep"
FILES = sorted(FOLDER.glob("*.bicep"))
MAIN = (FOLDER / "main.bicep").read_text()

#: Azure's own roles (https://learn.microsoft.com/azure/role-based-access-control/built-in-roles).
ROLES = {
    "role.bicep": ("Monitoring Metrics Publisher", "3913510d-42f4-4e42-8a64-420c390055eb"),
    "pull.bicep": ("AcrPull", "7f951dda-4ed3-4680-a7ca-43fe172d538d"),
}
INGESTION_URL = (
    "https://w-abcd.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0/streams/"
    "Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24"
)

each_file = pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)


def declared(text: str, kind: str) -> set[str]:
    return set(re.findall(rf"^{kind} (\w+) ", text, re.M))


def code(text: str) -> str:
    """Return the text without comments and strings, of which what is put in between stays."""
    text = re.sub(r"^\s*(//|@description).*$", "", text, flags=re.M)
    return re.sub(
        r"'[^'\n]*'",
        lambda string: " ".join(re.findall(r"\$\{([^}]*)\}", string[0])),
        re.sub(r"\$\{([^}'\n]*)'([^'\n]*)'([^}\n]*)\}", r"${\1 \3}", text),
    )


@each_file
def test_brackets_are_closed(file: Path) -> None:
    opened = []
    for character in code(file.read_text()):
        if character in "([{":
            opened.append(character)
        elif character in ")]}":
            assert opened.pop() + character in ("()", "[]", "{}")
    assert opened == []


@each_file
def test_whatever_is_declared_is_used(file: Path) -> None:
    text = file.read_text()
    symbols = [*declared(text, "param"), *declared(text, "var")]
    for symbol in symbols:
        assert len(re.findall(rf"\b{symbol}\b(?!:)", code(text))) > 1, symbol


def test_modules_are_given_the_parameters_that_they_have() -> None:
    modules = re.findall(r"^module (\w+) '(\S+)' .*?^  params: \{\n(.*?)^  \}", MAIN, re.M | re.S)
    assert {file for _, file, _ in modules} == {path.name for path in FILES} - {"main.bicep"}
    for _, file, given in modules:
        wanted = declared((FOLDER / file).read_text(), "param")
        assert set(re.findall(r"^    (\w+):", given, re.M)) == wanted


@each_file
def test_resources_have_a_version_of_their_interface(file: Path) -> None:
    kinds = re.findall(r"^resource \w+ '([^']+)'", file.read_text(), re.M)
    assert kinds
    for kind in kinds:
        assert re.fullmatch(r"Microsoft\.\w+/[\w/]+@20\d\d-\d\d-\d\d", kind)


@pytest.mark.parametrize("file", ROLES)
def test_a_role_is_the_one_that_its_comment_names(file: str) -> None:
    name, identifier = ROLES[file]
    assert re.search(
        rf"^// {name}\nvar \w+ = subscriptionResourceId\(.*'{identifier}'\)$",
        (FOLDER / file).read_text(),
        re.M,
    )


def environment() -> dict[str, str]:
    given = {"ingestionUrl": INGESTION_URL, "identity.properties.clientId": "1" * 8}
    return {
        name: given.get(value, value.strip("'"))
        for name, value in re.findall(r"\{ name: '([A-Z_]+)', value: (\S+) \}", MAIN)
    }


def test_the_variables_are_settings_without_a_fault() -> None:
    settings = load_settings(environ=environment(), serving=True).settings
    assert settings.forwards_only_remote_write
    assert settings.scope == "https://monitor.azure.com/.default"


def test_the_app_is_asked_where_it_listens_and_given_the_time_to_end() -> None:
    variables = environment()
    ports = re.findall(r"\b(?:port|targetPort): (\d+)", MAIN)
    assert set(ports) == {variables["LISTENING_PORT"]}
    assert len(ports) == 4
    probes = dict(re.findall(r"type: '(\w+)', httpGet: \{ path: '(\S+)'", MAIN))
    assert probes == {"Startup": "/health", "Liveness": "/health", "Readiness": "/ready"}
    [seconds] = re.findall(r"terminationGracePeriodSeconds: (\d+)", MAIN)
    draining = int(variables["SHUTDOWN_DELAY_SECONDS"]) + int(variables["SHUTDOWN_GRACE_SECONDS"])
    assert int(seconds) >= draining + 5


def test_nobody_from_outside_comes_in() -> None:
    assert re.search(r"ingress: \{\s+external: false", MAIN)
    assert "allowInsecure" not in MAIN


def test_the_page_gives_every_parameter_that_has_no_default() -> None:
    page = (ROOT / "docs" / "container.md").read_text()
    for parameter in re.findall(r"^param (\w+) string$", MAIN, re.M):
        assert re.search(rf"\b{parameter}=", page), parameter
