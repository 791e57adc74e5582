#!/usr/bin/env python3
"""Writes the man page, authproxy/authproxy.1: run by `make docs`, or with --check by a test.

All that it says of commands and options comes from the commands' own help, and
what it says of settings from their declaration.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click

from authproxy import __version__
from authproxy.cli import cli
from authproxy.cli_options import SettingOption
from authproxy.settings.declarations import declarations

PAGE = Path(__file__).resolve().parent.parent / "authproxy" / "authproxy.1"

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
token on each request, sends it on over TLS, and passes the answer back untouched.
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
The documentation that comes with authproxy: docs/command-line.md, docs/settings.md,
docs/troubleshooting.md.
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


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for name in cli.list_commands(click.Context(cli)):
        parts += command_section(name, cli.commands[name])
    parts.append(
        ".SH SETTINGS\nEach is an option of serve, check and settings, an environment variable, "
        "and a key of the YAML file, in this order. Secrets have no option.\n"
    )
    for group, members in groupby(declarations(), key=lambda one: one.group):
        parts.append(f'.SS "{escaped(group)}"\n')
        for one in members:
            option = "" if one.secret else f", --{one.name.replace('_', '-')}"
            label = "" if one.default.startswith("required") else "default: "
            default = f" [{label}{one.default}]" if one.default else ""
            parts.append(entry(f"{one.variable}{option}", f"{one.doc}{default}"))
    parts.append(".SH ENVIRONMENT\nBesides the settings:\n")
    parts += [entry(name, meaning) for name, meaning in ENVIRONMENT.items()]
    parts.append('.SH "EXIT STATUS"\n')
    parts += [entry(status, meaning) for status, meaning in EXIT_STATUS.items()]
    return "".join([*parts, TAIL])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="Change nothing; 1 if it differs.")
    made = page()
    if parser.parse_args().check:
        return int(PAGE.read_text() != made)
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
