"""The settings' rules under any values: faults are reported, and quote no secret."""

from __future__ import annotations

import tempfile
from pathlib import Path

from authproxy.errors import Fault, SettingsError
from authproxy.files.secret import Secret
from authproxy.http1.headers import is_token
from authproxy.settings import Settings, load_settings
from authproxy.settings.header_fields import HeaderFields
from authproxy.settings.kinds import Number

#: Stands in every value of a secret (but in JSON, which it would break), and nowhere else.
PLANTED = "pl4nt3d"

_DECLARED = list(Settings.declared.values())
_SECRETS = {one.variable for one in _DECLARED if one.kind.secret} - {"OVERRIDE_REQUEST_HEADERS"}
_VARIABLES = ["AUTHPROXY_CONFIG", *Settings.declared]
_FILES = {"AUTHPROXY_CONFIG"} | {one.variable for one in _DECLARED if one.kind.names_file}


def fuzz_values(data: bytes) -> None:
    """Each setting makes a value of any text, or says what is wrong with it, with a hint."""
    text = data.decode("utf-8", "surrogateescape")
    for one in _DECLARED:
        unusable = None
        if one.stripped(text) is None:  # counts as unset, and is never read
            continue
        try:
            value = one.kind.read(text)
        except ValueError as error:
            unusable = error
        if unusable is not None:
            assert str(unusable), one.variable
            assert one.kind.hint_for(unusable).endswith("."), one.variable
            continue
        shown = one.kind.show(value)
        # A value is shown as it can be given, but for secrets and the last digits of numbers.
        if not one.kind.secret and not isinstance(one.kind, Number):
            assert one.kind.read(shown) == value, one.variable
    try:
        overrides = HeaderFields().read(text)
    except ValueError:
        return
    assert len({name.lower() for name in overrides}) == len(overrides)
    for name, secret in overrides.items():
        assert is_token(name)
        assert isinstance(secret, Secret)
        secret.reveal().encode("latin-1")


def _variable(name: str) -> str:
    """Return the variable of that name, or some variable: bytes are rarely a name."""
    return name if name in _VARIABLES else _VARIABLES[sum(map(ord, name)) % len(_VARIABLES)]


def fuzz_settings(data: bytes) -> None:
    """All faults are reported together, none quotes a secret, and nothing else is raised.

    A line is a variable and its value; of a file's name it is the content, with `|` for
    line ends.
    """
    with tempfile.TemporaryDirectory() as folder:
        environ = {}
        for line in data.split(b"\n")[:12]:
            name, _, content = line.partition(b"=")
            variable = _variable(name.decode("latin-1"))
            value = content.replace(b"\0", b"").decode("utf-8", "surrogateescape")
            if variable in _FILES:
                path = Path(folder) / variable
                path.write_bytes(content.replace(b"|", b"\n"))
                value = str(path)
            elif variable in _SECRETS:
                value += PLANTED
            environ[variable] = value
        said = ""
        faults: tuple[Fault, ...] = ()
        try:
            said = repr(load_settings({}, environ, serving=True))
        except SettingsError as error:
            said, faults = str(error), error.faults
        assert PLANTED not in said
        assert all(fault.hint.endswith((".", "?")) for fault in faults), faults
