"""The man page, authproxy/authproxy.1.

All that it says of commands and options comes from the commands' own help, and
what it says of settings from their declarations.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click

from authproxy import __version__
from authproxy.cli.commands import cli
from authproxy.cli.options import SettingOption
from authproxy.settings import Settings

HEAD = f"""\
.\\" Made from the commands' help by `make docs`.
.TH AUTHPROXY 1 "" "authproxy {__version__}" "User Commands"
.SH NAME
authproxy \\- put Microsoft Entra ID tokens on HTTP requests
.SH SYNOPSIS
.B authproxy
.I COMMAND
.RI [ OPTIONS ]
.br
.B authproxy
.RB [ \\-\\-version | \\-\\-help ]
.SH DESCRIPTION
authproxy is a reverse proxy. Programs that cannot get tokens send plain HTTP to it; it puts a valid
token on each request, sends it on over TLS, and passes the response back untouched.
.SH COMMANDS
"""

#: Variables that are no settings.
ENVIRONMENT = {
    "AUTHPROXY_CONFIG": "YAML file of settings.",
    "HTTPS_PROXY, NO_PROXY": "Forward proxy to tunnel through to the target and to Entra ID, and "
    "the hosts that are reached without it.",
    "REQUESTS_CA_BUNDLE, SSL_CERT_FILE": "Certificate authorities to trust, besides the usual.",
    "NO_COLOR": "Set to anything, it keeps colour out of what check prints.",
    "OTEL_*": "OpenTelemetry's own variables.",
}

EXIT_STATUS = {
    "0": "Success.",
    "1": "Failure: a port in use, an identity that gets no token.",
    "2": "Faults in the settings or options; nothing was tried.",
    "3": "check only: the target is not reached, or does not take the request.",
    "130": "Interrupted from the keyboard.",
}

TAIL = """\
.SH SEE ALSO
The documentation of authproxy has a page on the command line, on settings and on troubleshooting.
"""


def escaped(text: str) -> str:
    """Return text as roff takes it: nothing in it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text


def paragraphs(help_text: str) -> Iterator[str]:
    """Yield the help's paragraphs; those that click leaves alone keep their lines."""
    for number, paragraph in enumerate(help_text.split("\n\n")):
        first, *rest = textwrap.dedent(paragraph.strip("\n")).splitlines()
        if number:
            yield ".PP\n"
        if first != "\b":
            yield f"{escaped(' '.join([first, *rest]))}\n"
        else:
            yield "".join([".nf\n", *(f"{escaped(line)}\n" for line in rest), ".fi\n"])


def entry(term: str, meaning: str) -> str:
    return f".TP\n.B {escaped(term)}\n{escaped(' '.join(meaning.split()))}\n"


def command_section(name: str, command: click.Command) -> Iterator[str]:
    """Yield a command's part: its help, and the options that are its own."""
    context = click.Context(command, info_name=name, parent=click.Context(cli))
    usage = " ".join(command.collect_usage_pieces(context))
    yield f'.SS "{escaped(name)} {escaped(usage)}"\n'
    yield from paragraphs(command.help or "")
    for param in command.get_params(context):
        record = param.get_help_record(context)
        of_its_own = isinstance(param, click.Option) and not isinstance(param, SettingOption)
        if record is not None and of_its_own and "--help" not in param.opts:
            yield entry(*record)


def made(root: Path, model: type[Settings]) -> dict[Path, str]:
    """Return the page, by its path."""
    return {root / "authproxy" / "authproxy.1": "".join(_page(model))}


def _page(model: type[Settings]) -> Iterator[str]:
    yield HEAD
    for name in cli.list_commands(click.Context(cli)):
        yield from command_section(name, cli.commands[name])
    yield (
        ".SH SETTINGS\nEach is an option of serve, check and settings, an environment variable, "
        "and a key of the YAML file, in this order. Secrets have no option.\n"
    )
    for group, members in groupby(model.declared.values(), key=lambda one: one.group):
        yield f'.SS "{escaped(group.title)}"\n'
        for one in members:
            names = ", ".join(filter(None, (one.variable, one.option)))
            note = model.default_note(one)
            yield entry(names, f"{one.doc} [{note}]" if note else one.doc)
    yield ".SH ENVIRONMENT\nBesides the settings:\n"
    for name, meaning in ENVIRONMENT.items():
        yield entry(name, meaning)
    yield '.SH "EXIT STATUS"\n'
    for status, meaning in EXIT_STATUS.items():
        yield entry(status, meaning)
    yield TAIL
