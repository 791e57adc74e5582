"""Receiving a request's body whole, so that it can be sent more than once."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from authproxy.errors import BadRequest, RequestBodyNotKept, RequestBodyTooLarge
from authproxy.http1.inbound_request import InboundRequest
from authproxy.upstream.request import RequestBody

#: Bodies up to this size stay in memory, longer ones go to a temporary file.
MEMORY_BYTES = 512 * 1024

_READ_BYTES = 64 * 1024


def receive_body(request: InboundRequest, limit: int) -> RequestBody | None:
    """Return the request's body, or None where it has none.

    Our own server has received it already. Other servers stream it, chunked ones
    without Content-Length (mod_wsgi): those are read to their end here.
    Raises RequestBodyTooLarge beyond `limit` bytes, RequestBodyNotKept where nothing
    can take it, and BadRequest for a Content-Length that is no number and
    where the client went away within its body.
    """
    declared, stream = request.content_length, request.body
    if stream is None or not (declared or "Transfer-Encoding" in request.fields):
        return None
    if declared and not declared.isdecimal():
        raise BadRequest("the Content-Length is not a number")
    length = int(declared) if declared else None
    if length is not None and length > limit:
        raise RequestBodyTooLarge(limit)
    if length is not None and _is_replayable(stream):
        return RequestBody(stream, length)
    return _spool(stream, length, limit)


def _is_replayable(stream: BinaryIO) -> bool:
    seekable = getattr(stream, "seekable", None)
    return bool(seekable and seekable())


def _spool(stream: BinaryIO, length: int | None, limit: int) -> RequestBody:
    spool = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  # RequestBody closes it
    try:
        received = _copy(stream, cast(BinaryIO, spool), length, limit)
    except BaseException:
        spool.close()
        raise
    return RequestBody(cast(BinaryIO, spool), received)


def _copy(stream: BinaryIO, spool: BinaryIO, length: int | None, limit: int) -> int:
    received = 0
    while length is None or received < length:
        wanted = _READ_BYTES if length is None else min(_READ_BYTES, length - received)
        try:
            piece = stream.read(wanted)
        except OSError as error:
            raise BadRequest("the request's body could not be read") from error
        if not piece:
            break
        received += len(piece)
        if received > limit:
            raise RequestBodyTooLarge(limit)
        try:
            spool.write(piece)
        except OSError as error:
            raise RequestBodyNotKept(error) from error
    if length is not None and received < length:
        raise BadRequest("the request's body ended too early")
    return received
