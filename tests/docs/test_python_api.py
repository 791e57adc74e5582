"""The public Python API, as docs/python.md shows it."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import authproxy
from tests.support.authority import Authority
from tests.support.deployed import way_to
from tests.support.identity import identity_settings
from tests.support.pages import Block, blocks
from tests.support.process import clean_environment, free_port, wait_until
from tests.support.source import ROOT
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import exchange, message

PAGE = ROOT / "docs" / "python.md"
EXAMPLES: dict[str, Block] = {block.heading: block for block in blocks(PAGE, "python")}
BELOW_A_PATH = "Below a path of your own application"
WITH_VIEWS = "With views of your own"
HOST = "workspace-abcd.westeurope.prometheus.monitor.azure.com"


class Site:
    """An example behind the server that the page names."""

    def __init__(self, port: int) -> None:
        self.address = ("127.0.0.1", port)

    def ask(self, path: str, *lines: str) -> tuple[int, bytes]:
        answer = exchange(self.address, message(f"GET {path}", "Connection: close", *lines))
        return answer.status, answer.body

    def answers(self, path: str, status: int) -> bool:
        try:
            return self.ask(path)[0] == status
        except OSError:
            return False


@contextmanager
def served(code: str, folder: Path, environment: dict[str, str]) -> Iterator[Site]:
    [command] = re.findall(r"^waitress-serve (.*)$", PAGE.read_text(), re.M)
    port = free_port()
    arguments = command.replace(":8080", f":{port}").split()
    module, _, name = arguments[-1].partition(":")
    (folder / f"{module}.py").write_text(code)
    assert name == "application"
    process = subprocess.Popen(
        [sys.executable, "-m", "waitress", *arguments],
        cwd=folder,
        env={**clean_environment(str(folder)), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield Site(port)
    except AssertionError as error:
        process.kill()
        raise AssertionError(f"{error}\n{process.stderr.read()}") from error
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def test_there_are_these_examples() -> None:
    assert list(EXAMPLES) == [BELOW_A_PATH, WITH_VIEWS]


def test_the_proxy_answers_below_a_path_of_another_application(
    base_settings: dict[str, str], target: Upstream, shared_entra: StandInEntra, tmp_path: Path
) -> None:
    with served(EXAMPLES[BELOW_A_PATH].code, tmp_path, base_settings) as site:
        wait_until("it is ready", lambda: site.answers("/metrics-store/ready", 200))
        assert site.ask("/") == (200, b"The metrics store is at /metrics-store.")
        assert site.ask("/api/v1/query")[0] == 404
        assert site.ask("/metrics-store/health")[0] == 200
        assert site.ask("/metrics-store/a%2Fb//c?x=%20") == (200, b"ok")
        body = b"x" * 700_000
        posted = exchange(
            site.address, message("POST /metrics-store/write", "Connection: close", body=body)
        )
        assert posted.status == 200
    request, write = target.wait_for_requests(2)
    assert (write.target, write.body) == (b"/write", body)
    assert request.target == b"/a%2Fb//c?x=%20"
    assert request.one("Authorization") == f"Bearer {shared_entra.issued[-1].value}"


def test_the_application_takes_views_of_ones_own(
    target: Upstream, entra: StandInEntra, authority: Authority, tmp_path: Path
) -> None:
    own = Upstream(authority.context(HOST))
    port = own.authority.rpartition(":")[2]
    code = EXAMPLES[WITH_VIEWS].code
    assert HOST in code
    with way_to(HOST, authority) as way:
        way["REQUESTS_CA_BUNDLE"] = way.pop("TARGET_CA_FILE")
        environment = {**identity_settings(entra), **way}
        try:
            with served(code.replace(HOST, f"{HOST}:{port}"), tmp_path, environment) as site:
                wait_until("it is ready", lambda: site.answers("/ready", 200))
                status, body = site.ask("/about")
                assert (status, HOST.encode() in body) == (200, True)
                assert site.ask("/%61bout") == (200, b"ok")
        finally:
            own.close()
    assert own.only().target == b"/%61bout"


def test_an_example_with_faulty_settings_says_what_mends_them(tmp_path: Path) -> None:
    code = EXAMPLES[WITH_VIEWS].code.replace('"systemAssigned"', '"nobody"')
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The settings have faults:\nIDENTITY_TYPE='nobody': ")
    assert "Traceback" not in done.stderr


def test_the_examples_are_typed_and_a_mistake_in_them_is_found(tmp_path: Path) -> None:
    wrong = 'import authproxy\n\nauthproxy.create_app("settings")\nauthproxy.misspelt\n'
    codes = [*(block.code for block in EXAMPLES.values()), wrong]
    paths = []
    for number, code in enumerate(codes):
        paths.append(tmp_path / f"example_{number}.py")
        paths[-1].write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^.*example_(\d)\.py:\d+: error: (.*?)  \[(.*)\]$", done.stdout, re.M)
    assert [(number, kind) for number, _, kind in found] == [
        ("2", "arg-type"),
        ("2", "attr-defined"),
    ], done.stdout + done.stderr


def test_what_is_exported_is_documented_and_there() -> None:
    text = PAGE.read_text()
    assert set(authproxy.__all__) <= set(dir(authproxy))
    for name in authproxy.__all__:
        exported = getattr(authproxy, name)
        if name == "__version__":
            continue
        assert re.search(rf"`{name}\b", text), name
        assert exported.__doc__, name
        if not isinstance(exported, type):
            assert "return" in typing.get_type_hints(exported), name
    with pytest.raises(AttributeError, match="misspelt"):
        authproxy.misspelt  # type: ignore[attr-defined]  # noqa: B018


def test_methods_that_the_page_names_are_there() -> None:
    section = PAGE.read_text().partition("## Start and end")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)\([\w, ]*\)`", section))
    assert named == {"start", "begin_drain", "refuse", "close", "reload"}
    for name in named:
        assert callable(getattr(authproxy.Services, name))


def test_only_an_application_of_ours_has_services() -> None:
    from flask import Flask

    with pytest.raises(authproxy.AuthProxyError, match="create_app"):
        authproxy.services_of(Flask("another"))


@pytest.mark.parametrize("statement", ["import authproxy", "import authproxy.cli.commands"])
def test_the_api_costs_nothing_where_it_is_not_used(statement: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"flask", "requests", "azure.identity", "authproxy.app"}
