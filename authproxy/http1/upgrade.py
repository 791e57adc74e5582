"""Pure rules: a change of the protocol on a connection (RFC 9110 section 7.8)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from authproxy.http1.grammar import TOKEN
from authproxy.http1.headers import Field, list_members

#: protocol-name and protocol-version.
_PROTOCOL = re.compile(rf"{TOKEN}(?:/{TOKEN})?")

#: What is never offered to a target: HTTP, requests in which would pass unseen by admission, and
#: TLS, within which HTTP goes on (RFC 2817).
_REFUSED = re.compile(r"(?:http|h[23]c?|tls)(?:[-/].*)?", re.IGNORECASE)


def offered_protocols(fields: Mapping[str, str]) -> tuple[str, ...]:
    """Return the protocols that a request of HTTP/1.1 offers to change to and a target may see.

    `fields` are those of the request, by canonical names.
    """
    upgrade = fields.get("Upgrade")
    if not upgrade or "upgrade" not in list_members(fields.get("Connection", "")):
        return ()
    members = (member.strip(" \t") for member in upgrade.split(","))
    return tuple(
        member
        for member in members
        if _PROTOCOL.fullmatch(member) and not _REFUSED.fullmatch(member)
    )


def chosen_protocol(fields: Iterable[Field], offered: Sequence[str]) -> str:
    """Return what a 101 with these fields changes to; empty where not all of it was offered."""
    values = [value for name, value in fields if name.lower() == "upgrade"]
    chosen = [member for value in values for member in list_members(value)]
    known = {protocol.lower() for protocol in offered}
    return ", ".join(values) if chosen and known.issuperset(chosen) else ""
