"""The settings' rules under any values: faults are reported, and quote no secret."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import SecretStr

from authproxy.errors import SettingsError
from authproxy.headers import is_token
from authproxy.settings import load_settings, values
from authproxy.settings.declarations import declarations

#: Stands in every value of a secret (but in JSON, which it would break), and nowhere else.
PLANTED = "pl4nt3d"

_DECLARED = list(declarations())
_SECRETS = {one.variable for one in _DECLARED if one.secret} - {"OVERRIDE_REQUEST_HEADERS"}
_VARIABLES = ["AUTHPROXY_CONFIG", *(one.variable for one in _DECLARED)]
_FILES = {name for name in _VARIABLES if name.endswith(("_FILE", "_PATH", "_CONFIG"))}

_RULES = (
    values.text,
    values.secret,
    values.lowered,
    values.log_level,
    values.identifier,
    values.target_host,
    values.ingestion_url,
    values.authority_host,
    values.audience,
    values.grpc_endpoint,
    values.bind_host,
    values.header_overrides,
)


def fuzz_values(data: bytes) -> None:
    """Each rule returns a value, or says what is wrong with it and what mends it."""
    text = data.decode("utf-8", "surrogateescape")
    for rule in _RULES:
        unusable = None
        try:
            value = rule(text)
            values.shown(value)
        except values.Unusable as error:
            unusable = error
        if unusable is not None:
            assert unusable.problem
            assert unusable.mend.endswith(".")
        elif rule is values.bind_host or rule is values.authority_host:
            assert rule(value) == value
    try:
        overrides = values.header_overrides(text)
    except values.Unusable:
        return
    assert len({name.lower() for name in overrides}) == len(overrides)
    for name, secret in overrides.items():
        assert is_token(name)
        assert isinstance(secret, SecretStr)
        secret.get_secret_value().encode("latin-1")


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
        said, faults = "", ()
        try:
            said = repr(load_settings({}, environ, serving=True))
        except SettingsError as error:
            said, faults = str(error), error.faults
        assert PLANTED not in said
        assert all(fault.mend.endswith((".", "?")) for fault in faults), faults
