"""Pure rules: what looks like a token, and known secrets, masked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from authproxy.redaction.quotations import SHORTEST, Secret, Span, readings

#: In place of a secret.
MASK = "***"

#: Tokens that are kept prepared to be looked for, 230 KiB each.
PREPARED_TOKENS = 6

#: After "Bearer ", or the parts of a signed or encrypted token (RFC 7515, RFC 7516),
#: also of one that is cut off. These run over whatever clients send: no two places
#: may try the same bytes again.
_BEARER = re.compile(r"(bearer(?:\s|%20|\+)+)[\w.~+/-]{16,}=*", re.IGNORECASE)
_DOTTED = re.compile(r"(?<![\w-])[\w-]+(?:\.[\w-]*)+")
_JWT_HEADER = re.compile(r"\beyJ[\w-]{8,}\Z")


def masked(text: str) -> str:
    """Return `text` with everything that looks like a token masked."""
    return _without(text, _lookalikes(text))


def _lookalikes(text: str) -> list[Span]:
    spans: list[Span] = []
    # Most texts have neither, which is seen in a hundredth of the time.
    if "bearer" in text.lower():
        spans += [(bearer.end(1), bearer.end()) for bearer in _BEARER.finditer(text)]
    if "eyJ" not in text:
        return spans
    for dotted in _DOTTED.finditer(text):
        start = dotted.start()
        for word in dotted[0].split(".")[:-1]:  # from the one on that can begin a token
            if begins := _JWT_HEADER.search(word):
                spans.append((start + begins.start(), dotted.end()))
                break
            start += len(word) + 1
    return spans


class Redactor:
    """Masks known secrets, in whatever form they are quoted.

    For texts that a peer may have filled with what it was sent. Not for every
    line of the log: a secret may well be an ordinary word.
    """

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        known = {secret for secret in secrets if secret and len(secret) >= SHORTEST}
        self._secrets = [Secret(secret) for secret in known]
        self._token = lru_cache(PREPARED_TOKENS)(Secret)

    def __call__(self, text: str, tokens: Iterable[str] = ()) -> str:
        """Return `text` with the secrets, `tokens` and all that looks like a token masked."""
        secrets = [*self._secrets, *map(self._token, dict.fromkeys(tokens))]
        spans = _lookalikes(text)
        if secrets:
            for reading in readings(text):
                for secret in secrets:
                    spans += secret.spans(reading)
        return _without(text, spans)


def _without(text: str, spans: list[Span]) -> str:
    """Return `text` with a mask in place of each stretch that spans cover."""
    if not spans:
        return text
    kept: list[str] = []
    done, masked_to = 0, -1
    for start, end in sorted(spans):
        if start > masked_to:
            kept += [text[done:start], MASK]
        masked_to = done = max(masked_to, end)
    return "".join([*kept, text[done:]])
