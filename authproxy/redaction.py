"""Pure rules: what looks like a token, and known secrets in whatever form, masked."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

#: What stands where a secret would.
MASK = "***"

#: Shorter secrets are toys: masking them would only garble the text around.
SHORTEST = 6

#: After "Bearer ", or the parts of a signed or encrypted token (RFC 7515, RFC 7516),
#: also of one that is cut off. These run over whatever clients send: no two places
#: may try the same bytes again.
_BEARER = re.compile(r"(bearer(?:\s|%20|\+)+)[\w.~+/-]{16,}=*", re.IGNORECASE)
_DOTTED = re.compile(r"(?<![\w-])[\w-]+(?:\.[\w-]*)+")
_JWT_HEADER = re.compile(r"\beyJ[\w-]{8,}\Z")


def masked(text: str) -> str:
    """Return `text` with everything that looks like a token masked."""
    return _DOTTED.sub(_without_jwt, _BEARER.sub(rf"\1{MASK}", text))


def _without_jwt(dotted: re.Match[str]) -> str:
    """Mask words between dots from the one on that can begin a token."""
    words = dotted[0].split(".")
    for at, word in enumerate(words[:-1]):
        if begins := _JWT_HEADER.search(word):
            return ".".join([*words[:at], f"{word[: begins.start()]}{MASK}"])
    return dotted[0]


class Redactor:
    """Masks known secrets, as they are and encoded in the ways that errors quote them.

    For texts that a peer may have filled with what it was sent. Not for every
    line of the log: a secret may well be an ordinary word.
    """

    def __init__(self, secrets: Iterable[str | None]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        self._forms = sorted((form for form in forms if len(form) >= SHORTEST), key=len)[::-1]
        self._known = re.compile("|".join(map(re.escape, self._forms))) if self._forms else None

    def __call__(self, text: str) -> str:
        """Return `text` with the secrets and all that looks like a token masked."""
        text = masked(text)
        if self._known is None:
            return text
        text = self._known.sub(MASK, text)
        for form in self._forms:  # the text may have been cut within one
            for length in range(min(len(form) - 1, len(text)), SHORTEST - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + MASK
        return text


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda octet: octet[0].lower(), encoded)
    for charset in ("utf-8", "latin-1"):
        try:
            data = secret.encode(charset)
        except UnicodeEncodeError:
            continue
        for before in range(3):  # what stands in front decides on the letters
            for encode in (b64encode, urlsafe_b64encode):
                encoded = encode(bytes(before) + data).decode()
                # Without the letters that neighbours have a share in.
                whole = encoded.rstrip("=")
                yield whole[(0, 2, 3)[before] : len(whole) - (whole != encoded)]
