"""A setting is declared once and comes out everywhere; nothing else names settings in a table."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from authproxy.cli.options import setting_options
from authproxy.errors import CredentialError, Fault, SettingsError
from authproxy.files.secret import Secret
from authproxy.settings import Loaded, Settings, load_settings
from authproxy.settings.declaration import Group, OneOf, Required, Setting, derived
from authproxy.settings.kinds import FilePath, Flag, Number, SecretText, Text, Word
from authproxy.settings.report import as_json, lines
from authproxy.settings.secret_files import OpenFile, open_secret_files
from tests.support.helm import CHART, Helm, plain_environment, proxy_container
from tests.support.source import ROOT
from tools import documents


class MadeUpLimits(Settings, group=Group.LIMITS):
    """Settings that there are not, of the process."""

    made_up_seconds = Setting(
        Number("seconds", least=0.5, most=60), 5.0, "How long to wait.", only_serve=True
    )
    made_up_pause = Setting(
        Number("hours", most=24),
        derived(made_up_seconds, lambda seconds: seconds / 3600, "MADE_UP_SECONDS / 3600"),
        "How long to pause.",
    )
    made_up_flag = Setting(Flag(), True, "Whether to wait.", reloaded=True)


class MadeUp(MadeUpLimits, group=Group.IDENTITY):
    """Settings that there are not, of each route."""

    made_up_type = Setting(Word("round", "square"), "round", "The form.")
    made_up_name = Setting(
        Text(),
        None,
        "The name.",
        also=("OTHER_NAME", "ANOTHER_NAME"),
        required=Required("Set it to what it is called", made_up_type, ("square",)),
    )
    made_up_secret = Setting(SecretText(), None, "The secret.", also=("OTHER_SECRET",))
    made_up_path = Setting(FilePath(private=True), None, "The file.", unset="nowhere")
    made_up_proof: OneOf[Any] = OneOf(made_up_secret, made_up_path, hint="Keep the secret.")
    made_up_width = Setting(
        Number("metres", least=0, most=9), None, "How wide.", needs=made_up_proof
    )


TARGET = {"TARGET_HOST": "a.prometheus.monitor.azure.com"}


def load(options: dict[str, str] | None = None, /, **environ: str) -> Loaded:
    return load_settings(options, {**TARGET, **environ}, serving=False, model=MadeUp)


def made_up(loaded: Loaded) -> MadeUp:
    assert isinstance(loaded.settings, MadeUp)
    return loaded.settings


def faults(**environ: str) -> list[Fault]:
    with pytest.raises(SettingsError) as caught:
        load(**environ)
    return list(caught.value.faults)


def settings_file(folder: Path, content: object) -> str:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


# -- where values come from --------------------------------------------------


def test_it_is_read_from_option_environment_and_file_in_this_order(tmp_path: Path) -> None:
    in_file = settings_file(tmp_path, {"made_up_seconds": 7, "made-up-flag": "no"})
    environ = {"AUTHPROXY_CONFIG": in_file, "MADE_UP_SECONDS": "8"}
    loaded = load({"MADE_UP_SECONDS": "9"}, **environ)
    assert (made_up(loaded).made_up_seconds, loaded.origins["MADE_UP_SECONDS"]) == (9.0, "option")
    assert made_up(load(**environ)).made_up_seconds == 8.0
    loaded = load(AUTHPROXY_CONFIG=in_file)
    assert (made_up(loaded).made_up_seconds, made_up(loaded).made_up_flag) == (7.0, False)
    assert loaded.origins["MADE_UP_FLAG"] == "file"
    assert made_up(load()).made_up_seconds == 5.0


def test_what_derives_from_it_says_so() -> None:
    loaded = load(MADE_UP_SECONDS="36")
    assert made_up(loaded).made_up_pause == 0.01
    assert loaded.settings.effective()["MADE_UP_PAUSE"] == "0.01"
    assert loaded.origins["MADE_UP_PAUSE"] == "default (from MADE_UP_SECONDS)"


def test_names_of_other_programs_rank_as_they_are_declared_and_last(tmp_path: Path) -> None:
    also = {"OTHER_NAME": "b", "ANOTHER_NAME": "c"}
    in_file = settings_file(tmp_path, {"made_up_name": "a"})
    assert made_up(load(**also, AUTHPROXY_CONFIG=in_file)).made_up_name == "a"
    loaded = load(**also)
    assert made_up(loaded).made_up_name == "b"
    assert loaded.origins["MADE_UP_NAME"] == "environment (OTHER_NAME)"
    assert made_up(load(ANOTHER_NAME="c", OTHER_NAME=" ")).made_up_name == "c"


def test_a_secret_has_a_file_and_is_masked_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    for environ in ({"MADE_UP_SECRET": "s3cret"}, {"MADE_UP_SECRET_FILE": str(path)}):
        # The other program's is read only where neither form is given.
        loaded = load(**environ, OTHER_SECRET="s3cret of others")
        assert made_up(loaded).revealed(MadeUp.made_up_secret) == "s3cret"
        assert "s3cret" not in f"{loaded} {as_json(loaded)} {list(lines(loaded))}"
    assert made_up(load(OTHER_SECRET="other")).made_up_secret == Secret("other")
    loaded = load(MADE_UP_SECRET_FILE=str(path))
    path.unlink()
    with pytest.raises(CredentialError, match=r"MADE_UP_SECRET_FILE='.*the file cannot be read"):
        made_up(loaded).revealed(MadeUp.made_up_secret)
    (fault,) = faults(MADE_UP_SECRET="s3\ncret")
    assert fault.value == "***"


def test_a_private_file_that_others_can_read_is_told() -> None:
    with tempfile.NamedTemporaryFile() as file:  # tmp_path is out of others' reach
        Path(file.name).chmod(0o644)
        told = list(open_secret_files(load(MADE_UP_PATH=file.name)))
    assert told == [OpenFile("MADE_UP_PATH", file.name, "0644")]


# -- what is wrong with them -------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"MADE_UP_SECONDS": "0.4"},
            "MADE_UP_SECONDS='0.4': it is out of range. Give a number of seconds from 0.5 to 60.",
        ),
        (
            {"MADE_UP_PAUSE": "0"},
            "MADE_UP_PAUSE='0': it is out of range. Give a number of hours above 0, up to 24.",
        ),
        (
            {"MADE_UP_TYPE": "Square"},
            "MADE_UP_NAME: it is required with MADE_UP_TYPE=square. Set it to what it is called "
            "(OTHER_NAME or ANOTHER_NAME will do as well).",
        ),
        (
            {"MADE_UP_WIDTH": "3"},
            "MADE_UP_WIDTH='3': there is neither MADE_UP_SECRET nor MADE_UP_PATH. Set "
            "MADE_UP_SECRET or MADE_UP_PATH, or leave it out.",
        ),
        (
            {"MADE_UP_PATH": "/x", "MADE_UP_SECRET": "x"},
            "MADE_UP_PATH='/x': it is set besides MADE_UP_SECRET. Keep the secret.",
        ),
        (
            {"MADE_UP_SECRET": "x", "MADE_UP_SECRET_FILE": str(CHART / "Chart.yaml")},
            f"MADE_UP_SECRET_FILE='{CHART}/Chart.yaml': it is set besides MADE_UP_SECRET. Keep one "
            "of them; the file is the safer one.",
        ),
    ],
)
def test_each_fault_follows_from_the_declaration(environ: dict[str, str], told: str) -> None:
    assert told in map(str, faults(**environ))


def test_a_name_that_is_nearly_right_is_suggested(tmp_path: Path) -> None:
    in_file = settings_file(tmp_path, {"made_up_secnods": 1})
    (fault,) = faults(AUTHPROXY_CONFIG=in_file)
    assert fault.hint == "Did you mean made_up_seconds?"


# -- for whom they hold ------------------------------------------------------


def test_a_route_has_its_own_and_nothing_of_the_process(tmp_path: Path) -> None:
    first = {"path": "/a", "target_host": TARGET["TARGET_HOST"], "made_up_path": "/own"}
    second = {"path": "/b", "target_host": TARGET["TARGET_HOST"]}
    content = {"made_up_secret": "outside", "made_up_type": "square", "made_up_name": "n"}
    in_file = settings_file(tmp_path, {**content, "routes": [first, second]})
    routes = load(AUTHPROXY_CONFIG=in_file, TARGET_HOST="").settings.routes
    own, other = (route.settings for route in routes)
    assert isinstance(own, MadeUp)
    assert isinstance(other, MadeUp)
    assert (own.made_up_path, own.made_up_secret, own.made_up_name) == ("/own", None, "n")
    assert other.made_up_secret == Secret("outside")
    assert routes[0].shown()["MADE_UP_PATH"] == "/own"
    in_file = settings_file(tmp_path, {**content, "routes": [{**first, "made_up_seconds": 9}]})
    (fault,) = faults(AUTHPROXY_CONFIG=in_file, TARGET_HOST="")
    assert (fault.route, fault.setting) == ("/a", "MADE_UP_SECONDS")
    assert "a setting of the whole process" in fault.problem


def test_a_reload_changes_what_is_not_fixed() -> None:
    before = load(MADE_UP_SECONDS="1", MADE_UP_FLAG="yes", MADE_UP_NAME="x")
    after = load(MADE_UP_SECONDS="2", MADE_UP_FLAG="no", MADE_UP_NAME="y")
    in_force = made_up(after).within(made_up(before))
    assert isinstance(in_force, MadeUp)
    assert (in_force.made_up_seconds, in_force.made_up_flag, in_force.made_up_name) == (
        1.0,
        False,
        "y",
    )
    assert in_force.identity_key != before.settings.identity_key


# -- where they are told -----------------------------------------------------


def test_each_is_an_option_but_for_the_secret() -> None:
    got: dict[str, str | None] = {}
    command = click.Command(
        "any", params=setting_options(MadeUp), callback=lambda **options: got.update(options)
    )
    done = CliRunner().invoke(command, ["--made-up-seconds", "3", "--made-up-secret-file", "/x"])
    assert done.exit_code == 0, done.output
    assert (got["MADE_UP_SECONDS"], got["MADE_UP_SECRET_FILE"]) == ("3", "/x")
    assert "MADE_UP_SECRET" not in got
    told = " ".join(CliRunner().invoke(command, ["--help"], terminal_width=200).output.split())
    assert "--made-up-seconds VALUE How long to wait. [default: 5]" in told
    assert "--made-up-pause VALUE How long to pause. [default: MADE_UP_SECONDS / 3600]" in told
    assert "--made-up-path VALUE The file. [default: nowhere]" in told
    assert "--made-up-name VALUE The name. [required with MADE_UP_TYPE=square]" in told


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what documents are made from, and the documents with the made-up settings."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(CHART, root / "helm" / "authproxy")
    (root / "docs" / "telemetry").mkdir(parents=True)
    (root / "authproxy").mkdir()
    for name in ("docs/settings.md.in", "docs/telemetry/alerts.yaml"):
        shutil.copy(ROOT / name, root / name)
    for path, text in documents.made(root, MadeUp).items():
        path.write_text(text)
    return root


def test_the_settings_page_has_a_row_for_each(repository: Path) -> None:
    page = (repository / "docs" / "settings.md").read_text()
    for row in (
        "| `MADE_UP_SECONDS` | `5` | How long to wait. A number of seconds from 0.5 to 60. "
        "Only `authproxy serve` uses it. |",
        "| `MADE_UP_PAUSE` | MADE_UP_SECONDS / 3600 | How long to pause. "
        "A number of hours above 0, up to 24. |",
        "| `MADE_UP_NAME` | required with MADE_UP_TYPE=square | The name. |",
        "| `MADE_UP_SECRET` |  | The secret. Masked wherever it is shown. |",
        "| `MADE_UP_SECRET_FILE` |  | File that holds MADE_UP_SECRET. |",
        "| `MADE_UP_WIDTH` |  | How wide. A number of metres from 0 to 9. Only with MADE_UP_SECRET "
        "or MADE_UP_PATH. |",
        "| `ANOTHER_NAME` | `MADE_UP_NAME` |",
        "| `OTHER_SECRET` | `MADE_UP_SECRET` |",
    ):
        assert page.count(row) == 1, row
    assert re.search(r"`AAD_CLIENT_SECRET_FILE` and `MADE_UP_SECRET_FILE`\nname a file", page)
    assert "`MADE_UP_FLAG`, `ACCESS_LOG`, `LOG_LEVEL` and `TRACE_LOGGING`; the others hold" in page


def test_the_man_page_has_an_entry_for_each(repository: Path) -> None:
    page = (repository / "authproxy" / "authproxy.1").read_text().replace("\\-", "-")
    assert ".TP\n.B MADE_UP_SECONDS, --made-up-seconds\nHow long to wait. [default: 5]\n" in page
    assert ".TP\n.B MADE_UP_SECRET\nThe secret.\n" in page


def test_the_chart_has_a_value_for_each_but_the_secret(repository: Path) -> None:
    chart = repository / "helm" / "authproxy"
    values = (chart / "values.yaml").read_text()
    comment = "# MADE_UP_SECONDS. How long to wait. A number of seconds from 0.5 to 60. Default: 5."
    assert f"\n{comment}\nmadeUpSeconds: null\n" in values
    assert '\nmadeUpName: ""\n' in values
    assert "madeUpSecret:" not in values
    schema = json.loads((chart / "values.schema.json").read_text())["properties"]
    assert schema["madeUpSeconds"] == {
        "description": "MADE_UP_SECONDS. How long to wait.",
        "type": ["number", "string", "null"],
        "minimum": 0.5,
        "maximum": 60,
    }
    assert schema["madeUpFlag"]["type"] == ["boolean", "string", "null"]
    assert schema["madeUpType"]["anyOf"][0] == {"enum": ["round", "square", ""]}
    of_route = schema["routes"]["items"]["properties"]
    assert "madeUpName" in of_route
    assert "madeUpSeconds" not in of_route
    assert "| `madeUpSeconds` |" in (chart / "README.md").read_text()


@pytest.mark.process
@pytest.mark.real("helm")
def test_the_rendered_chart_sets_each(repository: Path, tmp_path: Path) -> None:
    helm = Helm(tmp_path, chart=repository / "helm" / "authproxy")
    given = {
        "image": {"repository": "x"},
        "madeUpSeconds": 7.5,
        "madeUpSecretFile": "/secret",
        "madeUpFlag": False,
        "routes": [{"targetHost": TARGET["TARGET_HOST"], "madeUpName": "own"}],
    }
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(given))
    rendered = helm.render_file(values)
    environment = plain_environment(proxy_container(rendered))
    assert environment["MADE_UP_SECONDS"] == "7.5"
    assert environment["MADE_UP_FLAG"] == "false"
    assert environment["MADE_UP_SECRET_FILE"] == "/secret"
    (routes,) = (
        yaml.safe_load(one["data"]["authproxy.yaml"])["routes"]
        for one in rendered
        if one["kind"] == "ConfigMap"
    )
    assert routes[0]["made_up_name"] == "own"
    values.write_text(yaml.safe_dump({**given, "madeUpSeconds": "61", "madeUpSecret": "s3cret"}))
    said = helm.faults("--values", str(values))
    assert "it is out of range. Give a number of seconds from 0.5 to 60." in said
    assert "madeUpSecret: there is no such value. Put it into a Secret, mount that" in said


# -- and nowhere else --------------------------------------------------------

#: Programs that give settings to the proxy name them as every operator does.
GIVING = ("demo",)


def tables(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the displays of a module that name several settings, by line."""
    attributes = {one.name for one in Settings.declared.values() if "_" in one.name}
    names = attributes.union(Settings.declared)
    for node in ast.walk(ast.parse(path.read_text())):
        members: list[ast.expr | None] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            members = [*node.elts]
        elif isinstance(node, ast.Dict):
            members = [*node.keys, *node.values]
        named = [
            each.value for each in members if isinstance(each, ast.Constant) and each.value in names
        ]
        if len(named) > 1:
            assert isinstance(node, ast.expr)
            yield node.lineno, named


def test_no_module_names_settings_in_a_table() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": named
        for folder in ("authproxy", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.relative_to(ROOT / folder).parts[0] not in GIVING
        for line, named in tables(path)
    }
    assert found == {}


def test_such_a_table_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('A = ("THREADS", "x", "WORKERS")\nB = {"log_level": 1, "log_query": 2}\n')
    assert [line for line, _ in tables(path)] == [1, 2]


def test_the_settings_name_no_other_in_code() -> None:
    """They refer to declarations, so that a name which is wrong does not even load."""
    for path in sorted((ROOT / "authproxy" / "settings").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant):
                assert node.value not in Settings.declared, f"{path.name}:{node.lineno}"
