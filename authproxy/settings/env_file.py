"""Reads a file of environment variables as systemd's EnvironmentFile= does.

The grammar is that of systemd.exec(5), and where that is silent, of systemd's own
parser (src/basic/env-file.c, version 254 and later): quotes count only at the beginning of
a value or behind another quoted part, and nothing is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from authproxy.errors import Fault, SettingsError
from authproxy.files.regular_file import UnreadableFile, read_regular_file

#: The option that names such a file, by which its faults go.
OPTION = "--env-file"

#: One comment or assignment and the end of its line. Any text is a sequence of these.
_LINE = re.compile(
    r"""[ \t\r\n]*
    (?: [#;] [^\r\n]*
      | (?P<name> [^=\r\n]*) (?: (?P<equals>=) (?P<value>
          (?: [ \t]* (?: '[^']*(?:'|\Z) | "(?:[^"\\]|\\.)*(?:"|\\?\Z) ) )*
          [ \t]*
          (?: \\(?:.|\Z) | [^\\ \t\r\n] | [ \t]+(?=[^ \t\r\n]) )*
        ) [ \t]*)?
    ) (?:[\r\n]|\Z)""",
    re.VERBOSE | re.DOTALL,
)

#: A part of a value: quoted, or the rest. Blanks between parts are none.
_PART = re.compile(
    r"""'(?P<single>[^']*)'? | "(?P<double>(?:[^"\\]|\\.)*)(?:"|\\?\Z) | (?P<bare>[^ \t].*)""",
    re.VERBOSE | re.DOTALL,
)

_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")

_HINT = (
    "Write VARIABLE=value, a line each, without `export`; a value of several lines or with "
    "blanks at its ends goes in double quotes."
)


def read_env_file(path: str) -> dict[str, str]:
    """Return the variables of a file. Raises SettingsError, with all its faults.

    What systemd leaves out with a warning is a fault here; no fault quotes what may be secret.
    """
    try:
        text = read_regular_file(path).decode()
    except UnreadableFile as error:
        hint = "Name a file of lines such as TARGET_HOST=metrics.example.com."
        if not error.missing and error.regular and not error.too_large:
            hint = "Run it as a user who may read the file, root for one of mode 0600."
        raise SettingsError([Fault(OPTION, path, f"the file {error.problem}", hint)]) from None
    except UnicodeDecodeError:
        fault = Fault(OPTION, path, "the file is not UTF-8", "Save it as UTF-8.")
        raise SettingsError([fault]) from None
    found: dict[str, str] = {}
    faults = []
    for number, name, value in assignments(text):
        if value is None or "\0" in value or not _NAME.fullmatch(name):
            problem = f"line {number} assigns to no variable: systemd leaves it out"
            faults.append(Fault(OPTION, path, problem, _HINT))
        else:
            found[name] = value
    if faults:
        raise SettingsError(faults)
    return found


def assignments(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield the line's number, name and value of each assignment; None where there is no `=`."""
    at, number = 0, 1
    while at < len(text):
        line = _LINE.match(text, at)
        assert line is not None  # each text begins with one
        if line["name"] or line["equals"]:
            number += text.count("\n", at, line.start("name"))
            at = line.start("name")
            name = line["name"].rstrip(" \t")
            yield number, name, _unquoted(line["value"]) if line["equals"] else None
        number += text.count("\n", at, line.end())
        at = line.end()


def _unquoted(value: str) -> str:
    """Return the value that is written so."""
    return "".join(map(_part, _PART.finditer(value)))


def _part(part: re.Match[str]) -> str:
    if part["single"] is not None:
        return part["single"]
    if part["double"] is not None:
        # Only these are escaped, as in a shell; a line's end behind a backslash continues it.
        return re.sub(r'\\(["\\`$])|\\\n', r"\1", part["double"])
    return re.sub(r"\\(?:[\r\n]|(.)|\Z)", r"\1", part["bare"])
