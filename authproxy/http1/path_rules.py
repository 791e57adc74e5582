"""Pure rules: which paths are allowed."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from authproxy.http1.globs import Glob
from authproxy.http1.path_readings import oddity

#: No rule admits a longer path: matching it would cost more than it is worth.
MAX_LENGTH = 8192


class PathRules:
    """Which paths may be asked for: prefixes and globs.

    An entry without `*` is a prefix that ends at a `/`: `/api` admits `/api`
    and `/api/v1`, not `/apis`; `/api/` only what is below. An entry with `*`
    fits whole paths, as `globs` has it.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises ValueError for an entry that is none; its message says why."""
        self._prefixes: list[str] = []
        self._globs: list[Glob] = []
        for entry in entries:
            if not entry.startswith("/"):
                raise ValueError(f"{entry!r} does not begin with a slash")
            if "?" in entry or "%" in entry:
                raise ValueError(f"{entry!r} holds a query or an encoded character")
            if what := oddity(entry.replace("*", "x")):
                raise ValueError(f"{entry!r} holds {what}")
            if "*" in entry:
                try:
                    self._globs.append(Glob(entry, "/"))
                except ValueError as error:
                    raise ValueError(f"in {entry!r} {error}") from None
            else:
                self._prefixes.append(entry)

    def admit(self, path: str) -> bool:
        """Tell whether a raw path without an oddity is allowed.

        It has to be both as it is written and decoded: servers compare either.
        """
        if len(path) > MAX_LENGTH:
            return False
        return self._fits(path) and ("%" not in path or self._fits(unquote(path)))

    def _fits(self, path: str) -> bool:
        for prefix in self._prefixes:
            if path.startswith(prefix) and (
                len(path) == len(prefix) or prefix.endswith("/") or path[len(prefix)] == "/"
            ):
                return True
        return any(glob.matches(path) for glob in self._globs)
