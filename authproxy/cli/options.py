"""The options that commands have for settings, made from the declaration."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from authproxy.settings import Settings
    from authproxy.settings.declaration import Setting

    # Of strings only to type checkers: older versions of click have it without parameter.
    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]

_CONFIG = "AUTHPROXY_CONFIG"

#: The parameter of --env-file.
ENV_FILE = "ENV_FILE"
_EPILOG = (
    "Each option is also an environment variable (TARGET_HOST for --target-host) and a key of the "
    "YAML file. Secrets have no option: give them in the environment or in files."
)


class SettingOption(click.Option):
    """The option of one setting; `group` is its heading in the help."""

    group = ""


class SettingsCommand(click.Command):
    """A command with an option for each setting."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters and those of the settings."""
        own = super().get_params(ctx)
        return [*own[:-1], *self._setting_options, *own[-1:]]  # --help stays last

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then those of the settings by group."""
        own, by_group = [], []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, SettingOption):
                by_group.append((param.group, record))
            elif record is not None:
                own.append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        for group, members in groupby(by_group, key=lambda each: each[0]):
            with formatter.section(group):
                formatter.write_dl([record for _, record in members])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write where else the settings can be given."""
        formatter.write_paragraph()
        formatter.write_text(_EPILOG)

    @cached_property
    def _setting_options(self) -> list[click.Parameter]:
        # Here and not above: `authproxy --version` needs no settings.
        from authproxy.settings import Settings

        return setting_options(Settings)


def setting_options(model: type[Settings]) -> list[click.Parameter]:
    """Return the options of the settings that a class declares, and of files of settings."""
    config = click.Option(
        ["--config", _CONFIG],
        metavar="FILE",
        help="YAML file of settings.",
        shell_complete=_complete_file,
    )
    env_file = click.Option(
        ["--env-file", ENV_FILE],
        metavar="FILE",
        help="File of environment variables, as systemd reads an EnvironmentFile; they come "
        "before those of the environment.",
        shell_complete=_complete_file,
    )
    return [
        env_file,
        config,
        *(_option(model, one) for one in model.declared.values() if one.option),
    ]


def _option(model: type[Settings], one: Setting[Any]) -> SettingOption:
    note = model.default_note(one)
    option = SettingOption(
        [one.option, one.variable],
        metavar="VALUE",
        help=f"{one.doc} [{note}]" if note else one.doc,
        shell_complete=_completion(one),
    )
    option.group = one.group.title
    return option


def _completion(one: Setting[Any]) -> Completer:
    if one.kind.names_file:
        return _complete_file

    def complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem[str]]:
        words = one.kind.words
        return [CompletionItem(word) for word in words if word.startswith(begun.lower())]

    return complete


def _complete_file(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    return [CompletionItem(begun, type="file")]
