"""The beginning of an error body, decoded for the log while it streams past."""

from __future__ import annotations

import zlib

#: Most that is kept of the bytes that pass, and most that is shown of their text.
RAW_BYTES = 16 * 1024
SHOWN_BYTES = 2 * 1024

#: Most that is shown of the name of a coding.
SHOWN_CODING = 100

#: zlib's window bits for gzip or zlib wrapping, and for bare deflate, which
#: some servers send for `deflate` (RFC 9110 section 8.4.1.2).
_WRAPPED, _BARE = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


class BodyExcerpt:
    """Keeps the first bytes of a body and shows them as text."""

    def __init__(self, encoding: str | None) -> None:
        #: The body's Content-Encoding as it came, cut to a length that can be shown.
        self.encoding = (encoding or "")[:SHOWN_CODING] or None
        self._encoding = (encoding or "").strip().lower()
        self._raw = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take note of a piece that passes; all but the beginning is ignored."""
        if len(self._raw) < RAW_BYTES:
            self._raw += piece[: RAW_BYTES - len(self._raw)]

    def text(self) -> str:
        """Return at most SHOWN_BYTES of the body, decoded where zlib can.

        The bound is on the output: a decompression bomb costs no more than
        any other body.
        """
        raw = bytes(self._raw)
        if self._encoding in ("gzip", "x-gzip", "deflate", "zlib"):
            decoded = _inflate(raw)
        elif self._encoding in ("", "identity"):
            decoded = raw[:SHOWN_BYTES]
        else:
            decoded = None
        if decoded is None:
            return f"({len(raw)} bytes of {self._encoding[:SHOWN_CODING]})" if raw else ""
        return decoded.decode("utf-8", errors="replace")


def _inflate(raw: bytes) -> bytes | None:
    for window_bits in (_WRAPPED, _BARE):
        try:
            return zlib.decompressobj(window_bits).decompress(raw, SHOWN_BYTES)
        except zlib.error:
            continue
    return None
