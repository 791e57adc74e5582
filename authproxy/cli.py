"""The commands: serve, check, demo, settings.

What a command needs is imported when it runs: settings with faults are
reported before anything heavy is loaded.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from authproxy import __version__
from authproxy.errors import AuthProxyError, SettingsError

if TYPE_CHECKING:
    from authproxy.settings import Loaded

#: Exit status for faults in the settings, the same as for a wrong option.
BAD_SETTINGS = 2

#: Exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130

_CONFIG = "AUTHPROXY_CONFIG"
_PORT = click.IntRange(0, 65535)
_EPILOG = (
    "Each option is also an environment variable (TARGET_HOST for --target-host) and a key of the "
    "YAML file. Secrets have no option: give them in the environment or in files. "
    "See docs/settings.md."
)


class Commands(click.Group):
    """A group whose commands end in a sentence and a status, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; faults in settings end it with 2, other errors on purpose with 1."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            _tell(error)
            ctx.exit(BAD_SETTINGS)
        except AuthProxyError as error:
            _complain(f"authproxy: {error}")
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


class SettingsCommand(click.Command):
    """A command with an option for each setting, made from the declaration."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters and those of the settings."""
        own = super().get_params(ctx)
        return [*own[:-1], *self._setting_options, *own[-1:]]  # --help stays last

    @cached_property
    def _setting_options(self) -> list[click.Parameter]:
        return _setting_options()


def _setting_options() -> list[click.Parameter]:
    from authproxy.settings_declarations import declarations

    options: list[click.Parameter] = [
        click.Option(["--config", _CONFIG], metavar="FILE", help="YAML file of settings.")
    ]
    for one in declarations():
        if not one.secret:
            label = "" if one.default.startswith("required") else "default: "
            default = f" [{label}{one.default}]" if one.default else ""
            flag = f"--{one.name.replace('_', '-')}"
            help_text = f"{one.doc}{default}"
            options.append(click.Option([flag, one.variable], metavar="VALUE", help=help_text))
    return options


def _load(options: dict[str, str | None], *, serving: bool) -> Loaded:
    from authproxy.settings import load_settings

    given = {variable: value for variable, value in options.items() if value is not None}
    return load_settings(given, serving=serving)


def _tell(error: SettingsError) -> None:
    count = len(error.faults)
    _complain(
        f"authproxy: {count} fault{'s' * (count > 1)} in the settings",
        *(f"  {fault}" for fault in error.faults),
        "Each setting is explained in docs/settings.md.",
    )


def _complain(*lines: str) -> None:
    from authproxy.logs import journal_prefix, writes_to_journal

    prefix = journal_prefix(logging.ERROR) if writes_to_journal() else ""
    for line in lines:
        click.echo(f"{prefix}{line}", err=True)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="authproxy")
def cli() -> None:
    """A reverse proxy that puts Microsoft Entra ID tokens on HTTP requests."""


@cli.command(cls=SettingsCommand, epilog=_EPILOG)
def serve(**options: str | None) -> None:
    """Forward requests until SIGTERM or SIGINT."""
    # Until the server takes over: the kernel drops what process 1 has no handler for.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    settings = _load(options, serving=True).settings
    from authproxy.server import serve as run
    from authproxy.startup import announce

    announce(settings)
    sys.exit(run(settings))


@cli.command(cls=SettingsCommand, epilog=_EPILOG)
def check(**options: str | None) -> None:
    """Get one token and show what it is for (never the token itself).

    Exit status: 0 when all is well, 1 when no token is to be had, 2 for
    faults in the settings.
    """
    settings = _load(options, serving=False).settings
    from authproxy.check import run_check

    sys.exit(run_check(settings, echo=click.echo))


@cli.command("settings", cls=SettingsCommand, epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print docs/settings.md instead.")
def show_settings(as_json: bool, as_markdown: bool, **options: str | None) -> None:
    """Print the settings in force and where each comes from, secrets masked."""
    if as_markdown:
        from authproxy.settings_docs import markdown

        click.echo(markdown(), nl=False)
        return
    loaded = _load(options, serving=False)
    effective = loaded.settings.effective()
    if as_json:
        both = {
            variable: {"value": value, "origin": loaded.origins[variable]}
            for variable, value in effective.items()
        }
        click.echo(json.dumps(both, indent=2))
        return
    name_width = max(map(len, effective))
    value_width = min(48, max(map(len, effective.values())))
    for variable, value in effective.items():
        origin = loaded.origins[variable]
        click.echo(f"{variable:<{name_width}}  {value or '-':<{value_width}}  {origin}")


@cli.command()
@click.option("--once", is_flag=True, help="End after the first sample and query.")
@click.option(
    "--proxy-port",
    type=_PORT,
    default=8081,
    show_default=True,
    help="Port of the proxy; 0 lets the system choose.",
)
@click.option("--entra-port", type=_PORT, help="Port of the stand-in for Entra ID.")
@click.option("--store-port", type=_PORT, help="Port of the stand-in for a metrics store.")
def demo(once: bool, proxy_port: int, entra_port: int | None, store_port: int | None) -> None:
    """Try the proxy between stand-ins for Entra ID and a metrics store, without a cloud."""
    from authproxy.demo.run import run_demo

    status = run_demo(
        once=once,
        entra_port=entra_port,
        store_port=store_port,
        proxy_port=proxy_port,
        echo=click.echo,
    )
    sys.exit(status)


def main() -> None:
    """Run the command line; the entry point `authproxy`."""
    cli(prog_name="authproxy")
