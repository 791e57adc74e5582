"""The command line as shells and manuals have it: completion, man page, help."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from authproxy.cli.commands import cli
from authproxy.settings import Settings
from tests.support.shells import Terminal
from tests.support.source import ROOT
from tools import man_page

COMMANDS = sorted(cli.commands)
PAGE = ROOT / "authproxy" / "authproxy.1"

#: How each shell starts, and how its documentation has completion switched on.
SHELLS = {
    "bash": (["bash", "--norc", "-i"], "source <(authproxy completion bash)"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -Uz compinit; compinit -D -u; source <(authproxy completion zsh)",
    ),
    "fish": (["fish", "--no-config", "-i"], "authproxy completion fish | source"),
}


@pytest.mark.parametrize(
    "shell",
    [pytest.param(name, marks=pytest.mark.real(name), id=name) for name in SHELLS],
)
def test_a_shell_completes_what_is_typed(shell: str, tmp_path: Path) -> None:
    command, setup = SHELLS[shell]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {shell} is installed")
    with Terminal(command, tmp_path) as terminal:
        terminal.type(f"{setup}; echo now=ready | tr = :\r")
        terminal.wait_for("now:ready")
        terminal.type("authproxy comple\tfi\t\r")
        terminal.wait_for("complete --no-files --command authproxy")


def completions(*words: str) -> list[str]:
    """Return what bash is offered for the last of the words."""
    result = CliRunner().invoke(
        cli,
        prog_name="authproxy",
        complete_var="_COMPLETE",
        env={
            "_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["authproxy", *words]),
            "COMP_CWORD": str(len(words)),
        },
    )
    return result.output.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["se"], ["plain,serve", "plain,settings"]),
        (["check", "--log-f"], ["plain,--log-format"]),
        (["check", "--log-format", "j"], ["plain,json"]),
        (["serve", "--identity-type", "Sys"], ["plain,systemassigned"]),
        (["serve", "--log-query", ""], ["plain,true", "plain,false"]),
        (["serve", "--target-ca-file", "/et"], ["file,/et"]),
        (["check", "--config", "a"], ["file,a"]),
        (["settings", "--aad-client-secret-"], ["plain,--aad-client-secret-file"]),
        (["serve", "--audience", "h"], []),
    ],
)
def test_completion_knows_commands_options_and_values(words: list[str], offered: list[str]) -> None:
    assert completions(*words) == offered


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_tells_the_exit_status(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    assert "Exit status:" in result.output
    assert f"Examples:\n    authproxy {command}" in result.output or command == "completion"
    assert "..." not in CliRunner().invoke(cli, ["--help"]).output.split("Commands:")[1]


def test_the_options_of_settings_stand_under_the_headings_of_the_document() -> None:
    output = CliRunner().invoke(cli, ["serve", "--help"]).output
    for group in {one.group for one in Settings.declared.values()}:
        assert f"\n{group.title}:\n  --" in output


def test_the_man_page_is_that_of_the_commands() -> None:
    for path, text in man_page.made(ROOT, Settings).items():
        assert path.read_text() == text, "run `make docs`"


@pytest.mark.real("man")
def test_the_man_page_is_shown_without_a_warning() -> None:
    if shutil.which("man") is None:
        pytest.skip("no man is installed")
    done = subprocess.run(
        ["man", "--warnings=w", "--encoding=UTF-8", "--local-file", PAGE],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    shown = " ".join(done.stdout.split())
    assert "authproxy - put Microsoft Entra ID tokens on HTTP requests" in shown
    for name in COMMANDS:
        usage = " ".join(cli.commands[name].collect_usage_pieces(click.Context(cli)))
        assert f"{name} {usage}" in shown
    for variable in Settings.declared:
        assert f" {variable}" in shown
    for status in ("0", "1", "2", "3", "130"):
        assert f" {status} " in shown.partition("EXIT STATUS")[2]
