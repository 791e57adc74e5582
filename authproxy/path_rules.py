"""Pure rules: which paths are allowed, and which cannot be judged.

Between the proxy and whatever serves a path in the end, programs may decode it
once more, remove dot segments, take a backslash for a slash, cut parameters or
merge slashes. A path that any of them could turn into another one is not
judged but refused; what is left means the same to all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from authproxy.globs import Glob

#: No rule admits a longer path: matching it would cost more than it is worth.
MAX_LENGTH = 8192

#: What makes a raw path ambiguous, the first that fits is told. Besides the
#: separators themselves, encoded ones: they would become separators when decoded,
#: as `%25` would become the beginning of another encoding.
_AMBIGUITIES = (
    ("a backslash", re.compile(r"\\")),
    ("a `;`", re.compile(";")),
    ("an empty segment (`//`)", re.compile("//")),
    ("a control character", re.compile(r"[\x00-\x1f\x7f]|%(?:[01][0-9A-Fa-f]|7[Ff])")),
    ("a character beyond ASCII", re.compile(r"[^\x00-\x7f]|%[89A-Fa-f][0-9A-Fa-f]")),
    (
        "an encoded slash, backslash, dot, percent sign, `;`, `?` or `#`",
        re.compile("%(?:2[Ff]|5[Cc]|2[Ee]|25|3[Bb]|3[Ff]|23)"),
    ),
    ("a `%` that encodes nothing", re.compile("%(?![0-9A-Fa-f]{2})")),
    # RFC 3986 section 3.3, without what is named above.
    ("a character that must be encoded", re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,=:@%/]")),
)

#: Some servers drop blanks and dots at a segment's end: `.. ` is a dot segment there.
_HOLLOW = ". "


def ambiguity(path: str) -> str | None:
    """Return what makes a raw path readable in more than one way; None if nothing does."""
    for what, pattern in _AMBIGUITIES:
        if pattern.search(path):
            return what
    if has_dot_segment(unquote(path)):
        return "a segment of dots or blanks alone"
    return None


def has_dot_segment(path: str) -> bool:
    """Tell whether any server could take a segment of a decoded path for `.` or `..`."""
    return any(segment and not segment.strip(_HOLLOW) for segment in path.split("/"))


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
            if what := ambiguity(entry.replace("*", "x")):
                raise ValueError(f"{entry!r} holds {what}")
            if "*" in entry:
                try:
                    self._globs.append(Glob(entry, "/"))
                except ValueError as error:
                    raise ValueError(f"in {entry!r} {error}") from None
            else:
                self._prefixes.append(entry)

    def admit(self, path: str) -> bool:
        """Tell whether a raw path that is not ambiguous is allowed.

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
