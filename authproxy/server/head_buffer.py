"""Finding the head of the next request in what a client has sent."""

from __future__ import annotations

import re

from authproxy.http1.headers import is_token
from authproxy.http1.request_line import REQUEST_LINE, no_request_line, other_protocol
from authproxy.server.refusals import HEADER_TOO_LARGE, Refusal, malformed

#: What no field holds, and why a request with one is refused.
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
CONTROL_CHARACTER = "The header holds a control character."

#: What a method can begin with.
_TOKEN_BYTES = frozenset(byte for byte in range(256) if is_token(chr(byte)))

#: Empty lines may come before a request (RFC 9112 section 2.2), and nothing else.
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")

_NO_METHOD = "The request does not begin with a method."
_BARE_LINE_FEED = "A line of the header ends with a bare line feed; it has to end with CR LF."


class HeadBuffer(bytearray):
    """Bytes of a client that wait to be read as requests, the first of which is found here."""

    def __init__(self, limit: int) -> None:
        """`limit` is the most bytes that a head may have."""
        super().__init__()
        self._limit = limit
        #: Where the end of the first head may begin; what is before has been looked at.
        self._searched = 0
        self._line_checked = False

    def take(self, count: int) -> bytes:
        """Remove `count` bytes, and return them."""
        taken = bytes(self[:count])
        self.drop(count)
        return taken

    def drop(self, count: int) -> None:
        del self[:count]
        self._searched = 0
        self._line_checked = False

    def skip_empty_lines(self) -> bool:
        """Drop the empty lines before a request; return whether one has begun."""
        at = _EMPTY_LINES.match(self).end()  # type: ignore[union-attr]  # it matches anything
        if at:
            self.drop(at)
        return bytes(self[:2]) not in (b"", b"\r")

    def next_head(self) -> bytes | Refusal | None:
        """Return the next head with the empty line that ends it; None where it is not whole yet.

        Each byte is looked at a few times, however they arrive. What cannot become a head
        is refused at once: its client may wait for a response before it sends more.
        """
        if not self or (self[0] not in _TOKEN_BYTES and not self.skip_empty_lines()):
            return None
        # waitress would drop any blank there, a line feed or a whole line of
        # blanks, and so find a request where other parsers find none.
        if self[0] not in _TOKEN_BYTES:
            return malformed(other_protocol(bytes(self[:16])) or _NO_METHOD)
        end = self.find(b"\r\n\r\n", self._searched)
        if (end + 4 if end >= 0 else len(self)) > self._limit:
            return HEADER_TOO_LARGE
        if end < 0:
            problem = self._problem()
            self._searched = max(0, len(self) - 3)
            return None if problem is None else malformed(problem)
        return self.take(end + 4)

    def _problem(self) -> str | None:
        """Return why what has come can be no part of a head, if so; `Request` has all rules."""
        if not self._line_checked and (line_end := self.find(b"\r\n", self._searched)) >= 0:
            line = bytes(self[:line_end])
            if not REQUEST_LINE.fullmatch(line):
                return no_request_line(line)
            self._line_checked = True
        # What `_searched` has passed was looked at, up to a CR that another byte may follow.
        new = bytes(self[self._searched :]).removesuffix(b"\r")
        if self._searched:
            new = new.removeprefix(b"\n")
        stray = CONTROL.search(new.replace(b"\r\n", b""))
        if stray is None:
            return None
        return _BARE_LINE_FEED if stray[0] == b"\n" else CONTROL_CHARACTER
