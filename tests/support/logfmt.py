"""A strict reader of logfmt lines."""

from __future__ import annotations

import json
import re

_PAIR = re.compile(r'([A-Za-z][A-Za-z0-9_.]*)=("(?:[^"\\]|\\.)*"|[^\s"=]*)(?: |\Z)')


def parse_line(line: str) -> dict[str, str]:
    """Return the keys and values of one line; raises ValueError if it is not logfmt.

    A key that comes twice is an error too: that is how a forged one would look.
    """
    pairs: dict[str, str] = {}
    at = 0
    while at < len(line):
        match = _PAIR.match(line, at)
        if not match:
            raise ValueError(f"not logfmt at {at}: {line!r}")
        key, value = match.groups()
        if key in pairs:
            raise ValueError(f"{key} comes twice: {line!r}")
        pairs[key] = json.loads(_as_json(value)) if value.startswith('"') else value
        at = match.end()
    return pairs


def _as_json(quoted: str) -> str:
    """Return a quoted value with Go's `\\x..` escapes in JSON's form."""
    return re.sub(
        r"\\(?:x([0-9a-fA-F]{2})|.)",
        lambda match: f"\\u00{match[1]}" if match[1] else match[0],
        quoted,
    )
