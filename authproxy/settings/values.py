"""What one value may be: pure rules for single settings.

Each takes the text that the operator gave and returns the value, or raises
`Unusable` with a problem and a mend that never quote a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from grp import getgrnam
from typing import Any

from pydantic import SecretStr

from authproxy.files.regular_file import UnreadableFile, read_regular_file
from authproxy.headers import HOP_BY_HOP, is_token
from authproxy.redaction import MASK
from authproxy.settings import audiences
from authproxy.urls import TargetURL

#: What azure-identity takes for a tenant; client ids are GUIDs and fit as well.
_IDENTIFIER = re.compile(r"[0-9A-Za-z.-]+")
_BIND_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?")

#: Fields that the proxy sets itself, for each request anew.
_OWN_FIELDS = frozenset({"authorization", "host", "content-length"})

#: Nobody needs more; a path that leads elsewhere by mistake ends here.
_MAX_SECRET_BYTES = 64 * 1024


class Unusable(ValueError):
    """A value that cannot be used: what is wrong with it, and what mends it."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.mend = mend


def text(value: Any) -> Any:
    """Refuse control characters and broken encodings in a text."""
    if isinstance(value, str) and not value.isprintable():
        raise Unusable(
            "it holds control characters or bytes that are not UTF-8",
            "Type it again, on one line.",
        )
    return value


def secret(value: Any) -> Any:
    """Refuse a secret with line breaks or NULs: they came in by copying."""
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(plain, str) and re.search(r"[\r\n\0]", plain):
        raise Unusable(
            "it holds a line break or a NUL",
            "Store it again without one (printf '%s' rather than echo).",
        )
    if isinstance(plain, str) and re.search(r"[\ud800-\udfff]", plain):  # as environments have them
        raise Unusable("it holds bytes that are not UTF-8", "Store it again, as UTF-8 text.")
    return value


def lowered(value: Any) -> Any:
    """Make a keyword's case meaningless."""
    return value.lower() if isinstance(value, str) else value


def log_level(value: Any) -> Any:
    """Lower the case of a level, and read `warn` as `warning`."""
    lower = lowered(value)
    return "warning" if lower == "warn" else lower


def any_text_is_true(value: Any) -> Any:
    """Read a variable that works by being set at all."""
    return value != "" if isinstance(value, str) else value


def identifier(value: str) -> str:
    """Take a client or tenant id."""
    if not _IDENTIFIER.fullmatch(value):
        raise Unusable(
            "it has characters that no such id has",
            "Copy the id from the Azure portal: letters, digits, '-' and '.' only.",
        )
    return value


def target_host(value: str) -> str:
    """Take a host, host:port or URL to forward to."""
    try:
        TargetURL.parse(value)
    except ValueError as error:
        raise Unusable(
            str(error), "Give a host, host:port or URL, such as metrics.example.com."
        ) from None
    return value


def ingestion_url(value: str) -> str:
    """Take the whole URL of an ingestion endpoint."""
    mend = "Paste the whole metrics ingestion endpoint, from https:// to api-version."
    if not re.match(r"https?://", value, re.IGNORECASE):
        raise Unusable("it is not a whole https:// URL", mend)
    try:
        path = TargetURL.parse(value).path
    except ValueError as error:
        raise Unusable(str(error), mend) from None
    if path in ("", "/"):
        raise Unusable("it has no path", mend)
    return value


def authority_host(value: str) -> str:
    """Take the host, or https:// URL, of an Entra ID endpoint; return its URL."""
    mend = "Give a host such as login.microsoftonline.us, or https:// and that host."
    if re.match(r"http://", value, re.IGNORECASE):
        raise Unusable("it is http, and secrets must not travel in clear", mend)
    try:
        url = TargetURL.parse(value)
    except ValueError as error:
        raise Unusable(str(error), mend) from None
    if url.path not in ("", "/") or url.query:
        raise Unusable("it has a path or a query", mend)
    return url.origin


def audience(value: str) -> str:
    """Take a scope or a resource."""
    try:
        return audiences.check_audience(value)
    except ValueError as error:
        raise Unusable(
            str(error), "Give one scope or resource, such as https://monitor.azure.com/.default."
        ) from None


def grpc_endpoint(value: str) -> str:
    """Take the host:port or URL of a collector."""
    mend = "Give host:port, or http:// or https:// and that, such as https://collector:4317."
    _, separator, rest = value.partition("://")
    try:
        url = TargetURL.parse(value, allow_http=True)
    except ValueError as error:
        raise Unusable(str(error), mend) from None
    if url.path not in ("", "/") or url.query:
        raise Unusable("it has a path or a query", mend)
    if not re.search(r":[0-9]+/?$", rest if separator else value):
        raise Unusable("it names no port", mend)
    return value


def bind_host(value: str) -> str:
    """Take an address or name to listen on; the brackets of IPv6 may be there."""
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if not _BIND_HOST.fullmatch(bare):
        raise Unusable(
            "it is neither an IP address nor a host name",
            "Give an address such as 127.0.0.1 or ::1, and the port in LISTENING_PORT.",
        )
    return bare


def socket_mode(value: str) -> str:
    """Take permissions in octal; return them with four digits."""
    mend = "Give three octal digits, such as 0660: who may write may connect."
    if not re.fullmatch("0?[0-7]{3}", value):
        raise Unusable("it is no mode of a file", mend)
    if not int(value, 8) & 0o222:
        raise Unusable("it lets nobody connect", mend)
    return f"{int(value, 8):04o}"


def group_number(group: str) -> int | None:
    """Return the number of a group given by name or number; None where there is none."""
    if group.isascii() and group.isdigit():
        return int(group)
    try:
        return getgrnam(group).gr_gid
    except (KeyError, ValueError):
        return None


class Pairs(list[tuple[str, Any]]):
    """A JSON object or YAML mapping as it was written, repeated names and all."""


def header_overrides(value: Any) -> dict[str, SecretStr]:
    """Take a JSON object of header fields, or a mapping, such as a YAML file has."""
    mend = 'Give a JSON object of strings, such as {"X-Scope-OrgID": "team"}.'
    pairs: Any
    if isinstance(value, Mapping):
        pairs = Pairs(value.items())
    elif not isinstance(value, str):
        pairs = value
    else:
        try:
            pairs = json.loads(value, object_pairs_hook=Pairs)
        except json.JSONDecodeError as error:
            # Its own message can quote the text.
            where = f"line {error.lineno}, column {error.colno}"
            raise Unusable(f"it is not JSON ({where})", mend) from None
        except (ValueError, RecursionError):  # numbers or nesting beyond all measure
            raise Unusable("it is not JSON that can be read", mend) from None
    if not isinstance(pairs, Pairs):
        raise Unusable("it is no object of fields", mend)
    overrides: dict[str, SecretStr] = {}
    lowered_names: set[str] = set()
    for number, (name, given) in enumerate(pairs, start=1):
        plain = given.get_secret_value() if isinstance(given, SecretStr) else given
        _check_field(number, name, plain)
        if name.lower() in lowered_names:
            raise Unusable(f"it names {name} twice", "Keep one of them; case does not matter.")
        lowered_names.add(name.lower())
        overrides[name] = SecretStr(plain)
    return overrides


def _check_field(number: int, name: str, value: Any) -> None:
    if not is_token(name):  # not quoted: it may be a value in the wrong place
        raise Unusable(
            f"the name of field {number} is not a header name",
            "Use letters, digits and '-' (RFC 9110 section 5.1).",
        )
    if name.lower() in HOP_BY_HOP | _OWN_FIELDS:
        raise Unusable(
            f"{name} cannot be overridden: the proxy itself sets or drops it",
            f"Leave {name} out.",
        )
    if not isinstance(value, str):
        raise Unusable(f"the value of {name} is not a string", "Put it in double quotes.")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]", value) or value != value.strip(" \t"):
        raise Unusable(
            f"the value of {name} cannot stand in a header",
            "Leave out line breaks, control and non-Latin-1 characters, and blanks at the ends.",
        )


def read_secret(path: str) -> str:
    """Return the secret in a file, without the line break that ends it.

    Raises Unusable, also where the file is empty.
    """
    store = "Store nothing but the secret."
    try:
        data = read_regular_file(path, _MAX_SECRET_BYTES)
    except UnreadableFile as error:
        mend = "Correct the path, or let the user that authproxy runs as read the file."
        raise Unusable(str(error), store if error.too_large else mend) from None
    try:
        # utf-8-sig: editors on Windows put a byte order mark in front.
        content = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise Unusable("the file is not UTF-8 text", store) from None
    if not content:
        raise Unusable("the file is empty", "Store the secret in it.")
    secret(content)
    return content


def shown(value: Any) -> str:
    """Return a setting's value as text: empty for None, secrets masked."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return json.dumps(dict.fromkeys(value, MASK))
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)
