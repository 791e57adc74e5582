"""What is packaged, locked and documented agrees with itself."""

from __future__ import annotations

import configparser
import re
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from authproxy import errors
from authproxy.settings import Settings, load_settings
from tests.support.pages import PAGES, all_blocks
from tests.support.source import ROOT, source_files

README = (ROOT / "README.md").read_text()
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


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
    assert not lock & {"pytest", "ruff", "mypy", "hypothesis", "cramjam", "trustme"}


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
        for source in ("dev.in", "build.in", "apache.in")
        for line in (ROOT / "requirements" / source).read_text().splitlines()
        if line and not line.startswith(("#", "-"))
    ]
    wanted = declared("options", "install_requires") | {name_of(line) for line in inputs}
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


def test_the_settings_of_the_readme_are_free_of_faults() -> None:
    assignments = "\n".join(block.code for block in all_blocks("ini"))
    on_a_vm = {
        name: value.strip('"') for name, value in re.findall(r"^([A-Z_]+)=(.+)$", assignments, re.M)
    }
    settings = load_settings(environ=on_a_vm, serving=True).settings
    assert settings.forwards_only_remote_write
    assert settings.scope == "https://monitor.azure.com/.default"


def test_the_readme_shows_settings_and_defaults_as_declared() -> None:
    table = README[README.index("| variable | default |") :].split("\n\n")[0]
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| ([^|]*) \|", table, re.M)
    assert rows
    for names, defaults in rows:
        variables = re.findall(r"`(\w+)`", names)
        shown = [default.strip(" `") for default in defaults.split(",")] if defaults else []
        for variable, default in zip(variables, shown or [""] * len(variables), strict=False):
            one = Settings.declared[variable]
            assert (one.literal or Settings.unset(one)).startswith(default)


def test_every_error_code_is_explained_with_its_status() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page, re.M))
    codes = {kind.code: int(kind.status) for kind in errors.RequestError.__subclasses__()}
    assert codes.items() <= {code: int(status) for code, status in rows.items()}.items()


# -- the name ---------------------------------------------------------------------------------

DISTRIBUTION = "entra-auth-proxy"

#: Options, each with a value or without.
OPTIONS = r"(?:\s+-\S+(?:\s+[^\s-]\S*)??)*?"
#: A command that has a program of Python's fetch the package by its name, or by one that is
#: another's; a path is no name.
FETCHED = re.compile(
    rf"\b(?:uvx|(?:pip[\d.]*|pipx|uv|poetry|pdm|conda)(?:\s+tool|\s+pip|{OPTIONS})"
    rf"\s+(?:install|add|run|download|inject)){OPTIONS}"
    r"\s+[\"'`]?(?:entra[-_]auth[-_]proxy|(?:aad[-_])?auth[-_]?proxy)"
    r"(?![\w./-]*/)[\w\[\]=<>~!.,$(){}-]*",
    re.IGNORECASE,
)


def fetched(text: str) -> list[str]:
    """Return the commands that would fetch the package from an index."""
    joined = text.replace("\\\n", " ")
    return [found[0] for found in FETCHED.finditer(joined) if "--no-index" not in found[0]]


def test_the_distribution_has_a_name_of_its_own_and_the_command_stays() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["name"] == DISTRIBUTION
    [command] = entry_points(group="console_scripts", name="authproxy")
    assert command.dist is not None
    assert (command.dist.name, command.value) == (DISTRIBUTION, "authproxy.__main__:main")


def test_nothing_names_an_index_that_the_package_is_not_on() -> None:
    """What PyPI has under the name authproxy is a stranger's."""
    files = [ROOT / name for name in source_files()]
    advised = {
        str(path.relative_to(ROOT)): found
        for path in files
        if path.is_file()
        and path != Path(__file__)
        and (found := fetched(path.read_bytes().decode(errors="replace")))
    }
    assert advised == {}


@pytest.mark.parametrize(
    "advice",
    [
        "pip install authproxy",
        "# /opt/x/bin/pip install --upgrade 'authproxy[demo]==0.1.0'",
        "uv pip install authproxy",
        "pip --isolated install --target x authproxy",
        "python3 -m pip install \\\n    entra-auth-proxy",
        "use `pip3 install entra_auth_proxy`.",
        "uvx authproxy demo",
        "uv tool install --python 3.12 entra-auth-proxy",
        "pipx run authproxy serve",
        "poetry add aad-auth-proxy",
    ],
)
def test_advice_that_names_an_index_would_be_noticed(advice: str) -> None:
    assert fetched(advice)


@pytest.mark.parametrize(
    "advice",
    [
        "/opt/authproxy/bin/pip install --require-hashes -r requirements/runtime.txt",
        "pip install /srv/authproxy/entra_auth_proxy-0.1.0-py3-none-any.whl",
        "pip install ./entra_auth_proxy-0.1.0-py3-none-any.whl",
        "pip install --no-index --find-links /wheels entra-auth-proxy==1.0",
        "make install && authproxy serve",
    ],
)
def test_advice_that_names_a_file_is_none_of_an_index(advice: str) -> None:
    assert fetched(advice) == []


def test_the_installation_says_how_far_it_is(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("".join(f"package{n}==1 \\\n    --hash=sha256:00\n" for n in range(50)))
    said = [
        *(f"Collecting package{n}==1 (from -r lock.txt)" for n in range(47)),
        *(f"Ignoring package{n}: markers do not match" for n in range(47, 50)),
        "Installing collected packages: package0, package1",
    ]
    done = subprocess.run(
        [ROOT / "scripts" / "install-progress", lock],
        input="".join(f"{line}\n" for line in said), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "  20 of 50 packages",
        "  40 of 50 packages",
        "  All are here; installing them.",
    ]
