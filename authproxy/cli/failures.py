"""How a command that fails ends: with a sentence and an exit status, not with a traceback."""

from __future__ import annotations

from typing import Any

import click

from authproxy.errors import AuthProxyError, SettingsError

#: Exit status for faults in the settings, the same as for a wrong option.
BAD_SETTINGS = 2

#: Exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130


class Commands(click.Group):
    """A group whose commands report errors as a sentence and an exit status, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; faults in settings end it with 2, other errors on purpose with 1."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            _complain(*_faults(error))
            ctx.exit(BAD_SETTINGS)
        except AuthProxyError as error:
            _complain(f"authproxy: {error}")
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _faults(error: SettingsError) -> list[str]:
    count = len(error.faults)
    return [
        f"authproxy: {count} fault{'s' * (count > 1)} in the settings",
        *(f"  {fault}" for fault in error.faults),
        "Each setting is explained by `authproxy serve --help`.",
    ]


def _complain(*lines: str) -> None:
    from authproxy.telemetry.logs import complain

    complain(lines)
