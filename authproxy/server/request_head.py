"""Reading the head of a request, as strictly as RFC 9112 asks.

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
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented

from authproxy import errors
from authproxy.http1 import urls
from authproxy.http1.grammar import TOKEN
from authproxy.http1.request_line import REQUEST_LINE, no_request_line
from authproxy.server.head_buffer import CONTROL, CONTROL_CHARACTER
from authproxy.server.refusals import CODING_NOT_IMPLEMENTED, Refusal, malformed
from authproxy.server.request_body import RequestBody

_FIELD = re.compile(rf"({TOKEN}):(.*)", re.DOTALL)
_DIGITS = re.compile(r"[0-9]+")
_FOLD = re.compile(rb"(?:\A|\r\n)[ \t]")

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


class Request(HTTPRequestParser):
    """One request: its head, parsed from bytes that hold all of it, and then its body.

    `ApplicationTask` makes the WSGI environment of it.
    """

    #: Why it is refused, once that is known.
    refusal: Refusal | None = None

    #: The names of its fields that were dropped for their underscores.
    dropped: tuple[str, ...] = ()

    #: Additions to the application's environment.
    admitted: Mapping[str, object] = {}

    # waitress's own.
    chunked: bool = False
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

    #: Whether Transfer-Encoding is `chunked`, and nothing else.
    _chunked_once = False

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
        if self.command != self.command.upper():  # none is defined that is not
            raise ParsingError
        if CONTROL.search(fields.replace(b"\r\n", b"")):
            _refuse(CONTROL_CHARACTER)
        if _FOLD.search(fields):  # RFC 9112 section 5.2 lets a server refuse it
            _refuse("A header line is folded, which HTTP/1.1 has given up.")
        if fields.count(b"\r\n") > MAX_FIELDS + 1:
            raise _TooManyFields
        self._split_target()
        hosts, codings = self._read_fields(fields.decode("latin-1"))
        self._frame()
        if hosts > 1 or (hosts == 0 and self.version == "1.1"):  # RFC 9112 section 3.2
            _refuse("HTTP/1.1 needs exactly one Host field.")
        if not _HOST.fullmatch(self.headers.get("HOST", "")):
            _refuse("The Host field is not a host and a port.")
        if codings:
            self._check_coding(codings)

    def _split_target(self) -> None:
        try:
            origin_form = urls.origin_form(self.request_uri)
        except errors.BadRequest:  # CONNECT's host:port, or malformed: the application responds
            origin_form = self.request_uri
        path, _, self.query = origin_form.partition("?")
        self.path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")

    def _read_fields(self, fields: str) -> tuple[int, int]:
        """Read the fields as WSGI has them: repeated ones joined, names with underscores left out.

        Returns how many Host and Transfer-Encoding fields there are.
        """
        headers, dropped = self.headers, []
        hosts = codings = 0
        for line in fields.split("\r\n"):
            if not line:  # behind the last field
                continue
            field = _FIELD.fullmatch(line)
            if field is None:
                raise ParsingError
            name, value = field.groups()
            if "_" in name:  # in WSGI's environment it would shadow one with a hyphen
                dropped.append(name)
                continue
            key, value = name.upper().replace("-", "_"), value.strip(" \t")
            if key in headers:
                # RFC 9113 section 8.2.3 and RFC 9110 section 5.3
                value = f"{headers[key]}{'; ' if key == 'COOKIE' else ', '}{value}"
            headers[key] = value
            if key == "HOST":
                hosts += 1
            elif key == "TRANSFER_ENCODING":
                codings += 1
        if dropped:
            self.dropped = tuple(dropped)
        return hosts, codings

    def _frame(self) -> None:
        """Find out where the body ends."""
        headers = self.headers
        if self.version == "1.1":
            # The application reads the body without chunks: the field is for this hop alone.
            codings = headers.pop("TRANSFER_ENCODING", "")
            self._chunked_once = codings.lower() == "chunked"
            for coding in codings.split(",") if codings else ():
                if coding and coding.strip(" \t").lower() != "chunked":
                    raise TransferEncodingNotImplemented
                if coding:
                    self.chunked = True
            self.expect_continue = headers.get("EXPECT", "").lower() == "100-continue"
        length = headers.get("CONTENT_LENGTH")
        if length is not None and not self.chunked:
            if not _DIGITS.fullmatch(length):
                raise ParsingError
            try:
                self.content_length = int(length)
            except ValueError:  # more digits than int() reads
                _refuse("Content-Length is not a number that makes sense.")

    def _check_coding(self, codings: int) -> None:
        """Refuse what others may frame in another way; there are so many Transfer-Encodings."""
        if self.version == "1.0":  # RFC 9112 section 6.1
            _refuse("HTTP/1.0 knows no Transfer-Encoding.")
        if "CONTENT_LENGTH" in self.headers:
            _refuse("Content-Length and Transfer-Encoding exclude each other.")
        if codings > 1 or not self._chunked_once:
            _refuse("Transfer-Encoding is not chunked, once.")


def _refuse(problem: str) -> NoReturn:
    raise _Malformed(problem)


class _Malformed(ParsingError):
    """What is wrong, in words that quote nothing of the request."""


class _TooManyFields(Exception):
    """A head has more than MAX_FIELDS of them."""
