"""Judges of shell blocks: bash reads them whole, and each command is one that there is."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import click
import yaml

from authproxy.cli.commands import cli
from authproxy.settings import Settings
from tests.docs.shell import Command, assigns_only, commands, functions
from tests.support.pages import Block
from tests.support.source import ROOT

#: Folders of the repository: a path that begins with one has to be there.
FOLDERS = ("deploy", "docker", "docs", "helm", "lab", "requirements", "scripts", "tests")

#: Programs that are not ours, and only named: that they know these words is known from
#: elsewhere (tests/docs/test_kubernetes_tutorial.py, make vm-test, make image-test, their manuals).
OTHERS = frozenset(
    {
        *("a2enconf", "a2enmod", "a2ensite", "adduser", "apache2ctl", "apt-get", "az", "cd"),
        *(
            "cosign",
            "cp",
            "echo",
            "editor",
            "export",
            "gh",
            "git",
            "grep",
            "install",
            "journalctl",
            "jq",
        ),
        *("kill", "ln", "man", "mv", "openssl", "pip", "printf", "python3", "rm", "sed"),
        *("sha256sum", "sleep", "systemctl", "test", "touch", "umask", "waitress-serve"),
        "mod_wsgi-express.sh",
    }
)
#: What may run another program: its words come after `--`, or after options alone.
RUNNERS = frozenset({"kubectl", "runuser", "systemd-run"})

#: Settings and what else the program reads from its environment.
VARIABLES = set(Settings.declared) | {"AUTHPROXY_CONFIG"}


#: What keeps the terminal until it is ended: the rest of a pasted block would be lost on it.
STAYING = re.compile(
    r"^(editor|waitress-serve|authproxy (serve|demo)|make demo|kubectl port-forward)\b"
    r"| (--follow|-f)\b(?! )"
)


def judge_script(block: Block) -> None:
    """A block to paste whole."""
    script = block.code
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, ""), block
    # A placeholder would be a redirection, and an ellipsis an argument.
    assert not re.search(r"<[\w -]+>", script), block
    found = commands(script)
    assert found or assigns_only(script), f"{block}: no command"
    _judge_pasting(block)
    # Blocks of a page are pasted into one shell, one after the other.
    defined = functions(block.page.read_text()) if block.page.exists() else set()
    for command in found:
        if command.program not in defined:
            _judge_command(command)


def _judge_pasting(block: Block) -> None:
    """Each line is a command to the shell, and none takes those after it for its input."""
    lines = block.code.splitlines()
    for line in lines:
        # A prompt of root's makes a comment of a command, and the status is 0 all the same. A
        # comment is none to the zsh of macOS, which takes it for a command or for arguments.
        assert not re.match(r"[$>#] ", line), f"{block}: a prompt or a comment: {line!r}"
        assert not re.search(r"\s#\s", line), f"{block}: a comment: {line!r}"
        if line.startswith("apt-get install"):
            assert "--yes" in line, f"{block}: {line!r} asks, and reads what follows"
    for line in lines[:-1]:
        stays = STAYING.search(line) and not line.endswith("&")
        assert not stays, f"{block}: nothing comes after {line!r}"


def _judge_command(command: Command) -> None:
    _judge_paths(command)
    if command.program in RUNNERS:
        if inner := _run_by(command):
            _judge_command(Command((), inner))
        return
    if command.words[0].startswith("$"):
        return
    judge = PROGRAMS.get(command.program)
    if judge is None:
        assert command.program in OTHERS, f"{command.program}: what is that? ({command})"
        return
    judge(command)


def _run_by(command: Command) -> tuple[str, ...]:
    words = command.words
    if "--" in words:
        return words[words.index("--") + 1 :]
    if command.program == "systemd-run":
        first = next(at for at, word in enumerate(words) if at and not word.startswith("-"))
        return words[first:]
    return ()


def _judge_paths(command: Command) -> None:
    for word in command.words[1:]:
        path = word.removeprefix("./").rstrip(".").rstrip("/")
        if path.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and "$" not in path:
            assert any(ROOT.glob(path)), f"{path} is not there ({command})"


def _judge_authproxy(command: Command) -> None:
    """Our own: the command exists, and click takes the options."""
    name, *arguments = command.words[1:]
    if command.program == "authproxy.pyz" and name == "venv":  # pex's own, by PEX_TOOLS
        assert command.assignments == ("PEX_TOOLS=1",), command
        return
    if name == "--version":
        return
    known = cli.get_command(click.Context(cli), name)
    assert known is not None, f"there is no {name} ({command})"
    context = click.Context(known, info_name=name)
    try:
        known.make_parser(context).parse_args([*arguments])
    except click.ClickException as error:
        raise AssertionError(f"{error.format_message()} ({command})") from None


def _judge_make(command: Command) -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.M))
    for word in command.words[1:]:
        name, is_variable, _ = word.partition("=")
        if is_variable:
            assert re.search(rf"^{name} \??=", text, re.M), f"make knows no {name} ({command})"
        else:
            assert name in targets, f"make has no {name} ({command})"


def _judge_containers(command: Command) -> None:
    """docker, podman: settings that a container is given, and what it is to run."""
    words = list(command.words)
    for option, value in pairwise(words):
        if option in ("--env", "-e"):
            name = value.partition("=")[0]
            assert name in VARIABLES, f"{name} is no setting ({command})"
    if words[1] == "run":
        # The last word that can be the image: a container may have its name.
        image = max(at for at, word in enumerate(words) if re.search(r"(^|/)authproxy(:|$)", word))
        if words[image + 1 :]:
            _judge_authproxy(Command((), ("authproxy", *words[image + 1 :])))
    if words[1] == "exec":
        _judge_command(Command((), tuple(words[3:])))


def _judge_healthcheck(command: Command) -> None:
    assert (ROOT / "docker" / "healthcheck.py").exists()
    assert command.words[1:] in ((), ("/ready",), ("/health",)), command


def _judge_helm(command: Command) -> None:
    """Values that are set are values of the chart."""
    values = yaml.safe_load((ROOT / "helm" / "authproxy" / "values.yaml").read_text())
    words = command.words
    for option, value in pairwise(words):
        if option not in ("--set", "--set-string"):
            continue
        place = values
        for part in value.partition("=")[0].split("."):
            assert isinstance(place, dict), f"the chart has no {value} ({command})"
            assert part in place, f"the chart has no {value} ({command})"
            place = place[part]


@cache
def _options_of_curl() -> frozenset[str]:
    done = subprocess.run(["curl", "--help", "all"], capture_output=True, text=True, check=True)
    return frozenset(re.findall(r"--[a-z0-9.-]+", done.stdout))


def _judge_curl(command: Command) -> None:
    for word in command.words[1:]:
        if word.startswith("--"):
            assert word in _options_of_curl(), f"curl has no {word} ({command})"


def _judge_python(command: Command) -> None:
    words = command.words
    if "-m" in words:
        module = words[words.index("-m") + 1]
        assert importlib.util.find_spec(module) is not None, f"there is no {module} ({command})"


#: `thanos rule --help` names these.
_OF_THANOS_RULE = {
    *("--query", "--remote-write.config-file", "--rule-file", "--label", "--eval-interval"),
}


def _judge_thanos(command: Command) -> None:
    assert command.words[1] == "rule", command
    options = [word.partition("=")[0] for word in command.words[2:]]
    assert set(options) <= _OF_THANOS_RULE, command


PROGRAMS: dict[str, Callable[[Command], None]] = {
    "authproxy": _judge_authproxy,
    "authproxy.pyz": _judge_authproxy,
    "curl": _judge_curl,
    "docker": _judge_containers,
    "healthcheck": _judge_healthcheck,
    "helm": _judge_helm,
    "make": _judge_make,
    "podman": _judge_containers,
    "python": _judge_python,
    "thanos": _judge_thanos,
}
