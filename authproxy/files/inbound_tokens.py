"""The tokens that let callers in: INBOUND_TOKEN_FILE, one a line."""

from __future__ import annotations

import hmac
import operator
import re
import secrets
from collections.abc import Iterable

from authproxy.files.watched_file import WatchedFile

#: Shorter ones can be guessed.
SHORTEST = 16

#: What both fields can carry: RFC 6750 section 2.1 says less, some generators more.
_TOKEN = re.compile(r"[!-~]+")


def parse_tokens(data: bytes) -> list[str]:
    """Return the tokens in a file: one a line, blank lines and `#` lines left out.

    Raises ValueError with a sentence that quotes none of them.
    """
    try:
        # utf-8-sig: editors on Windows put a byte order mark in front.
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text") from None
    tokens = []
    for number, line in enumerate(lines, start=1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"line {number} holds more than one token of printable ASCII")
        if len(token) < SHORTEST:
            raise ValueError(f"the token on line {number} has fewer than {SHORTEST} characters")
        tokens.append(token)
    if not tokens:
        raise ValueError("the file holds no token")
    return tokens


class TokenDigests:
    """Tokens to compare with: of each, only a digest under a random key of this process.

    The time of a comparison depends on no part of a token: digests of equal length
    are compared whole, and always all of them.
    """

    def __init__(self, tokens: Iterable[str], *, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)
        self._digests = frozenset(map(self._digest, tokens))

    def __contains__(self, token: str) -> bool:
        digest = self._digest(token)
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found

    def __or__(self, other: TokenDigests) -> TokenDigests:
        """Return the tokens of both, which have the same key."""
        both = TokenDigests((), key=self._key)
        both._digests = self._digests | other._digests
        return both

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self._key, token.encode("utf-8", "surrogatepass"), "sha256")


def watched_tokens(path: str) -> WatchedFile[TokenDigests]:
    """Return the tokens of a file, read anew when it changes."""
    key = secrets.token_bytes(32)
    return WatchedFile(
        "INBOUND_TOKEN_FILE",
        path,
        lambda data: TokenDigests(parse_tokens(data), key=key),
        both=operator.or_,
        what="inbound tokens",
    )
