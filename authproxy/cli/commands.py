"""The commands: serve, check, demo, settings.

What a command needs is imported when it runs: settings with faults are
reported before anything heavy is loaded.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from authproxy import __version__
from authproxy.cli.failures import Commands
from authproxy.cli.options import ENV_FILE, SettingsCommand
from authproxy.errors import SettingsError

if TYPE_CHECKING:
    from authproxy.diagnose.steps import Step
    from authproxy.settings import Loaded, Route, Settings

_PORT = click.IntRange(0, 65535)
_PROGRAM = "authproxy"
_COMPLETION_VARIABLE = "_AUTHPROXY_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")


def _load(options: dict[str, str | None], *, serving: bool) -> Loaded:
    from authproxy.settings import load_settings

    given = {variable: value for variable, value in options.items() if value is not None}
    if (path := given.pop(ENV_FILE, None)) is not None:
        from authproxy.settings.env_file import read_env_file

        # Into the environment itself: the libraries for identities and telemetry read theirs there.
        os.environ.update(read_env_file(path))
    return load_settings(given, serving=serving)


def _request_path(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"/[!-~]*", value):
        raise click.BadParameter("it has to begin with / and hold no blanks")
    return value


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name=_PROGRAM)
def cli() -> None:
    """A reverse proxy that puts Microsoft Entra ID tokens on HTTP requests.

    \b
    Examples:
      authproxy check     what is wrong with these settings, and what to do
      authproxy serve     forward requests
      authproxy demo      see it work, without a cloud

    Each command explains itself and its settings with --help. The man page,
    authproxy(1), has all of that, and what more the environment decides.
    """


@cli.command(cls=SettingsCommand, short_help="Forward requests.")
def serve(**options: str | None) -> None:
    """Forward requests until SIGTERM or SIGINT.

    \b
    Exit status:
      0  ended by a signal, with what was in flight finished or its grace over
      1  it cannot serve: a port in use, for example
      2  faults in the settings or options

    \b
    Examples:
      authproxy serve --config /etc/authproxy.yaml
      authproxy serve --target-host metrics.example.com --audience api://metrics \\
          --identity-type systemassigned --listening-host 127.0.0.1 --listening-port 8081
    """
    # Until the server sets its own: the kernel drops signals that process 1 has no handler for.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    loaded = _load(options, serving=True)
    from authproxy.app import announce
    from authproxy.cli.serve import serve as run
    from authproxy.telemetry.logs import log_uncaught

    announce(loaded)
    log_uncaught()
    # A reload opens no sockets, so that settings of these need not be given. Nor does it read
    # the file of variables again: what is gone from that would still be in the environment.
    reread = {**options, ENV_FILE: None}
    sys.exit(run(loaded.settings, lambda: _load(reread, serving=False)))


@cli.command(cls=SettingsCommand, short_help="Say what is wrong, and what to do.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option(
    "--path",
    metavar="PATH",
    callback=_request_path,
    help="Path and query that a client would ask for, in place of the one that fits the target.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long a step may take.",
)
@click.option("--route", "only", metavar="NAME", help="Only this one of several routes.")
def check(
    as_json: bool, path: str | None, timeout: float, only: str | None, **options: str | None
) -> None:
    """Go the way of a request and say what is wrong, and what to do.

    Looks at the certificate that clients are shown, if there is one, at DNS,
    the connection, TLS and the target's certificate, gets a token and shows
    what it claims (never the token itself), and asks the target for something
    harmless: a query of vector(1), an empty remote write, or HEAD.

    \b
    Exit status:
      0  all is well
      1  the identity gets no token, or that of another one
      2  faults in the settings or options, or clients are shown a certificate
         that has expired
      3  the target is not reached, or does not take the request
    The first step that fails decides.

    \b
    Examples:
      authproxy check
      authproxy check --json | jq '.steps[] | select(.outcome == "failed")'
      authproxy check --path '/api/v1/query?query=up' --timeout 10
      authproxy check --route /query
      authproxy check --env-file /etc/authproxy/authproxy.env
    """
    from authproxy.diagnose.report import Style, ending, lines_of, report, report_of_faults

    style = Style.of(sys.stdout, os.environ)

    def tell(line: str) -> None:
        if not as_json:
            click.echo(line, color=style.colour)

    process: list[Step] = []
    checked: list[tuple[Route, list[Step]]] = []
    try:
        loaded = _load(options, serving=False)
        settings = loaded.settings
        chosen = _chosen(settings, only, path)
        from authproxy.diagnose import check as checking

        process += checking.check_environment(loaded.misspelt)
        process += checking.check_listening(settings)
        for step in process:
            tell("\n".join(lines_of(step, style)))
        for route in chosen:
            if settings.has_routes:
                tell(style.strong(f"Route {route.name}"))
            steps = checking.run_check(
                route.settings,
                lambda step: tell("\n".join(lines_of(step, style))),
                limit=timeout,
                path=path,
            )
            checked.append((route, steps))
    except SettingsError as error:
        if as_json:
            click.echo(json.dumps(report_of_faults(error), indent=2))
        raise
    every = [*process, *(step for _, steps in checked for step in steps)]
    status = checking.exit_status(every)
    if as_json:
        click.echo(json.dumps(report(process, checked, status), indent=2))
    tell(f"\n{ending(every, status, style)}")
    sys.exit(status)


def _chosen(settings: Settings, name: str | None, path: str | None) -> Sequence[Route]:
    """Return the routes to check; only the one of that name if there is a name."""
    routes = [route for route in settings.routes if name in (None, route.name)]
    if not routes:
        there = ", ".join(route.name for route in settings.routes if route.name) or "none"
        raise click.BadParameter(
            f"there is no such route; those there are: {there}", param_hint="--route"
        )
    if path is not None and any(route.settings.forwards_only_remote_write for route in routes):
        raise click.BadParameter("INGESTION_URL has its path already", param_hint="--path")
    return routes


@cli.command("settings", cls=SettingsCommand, short_help="Print the settings in force.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def show_settings(as_json: bool, **options: str | None) -> None:
    """Print the settings in force and where each comes from, secrets masked.

    \b
    Exit status: 0, or 2 for faults in the settings or options.

    \b
    Examples:
      authproxy settings
      authproxy settings --env-file /etc/authproxy/authproxy.env
      authproxy settings --json | jq -r .TARGET_HOST.value
    """
    from authproxy.settings.report import as_json as report_of
    from authproxy.settings.report import lines

    loaded = _load(options, serving=False)
    if as_json:
        click.echo(json.dumps(report_of(loaded), indent=2))
        return
    for line in lines(loaded):
        click.echo(line)


@cli.command(short_help="See it work, without a cloud.")
@click.option("--once", is_flag=True, help="End once the sample has arrived.")
@click.option("--verbose", is_flag=True, help="Show the proxy's log, and more to try.")
@click.option(
    "--proxy-port",
    type=_PORT,
    metavar="PORT",
    default=8081,
    show_default=True,
    help="Port of the proxy; 0 lets the system choose.",
)
@click.option("--entra-port", type=_PORT, metavar="PORT", help="Port of the stand-in for Entra ID.")
@click.option(
    "--store-port", type=_PORT, metavar="PORT", help="Port of the stand-in for a metrics store."
)
@click.option("--status-port", type=_PORT, metavar="PORT", help="Port of the status page.")
def demo(once: bool, verbose: bool, **ports: int | None) -> None:
    """Try the proxy between stand-ins for Entra ID and a metrics store, without a cloud.

    It follows a sample that the store refuses at first, since a role is missing.

    \b
    Exit status: 0, or 1 if anything went wrong.

    \b
    Examples:
      authproxy demo
      authproxy demo --once --proxy-port 0
    """
    from authproxy.demo.narration import Narration
    from authproxy.demo.run import run_demo
    from authproxy.diagnose.report import Style

    style = Style.of(sys.stdout, os.environ)
    status = run_demo(
        once=once,
        verbose=verbose,
        ports={name: port or 0 for name, port in ports.items()},
        narration=Narration(
            partial(click.echo, color=style.colour), colour=style.colour, marks=style.marks
        ),
    )
    sys.exit(status)


@cli.command(short_help="Make a shell complete commands.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options and values.

    \b
    Exit status: 0, or 2 for another shell.

    \b
    Examples:
      source <(authproxy completion bash)     in ~/.bashrc
      source <(authproxy completion zsh)      in ~/.zshrc, after compinit
      authproxy completion fish > ~/.config/fish/completions/authproxy.fish
    """
    made_by = get_completion_class(shell)
    assert made_by is not None  # click has all of _SHELLS
    click.echo(made_by(cli, {}, _PROGRAM, _COMPLETION_VARIABLE).source())


def main() -> None:
    """Run the command line."""
    cli(prog_name=_PROGRAM, complete_var=_COMPLETION_VARIABLE)
