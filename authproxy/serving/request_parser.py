"""Reading requests: waitress's parser, made as strict as RFC 9112 asks.

What the parser accepts is framed anew on the way to the target, so nothing
can be smuggled by copying. The strictness keeps both ends, and any proxy
before us, of one mind about where a request begins and ends.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol
from urllib.parse import unquote_to_bytes

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError, get_header_lines
from waitress.utilities import BadRequest

from authproxy import errors, urls
from authproxy.headers import is_token
from authproxy.http1.chunks import ChunkDecoder
from authproxy.http1.memory_body import BodyMemory, not_kept

log = logging.getLogger(__name__)

_REQUEST_LINE = re.compile(
    rb"(?P<method>[!#$%%&'*+\-.^_`|~0-9A-Za-z]+) (?P<target>[^%b]+) (?P<version>HTTP/1\.[01])"
    % urls.NOT_IN_REQUEST_TARGETS.encode()
)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n")

#: Empty lines may come before a request (RFC 9112 section 2.2), and nothing else.
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
_FOLD = re.compile(rb"(?:\A|\r\n)[ \t]")

#: uri-host and port of RFC 9110 section 7.2; empty is allowed.
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)


#: Judges a request by its head, as it would stand in a WSGI environment: returns
#: what was found, for the application, or raises the RequestError to answer with.
JudgeHead = Callable[[Mapping[str, Any]], object]


class Judge(Protocol):
    """Who judges requests before their bodies are read, while `on_duty`."""

    @property
    def on_duty(self) -> bool: ...

    def __call__(self, head: Mapping[str, Any]) -> object: ...


class ChunkedBody:
    """Receives a chunked body into a buffer: what waitress calls a receiver."""

    completed = False
    error: BadRequest | None = None
    problem: str | None = None

    def __init__(self, buffer: OverflowableBuffer) -> None:
        self._buffer = buffer
        self._decoder = ChunkDecoder(strict=True)

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def outstanding(self) -> int:
        """Bytes that the chunk which has begun still lacks."""
        return self._decoder.left

    def received(self, data: bytes) -> int:
        """Take what belongs to the body; return how many bytes that was."""
        self._buffer.append(self._decoder.feed(data))
        self.completed = self._decoder.complete
        if self._decoder.error is not None:
            self.problem = f"In the body, {self._decoder.error}."
            self.error = BadRequest(self.problem)
        return len(data) - (len(self._decoder.rest) if self.completed else 0)

    def getfile(self) -> Any:
        return self._buffer.getfile()

    def getbuf(self) -> OverflowableBuffer:
        return self._buffer


class RequestParser(HTTPRequestParser):
    """Collects one request.

    `problem` says in words of ours, safe to show, why a request was refused.
    """

    problem: str | None = None
    body_rcv: Any = None  # one of waitress's, ChunkedBody or MemoryBody
    error: Any = None  # one of waitress's, or a RequestError

    #: What the judge found.
    verdict: object = None

    _has_begun = False

    def __init__(
        self, adj: Adjustments, memory: BodyMemory, judge: JudgeHead | None = None
    ) -> None:
        super().__init__(adj)
        self._memory = memory
        self._judge = judge
        self.began = time.monotonic()

    def received(self, data: bytes) -> int:
        if not self._has_begun and not self._begins_well(self.header_plus + data):
            self.problem = "The request does not begin with a method."
            self.error = BadRequest(self.problem)
            self.completed = True
            return len(data)
        try:
            consumed: int = super().received(data)
        except OSError as error:  # of the temporary file that a long body goes to
            self.error = not_kept(error)
            log.error("Request failed", extra={"fields": {"Error": str(self.error)}})
            self.completed = True
            consumed = len(data)
        if isinstance(self.body_rcv, ChunkedBody) and self.error is self.body_rcv.error:
            self.problem = self.body_rcv.problem
        if self._judge is not None and self.headers_finished and not self.completed:
            judge, self._judge = self._judge, None
            if not self._let_in(judge):
                consumed = len(data)  # what follows is its body, and no request
        if self.completed:
            # Nothing is left to wait for. waitress would answer 100 to a
            # request without body, and then take it for unfinished for ever;
            # and to one refused for its length, and then read the body.
            self.expect_continue = False
        return consumed

    def _let_in(self, judge: JudgeHead) -> bool:
        """Have the request judged before its body is read; if refused, it never is."""
        fields = {f"HTTP_{name}": value for name, value in self.headers.items()}
        line = {"REQUEST_METHOD": self.command, "REQUEST_URI": self.request_uri}
        try:
            self.verdict = judge({**fields, **line})
        except errors.RequestError as error:
            self.error = error
            self.completed = True
            return False
        return True

    def _begins_well(self, data: bytes) -> bool:
        """Tell whether what stands after empty lines can be a method.

        waitress would drop any blank there, a line feed or a whole line of
        blanks, and so find a request where others find none.
        """
        at = _EMPTY_LINES.match(data).end()  # type: ignore[union-attr]  # it matches anything
        first = data[at : at + 2]
        self._has_begun = first not in (b"", b"\r")
        return not self._has_begun or is_token(first[:1].decode("latin-1"))

    @property
    def body_bytes_received(self) -> int:
        """Bytes of decoded body, those of the chunk that has begun included.

        The limit is on the body; waitress would count chunk framing too.
        """
        receiver: Any = self.body_rcv
        return 0 if receiver is None else len(receiver) + getattr(receiver, "outstanding", 0)

    @body_bytes_received.setter
    def body_bytes_received(self, value: int) -> None:
        """waitress adds what it read, framing included: not wanted."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read request line and fields; raises ParsingError, which means 400."""
        first_line, _, fields = header_plus.partition(b"\r\n")
        line = _REQUEST_LINE.fullmatch(first_line)
        if line is None:
            self._refuse(
                "The request line is not a method, a target without `#`, and HTTP/1.0 or HTTP/1.1."
            )
        # Also keeps waitress's regular expression for fields from quadratic
        # time: with blanks before a control character it backtracks.
        if _CONTROL.search(fields.replace(b"\r\n", b"")):
            self._refuse("The header holds a control character.")
        if _FOLD.search(fields):  # RFC 9112 section 5.2 lets a server refuse it
            self._refuse("A header line is folded, which HTTP/1.1 has given up.")
        # waitress gets a harmless target: its urlsplit refuses bytes beyond
        # ASCII, and raises an error that nothing catches for `http://[`.
        try:
            super().parse_header(b"%b / %b\r\n%b" % (line["method"], line["version"], fields))
        except ValueError:  # a Content-Length of more digits than int() reads
            self._refuse("Content-Length is not a number that makes sense.")
        self._set_target(line["target"].decode("latin-1"))
        self._check_fields(b"\r\n" + fields.lower())
        if self.chunked:
            self.body_rcv = ChunkedBody(OverflowableBuffer(self.adj.inbuf_overflow))
        elif 0 < self.content_length < self.adj.max_request_body_size:
            in_memory = self._memory.receiver(self.content_length)
            if in_memory is not None:  # empty as it is, it would count as false
                self.body_rcv = in_memory
        self._join_cookies(fields)

    def _set_target(self, target: str) -> None:
        self.request_uri = target
        try:
            origin_form = urls.request_target({"REQUEST_URI": target})
        except errors.BadRequest:  # CONNECT's host:port, or nonsense: the application answers
            origin_form = target
        path, _, self.query = origin_form.partition("?")
        self.path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")

    def _check_fields(self, lowered: bytes) -> None:
        hosts = lowered.count(b"\r\nhost:")
        if hosts > 1 or (hosts == 0 and self.version == "1.1"):  # RFC 9112 section 3.2
            self._refuse("HTTP/1.1 needs exactly one Host field.")
        if not _HOST.fullmatch(self.headers.get("HOST", "")):
            self._refuse("The Host field is not a host and a port.")
        encodings = lowered.count(b"\r\ntransfer-encoding:")
        if not encodings:
            return
        if self.version == "1.0":  # RFC 9112 section 6.1
            self._refuse("HTTP/1.0 knows no Transfer-Encoding.")
        if "CONTENT_LENGTH" in self.headers:
            self._refuse("Content-Length and Transfer-Encoding exclude each other.")
        if encodings > 1 or not _CHUNKED.search(lowered):
            self._refuse("Transfer-Encoding is not chunked, once.")

    def _join_cookies(self, fields: bytes) -> None:
        """Join several Cookie fields with `; ` (RFC 9113 section 8.2.3), not a comma."""
        if ", " in self.headers.get("COOKIE", ""):
            lines = [line for line in get_header_lines(fields) if line[:7].lower() == b"cookie:"]
            values = [line[7:].strip(b" \t").decode("latin-1") for line in lines]
            self.headers["COOKIE"] = "; ".join(values)

    def _refuse(self, problem: str) -> NoReturn:
        self.problem = problem
        raise ParsingError(problem)
