"""A secret: as a text that does not print itself, and in a file."""

from __future__ import annotations

import re

from authproxy.errors import Unusable
from authproxy.files.regular_file import UnreadableFile, read_regular_file
from authproxy.redaction import MASK

#: More than any secret has: a larger file is the wrong path.
_MAX_SECRET_BYTES = 64 * 1024


class Secret:
    """A text that does not print itself."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"


def one_line(text: str) -> str:
    """Return a secret. Raises Unusable for one with line breaks or NULs, or that is no text."""
    if re.search(r"[\r\n\0]", text):  # they come in by copying
        raise Unusable(
            "it holds a line break or a NUL",
            "Store it again without one (printf '%s' rather than echo).",
        )
    if re.search(r"[\ud800-\udfff]", text):  # as environments have such bytes
        raise Unusable("it holds bytes that are not UTF-8", "Store it again, as UTF-8 text.")
    return text


def read_secret(path: str) -> str:
    """Return the secret in a file, without the line break that ends it.

    Raises Unusable, also where the file is empty.
    """
    store = "Store nothing but the secret."
    try:
        data = read_regular_file(path, _MAX_SECRET_BYTES)
    except UnreadableFile as error:
        hint = "Correct the path, or let the user that authproxy runs as read the file."
        raise Unusable(str(error), store if error.too_large else hint) from None
    try:
        # utf-8-sig: editors on Windows put a byte order mark in front.
        content = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise Unusable("the file is not UTF-8 text", store) from None
    if not content:
        raise Unusable("the file is empty", "Store the secret in it.")
    return one_line(content)
