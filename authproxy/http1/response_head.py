"""Pure rules: the head of the target's response, read strictly by RFC 9112.

http.client parses heads with the e-mail parser, which forgives what a proxy
must not: a malformed line hides the fields after it, and with them the framing;
and it takes 103 Early Hints for the final response.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.client import HTTPException

from authproxy.http1.grammar import TOKEN
from authproxy.http1.headers import Field, list_members

#: Longest head of a response, and most interim (1xx) responses before it.
MAX_HEAD_BYTES = 256 * 1024
MAX_INTERIM_RESPONSES = 16

# Blanks have one place in each: two that could share a run of them would take
# quadratic time over a long one, and no other thread would run meanwhile.
_STATUS_LINE = re.compile(
    rb"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t]([^\x00-\x08\x0a-\x1f\x7f]*))?"
)
_FIELD_LINE = re.compile(rb"(%b)[ \t]*:([^\x00-\x08\x0a-\x1f\x7f]*)" % TOKEN.encode())
_HEAD_END = re.compile(rb"\n\r?\n")
_DECIMAL = re.compile(r"[0-9]{1,18}")
_BLANKS = (b" ", b"\t")

#: The fields that say how a body ends, and whether the connection does.
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})


class MalformedResponse(HTTPException):
    """What came is not an HTTP/1 response that can be passed on."""


def parse_status_line(line: bytes) -> tuple[int, int, str]:
    """Return (minor version, status, reason) of RFC 9112 section 4.

    Raises MalformedResponse.
    """
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise MalformedResponse("the response is not HTTP/1")
    minor, status, reason = match.groups()
    return int(minor), int(status), (reason or b"").lstrip(b" \t").decode("latin-1")


def parse_field_lines(lines: list[bytes]) -> list[Field]:
    """Return the fields of RFC 9112 section 5, in order, repeats kept.

    Obsolete line folding becomes a space, blanks before the colon go (both
    section 5.1 and 5.2 ask of proxies). Raises MalformedResponse.
    """
    fields = []
    for line in lines:
        match = _FIELD_LINE.fullmatch(line)
        if not match:
            unfolded = _unfolded(lines)
            if len(unfolded) == len(lines):
                raise MalformedResponse("the response has a malformed header line")
            return parse_field_lines(unfolded)
        name, value = match.groups()
        fields.append((name.decode("ascii"), value.strip(b" \t").decode("latin-1")))
    return fields


def _unfolded(lines: list[bytes]) -> list[bytes]:
    unfolded: list[bytes] = []
    for line in lines:
        if line[:1] in _BLANKS and unfolded:
            unfolded[-1] += b" " + line.strip(b" \t")
        else:
            unfolded.append(line)
    return unfolded


def _values(fields: list[Field], name: str) -> list[str]:
    return [value for key, value in fields if key.lower() == name]


def transfer_coding(fields: list[Field]) -> str | None:
    """Return the transfer coding: `chunked`, `identity` or none; any other is refused.

    `identity` is none (RFC 2616 section 3.6): RFC 7230 took it out of the standard, and some
    servers still send it. Raises MalformedResponse.
    """
    codings = [
        coding for value in _values(fields, "transfer-encoding") for coding in list_members(value)
    ]
    if codings not in ([], ["chunked"], ["identity"]):
        raise MalformedResponse("the response has a transfer coding other than chunked")
    return codings[0] if codings else None


def content_length(fields: list[Field]) -> int | None:
    """Return the one Content-Length (RFC 9112 section 6.3: repeats must agree).

    Raises MalformedResponse.
    """
    lengths = {
        part.strip(" \t")
        for value in _values(fields, "content-length")
        for part in value.split(",")
    }
    if not lengths:
        return None
    if len(lengths) > 1 or not _DECIMAL.fullmatch(length := lengths.pop()):
        raise MalformedResponse("the response has no single valid Content-Length")
    return int(length)


def with_length(fields: list[Field], length: int | None) -> list[Field]:
    """Return the fields with this one Content-Length, or with none."""
    if _values(fields, "content-length") == ([] if length is None else [str(length)]):
        return fields
    others = [field for field in fields if field[0].lower() != "content-length"]
    return others if length is None else [*others, ("Content-Length", str(length))]


def is_persistent(minor_version: int, fields: list[Field]) -> bool:
    """Tell whether the connection may be used again (RFC 9112 section 9.3)."""
    options = {option for value in _values(fields, "connection") for option in list_members(value)}
    if "close" in options:
        return False
    return minor_version >= 1 or "keep-alive" in options


@dataclass(eq=False)
class Head:
    """A response's head: what it says, and how its body ends.

    `length` is None where the body is chunked, or where only the end of the
    connection ends it.
    """

    status: int
    reason: str
    fields: list[Field]
    length: int | None
    chunked: bool
    persistent: bool


def split_head(data: bytes, known: int = 0) -> tuple[bytes, bytes] | None:
    """Return a head and what follows it, or None where more has to come.

    No head ends within the first `known` bytes: one that comes in a thousand
    pieces is not to be searched from its start a thousand times. Raises
    MalformedResponse where it has no end within MAX_HEAD_BYTES.
    """
    end = _HEAD_END.search(data, max(0, known - 2))
    if (end.end() if end else len(data)) > MAX_HEAD_BYTES:
        raise MalformedResponse(f"the response's head is longer than {MAX_HEAD_BYTES} bytes")
    return (data[: end.start()], data[end.end() :]) if end else None


def parse_head(head: bytes, method: str) -> Head:
    """Return what the head of the response to a request with this method says.

    Decides where the body ends by RFC 9112 section 6.3. Raises
    MalformedResponse.
    """
    lines = head.removesuffix(b"\r").replace(b"\r\n", b"\n").split(b"\n")
    minor, status, reason = parse_status_line(lines[0])
    fields = parse_field_lines(lines[1:])
    framing = [field for field in fields if field[0].lower() in _FRAMING]
    persistent = is_persistent(minor, framing)
    coding = transfer_coding(framing)
    chunked = coding == "chunked"
    if coding == "identity":
        persistent = False  # whatever stands between may read no end, or another one
    length = content_length(framing)
    if chunked and (length is not None or minor == 0):  # one of them lies: the chunks count
        length = None
        persistent = False  # RFC 9112 section 6.1
    if with_length(framing, length) is not framing:
        fields = with_length(fields, length)
    if method == "HEAD" or status < 200 or status in (204, 304):
        chunked, length = False, 0
    elif length is None and not chunked:
        persistent = False
    return Head(status, reason, fields, length, chunked, persistent)
