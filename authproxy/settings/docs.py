"""Writes docs/settings.md from the declaration of the settings."""

from __future__ import annotations

from itertools import groupby

from authproxy.settings.declarations import Declaration, declarations

_HEAD = """\
# Settings

<!-- Made from the declaration in authproxy/settings/model.py by `make docs`. -->

Each setting can be given in four places; the first one that has it wins:

1. an option of the command: `--target-host` for `TARGET_HOST`, and so on. Secrets have no option,
   since every user of a machine can see the options of its processes;
2. an environment variable;
3. the YAML file that `AUTHPROXY_CONFIG` (or the option `--config`) names;
4. the default.

`authproxy settings` prints what is in force and where each value came from, with secrets masked.

An empty value counts as unset, and blanks around a value do not count, except in secrets. Whatever
cannot be used is a fault: all faults are listed together, and the program ends with status 2 before
it opens a socket.

**The YAML file** is one mapping of settings; names may be in small letters, and
`override_request_headers` may be a mapping instead of JSON. A name that is no setting is a fault.

```yaml
target_host: metrics.example.com
audience: https://metrics.example.com
listening_port: 8081
identity_type: userassigned
aad_client_id: 00000000-0000-0000-0000-000000000000
```

Its one further key is `routes`: [several targets](routes.md) behind one proxy. Each route may have
settings of its own of the groups "Where requests go", "Which identity", "Who and what may come in"
and "What is sent". SIGHUP has the file read anew, without losing a request.

**Comma lists** may be lists in the YAML file; blanks around a member do not count.

**Secrets** are best kept in files: `AAD_CLIENT_SECRET_FILE` and
`AAD_CLIENT_CERTIFICATE_PASSWORD_FILE` name a file that holds the value; the line break that ends it
does not count. Both ways at once is a fault. A file with secrets that every user of the machine can
read or change is warned of at start.

**Forward proxies.** `HTTPS_PROXY` (or `https_proxy`) leads to the target, to Entra and to
`INBOUND_JWKS_URL` through an HTTP proxy, itself reached over `http://` or `https://`, in a tunnel
that it cannot look into. `NO_PROXY` names hosts that are reached without it. A managed identity's
endpoint always is. `HTTP_PROXY` and `ALL_PROXY` lead nowhere.

**Authorities.** Whoever is reached over TLS is proven by the system's authorities
(`SSL_CERT_FILE` and `SSL_CERT_DIR` name others in their place), certifi's, and those of
`REQUESTS_CA_BUNDLE`; the target and the proxy before it by those of `TARGET_CA_FILE` as well.

**Variables of the Azure SDK** and of the remote-write sidecar are read where the setting is given
nowhere else:

| variable | stands in for |
|---|---|
"""

_TABLE = "| variable | default | meaning |\n|---|---|---|\n"


def markdown() -> str:
    """Return docs/settings.md."""
    every = list(declarations())
    parts = [_HEAD, *(f"| `{other}` | `{one.variable}` |\n" for one in every for other in one.also)]
    for group, members in groupby(every, key=lambda one: one.group):
        parts += [f"\n## {group}\n\n", _TABLE, *map(_row, members)]
    return "".join(parts)


def _row(one: Declaration) -> str:
    default = one.default if one.shown and one.shown != "{}" else _code(one.default)
    notes = [one.doc]
    if one.takes and one.takes != "true or false" and not one.takes.startswith("one of"):
        notes.append(f"{one.takes[0].upper()}{one.takes[1:]}.")
    if one.secret:
        notes.append("Masked wherever it is shown.")
    return f"| `{one.variable}` | {default} | {' '.join(notes)} |\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
