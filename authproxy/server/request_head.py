"""Reading the head of a request: waitress's parser, made as strict as RFC 9112 asks.

What the parser accepts is framed anew for the target, so nothing can be smuggled by
copying. The strictness has client, server and any proxy between them agree on where a
request begins and ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from waitress.adjustments import Adjustments
from waitress.parser import (
    HTTPRequestParser,
    ParsingError,
    TransferEncodingNotImplemented,
    get_header_lines,
)

from authproxy import errors
from authproxy.http1 import urls
from authproxy.http1.headers import is_token
from authproxy.http1.request_line import REQUEST_LINE, no_request_line, other_protocol
from authproxy.server.refusals import (
    CODING_NOT_IMPLEMENTED,
    HEADER_TOO_LARGE,
    Refusal,
    malformed,
)
from authproxy.server.request_body import RequestBody

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n")

#: What a method can begin with.
_TOKEN_BYTES = frozenset(byte for byte in range(256) if is_token(chr(byte)))

#: Empty lines may come before a request (RFC 9112 section 2.2), and nothing else.
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
_FOLD = re.compile(rb"(?:\A|\r\n)[ \t]")

#: Names that waitress drops: in WSGI's environment they would shadow those with a hyphen.
_UNDERSCORED = re.compile(rb"\r\n([^:\r\n]*_[^:\r\n]*):")

#: The blanks before a field's value, as many as they may be.
_LEADING_BLANKS = re.compile(rb"(\r\n[^:\r\n]*:)[ \t]+")

#: uri-host and port of RFC 9110 section 7.2; empty is allowed.
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)

#: Fields of a request: joining repeated ones takes time by the square of their number.
MAX_FIELDS = 1000

#: Fields that are kept as such while a body comes. Each takes some hundred bytes of memory,
#: however short it is: of more, the bytes are kept, and read again.
KEPT_FIELDS = 64

_TOO_MANY_FIELDS = errors.RequestHeaderTooLarge(f"The header has more than {MAX_FIELDS} fields.")
_NO_METHOD = "The request does not begin with a method."
_CONTROL_CHARACTER = "The header holds a control character."
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
        stray = _CONTROL.search(new.replace(b"\r\n", b""))
        if stray is None:
            return None
        return _BARE_LINE_FEED if stray[0] == b"\n" else _CONTROL_CHARACTER


class Request(HTTPRequestParser):
    """One request: its head, parsed from bytes that hold all of it, and then its body.

    waitress's task makes the WSGI environment of it.
    """

    #: Why it is refused, once that is known.
    refusal: Refusal | None = None

    #: The names of its fields that were dropped for their underscores.
    dropped: tuple[str, ...] = ()

    #: Additions to the application's environment.
    admitted: Mapping[str, object] = {}

    # waitress's own.
    command: str = ""  # empty where the request line cannot be read
    request_uri: str = ""
    headers: dict[str, str]
    body_rcv: RequestBody | None

    def __init__(self, head: bytes, adjustments: Adjustments, body_limit: int) -> None:
        super().__init__(adjustments)
        try:
            self.parse_header(head)
        except _Malformed as error:
            self.refusal = malformed(str(error))
        except ParsingError:
            self.refusal = malformed()
        except TransferEncodingNotImplemented:
            self.refusal = CODING_NOT_IMPLEMENTED
        except _TooManyFields:
            self.refusal = _TOO_MANY_FIELDS
        self.body_rcv = None
        if self.refusal is None and self.content_length > body_limit:
            self.refusal = errors.RequestBodyTooLarge(body_limit)
        elif self.has_body and len(self.headers) > KEPT_FIELDS:
            self._head = head

    #: Its bytes, if it has many fields and waits for a body.
    _head: bytes | None = None

    def fold(self) -> None:
        """Keep only the bytes of a head with many fields, until `body_received`."""
        if self._head is not None:
            kept = {"X_REQUEST_ID", "USER_AGENT"}  # for a refusal
            self.headers = {name: self.headers[name] for name in kept & self.headers.keys()}

    def _unfold(self) -> None:
        if self._head is not None:
            received, self.headers = self.body_rcv, {}
            self.parse_header(self._head)
            self.body_rcv, self._head = received, None

    @property
    def has_body(self) -> bool:
        """Whether a body follows; one of no bytes is none."""
        return bool(self.chunked or self.content_length)

    @property
    def body_length(self) -> int | None:
        """Bytes of the body that follows; None where it is chunked."""
        return None if self.chunked else self.content_length

    @property
    def awaits_100(self) -> bool:
        """Whether the client may wait for 100 before it sends the body."""
        return self.has_body and self.expect_continue is True

    def as_environ(self, client: str) -> dict[str, Any]:
        """Return the head as a WSGI environment has it; the client is its address.

        Of the body it has what mod_wsgi says of one that is still to come.
        """
        fields = {f"HTTP_{name}": value for name, value in self.headers.items()}
        if self.chunked:
            fields["HTTP_TRANSFER_ENCODING"] = "chunked"
        elif self.has_body:
            fields["CONTENT_LENGTH"] = str(self.content_length)
        return {
            **fields,
            "REQUEST_METHOD": self.command,
            "REQUEST_URI": self.request_uri,
            "REMOTE_ADDR": client,
        }

    def body_received(self) -> None:
        """Its body is whole: its length is what it turned out to be."""
        self._unfold()
        if self.chunked and self.body_rcv is not None:
            self.headers["CONTENT_LENGTH"] = str(len(self.body_rcv))

    def parse_header(self, header_plus: bytes) -> None:
        """Read request line and fields; raises ParsingError, which means 400."""
        first_line, _, fields = header_plus.partition(b"\r\n")
        line = REQUEST_LINE.fullmatch(first_line)
        if line is None:
            _refuse(no_request_line(first_line))
        # For the log, however the fields turn out.
        self.command, self.version = line["method"].decode(), line["version"][5:].decode()
        self.request_uri = line["target"].decode("latin-1")
        # Also keeps waitress's regular expression for fields from quadratic
        # time: with blanks before a control character it backtracks.
        if _CONTROL.search(fields.replace(b"\r\n", b"")):
            _refuse(_CONTROL_CHARACTER)
        if _FOLD.search(fields):  # RFC 9112 section 5.2 lets a server refuse it
            _refuse("A header line is folded, which HTTP/1.1 has given up.")
        if fields.count(b"\r\n") > MAX_FIELDS + 1:
            raise _TooManyFields
        # Blanks before a value take that pattern quadratic time as well.
        if b"  " in fields or b"\t" in fields:
            fields = _LEADING_BLANKS.sub(rb"\1", b"\r\n" + fields)[2:]
        # waitress gets a harmless target: its urlsplit refuses bytes beyond
        # ASCII, and raises an error that nothing catches for `http://[`.
        try:
            super().parse_header(b"%b / %b\r\n%b" % (line["method"], line["version"], fields))
        except ValueError:  # a Content-Length of more digits than int() reads
            _refuse("Content-Length is not a number that makes sense.")
        finally:
            self.request_uri = line["target"].decode("latin-1")
        self._split_target()
        if b"_" in fields:
            self.dropped = tuple(name.decode() for name in _UNDERSCORED.findall(b"\r\n" + fields))
        self._check_fields(b"\r\n" + fields.lower())
        self._join_cookies(fields)

    def _split_target(self) -> None:
        try:
            origin_form = urls.origin_form(self.request_uri)
        except errors.BadRequest:  # CONNECT's host:port, or malformed: the application responds
            origin_form = self.request_uri
        path, _, self.query = origin_form.partition("?")
        self.path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")

    def _check_fields(self, lowered: bytes) -> None:
        hosts = lowered.count(b"\r\nhost:")
        if hosts > 1 or (hosts == 0 and self.version == "1.1"):  # RFC 9112 section 3.2
            _refuse("HTTP/1.1 needs exactly one Host field.")
        if not _HOST.fullmatch(self.headers.get("HOST", "")):
            _refuse("The Host field is not a host and a port.")
        encodings = lowered.count(b"\r\ntransfer-encoding:")
        if not encodings:
            return
        if self.version == "1.0":  # RFC 9112 section 6.1
            _refuse("HTTP/1.0 knows no Transfer-Encoding.")
        if "CONTENT_LENGTH" in self.headers:
            _refuse("Content-Length and Transfer-Encoding exclude each other.")
        if encodings > 1 or not _CHUNKED.search(lowered):
            _refuse("Transfer-Encoding is not chunked, once.")

    def _join_cookies(self, fields: bytes) -> None:
        """Join several Cookie fields with `; ` (RFC 9113 section 8.2.3), not a comma."""
        if ", " in self.headers.get("COOKIE", ""):
            lines = [line for line in get_header_lines(fields) if line[:7].lower() == b"cookie:"]
            values = [line[7:].strip(b" \t").decode("latin-1") for line in lines]
            self.headers["COOKIE"] = "; ".join(values)


def _refuse(problem: str) -> NoReturn:
    raise _Malformed(problem)


class _Malformed(ParsingError):
    """What is wrong, in words that quote nothing of the request."""


class _TooManyFields(Exception):
    """A head has more than MAX_FIELDS of them."""
