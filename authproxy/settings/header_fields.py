"""The settings of what is sent: header fields to the target, refusals to clients."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from authproxy.errors import Unusable
from authproxy.files.secret import Secret
from authproxy.http1.headers import HOP_BY_HOP, is_token
from authproxy.redaction import MASK
from authproxy.settings.declaration import Group, Setting
from authproxy.settings.declared import Declared
from authproxy.settings.kinds import Flag, Kind, Pairs

#: Fields that the proxy sets itself, for each request anew.
_OWN_FIELDS = frozenset({"authorization", "host", "content-length"})


class HeaderFields(Kind[Mapping[str, Secret]]):
    """A JSON object of header fields, or a mapping in the settings file; the values are secrets."""

    secret = True
    hint = 'Give a JSON object of strings, such as {"X-Scope-OrgID": "team"}.'

    def read(self, given: object) -> Mapping[str, Secret]:
        return self.parse(given) if isinstance(given, str) else _fields(given)

    def parse(self, text: str) -> Mapping[str, Secret]:
        try:
            pairs = json.loads(text, object_pairs_hook=Pairs)
        except json.JSONDecodeError as error:
            # Its own message can quote the text.
            where = f"line {error.lineno}, column {error.colno}"
            raise ValueError(f"it is not JSON ({where})") from None
        except (ValueError, RecursionError):  # numbers or nesting beyond all measure
            raise ValueError("it is not JSON that can be read") from None
        return _fields(pairs)

    def show(self, value: Any) -> str:
        return json.dumps(dict.fromkeys(value, MASK))


def _fields(pairs: object) -> dict[str, Secret]:
    if not isinstance(pairs, Pairs):
        raise ValueError("it is no object of fields")
    fields: dict[str, Secret] = {}
    names: set[str] = set()
    for number, (name, value) in enumerate(pairs, start=1):
        _check_field(number, name, value)
        if name.lower() in names:
            raise Unusable(f"it names {name} twice", "Keep one of them; case does not matter.")
        names.add(name.lower())
        fields[name] = Secret(value)
    return fields


def _check_field(number: int, name: str, value: object) -> None:
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


class HeaderSettings(Declared, group=Group.HEADERS):
    """What is sent besides what clients and the target send."""

    override_request_headers = Setting(
        HeaderFields(),
        {},
        "JSON object of header fields to set on each forwarded request, in place of the client's. "
        "Not for hop-by-hop fields, Authorization, Host or Content-Length. The values are treated "
        "as secrets.",
    )
    remote_write_retry_auth_failures = Setting(
        Flag(),
        True,
        "Send 503 for a remote write or an OTLP export that the target refused with 401 or 403, so "
        "that the sender keeps the samples and tries again: new role assignments take up to half "
        "an hour.",
    )
