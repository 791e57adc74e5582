"""The log of header fields that are dropped for the underscores in their names: once for a name."""

from __future__ import annotations

import logging
from collections.abc import Iterable

log = logging.getLogger(__name__)

#: Names that are logged, and remembered, at most; clients choose them.
MOST_NAMES = 100
_NAME_CHARACTERS = 128


class DroppedFields:
    """The server's `on_dropped` hook. Used by one thread."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def dropped(self, names: Iterable[str], client: str) -> None:
        """Log those names that are new; the client is its address."""
        for name in names:
            key = name[:_NAME_CHARACTERS].lower()
            if key in self._seen or len(self._seen) > MOST_NAMES:
                continue
            self._seen.add(key)
            fields = {"Name": name[:_NAME_CHARACTERS], "Client": client or None}
            if len(self._seen) > MOST_NAMES:
                log.warning("Further names with underscores are dropped without a line for each")
            else:
                message = "A header field is dropped for the underscore in its name"
                log.warning(message, extra={"fields": fields})
