"""Runs the WSGI application for one request in a thread, and writes its response.

waitress's WSGI task closes the connection after every response without
Content-Length, adds Via, sorts and re-cases the fields, and ends a HEAD with a
last chunk. Here what the application gave is sent as it was given. Nor is each field looked at
for itself, as there: that and its environment were a twentieth of a small request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from waitress.task import WSGITask
from waitress.utilities import build_http_date

from authproxy.cancellation import CANCELLATION_KEY
from authproxy.errors import InternalError, RequestError
from authproxy.http1.headers import HOP_BY_HOP, Field, list_members
from authproxy.server.exchange import Exchange
from authproxy.server.outbox import Disconnected
from authproxy.server.refusals import refusal_response
from authproxy.server.request_head import Request
from authproxy.server.tunnels import Offer
from authproxy.tunnel import TUNNEL_KEY

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

log = logging.getLogger(__name__)

#: A piece up to this size is copied behind the head, which saves a call of the kernel.
_JOINED_BYTES = 16 * 1024

#: Beginnings of the status of responses without a body (RFC 9110 section 6.4.1).
_NO_BODY = ("1", "204", "304")

#: Fields that an environment has without HTTP_ before their names.
_NOT_PREFIXED = frozenset({"CONTENT_LENGTH", "CONTENT_TYPE"})


class ApplicationTask(WSGITask):
    """Runs the WSGI application for one request, and writes its response."""

    logger = log
    channel: Exchange
    request: Request

    wrote_header: bool = False
    complete: bool = False  # start_response was called

    #: Whether a body may follow the head, and its length where that is known. So a 304 or HEAD
    #: that carries Content-Length is not held to it.
    has_body: bool = True
    content_length: int | None = None

    #: The names of the fields that the application gave, in lower case.
    _given: frozenset[str] = frozenset()

    #: The application gives the body in one piece.
    _sole_piece = False

    #: The end of the connection is the end of the body.
    delimited_by_close = False

    #: The connection has to end with a reset, as the response is truncated.
    cut = False

    @cached_property
    def _offer(self) -> Offer:
        """The tunnel that the application may have."""
        return Offer(self.channel.server.tunnels)

    def service(self) -> None:
        """Serve the request, and hand the connection back; raises nothing."""
        try:
            if not self.channel.check_client_disconnected():
                self.start()
                self.execute()
                self.finish()
        except Disconnected:
            self.close_on_finish = True
            log.debug("The client went away before its response was complete.")
        except Exception as error:  # noqa: BLE001  # whatever it was ends this request alone
            self.close_on_finish = True
            self._fail(error)
        finally:
            self.request.close()
            tunnel = self._offer.settle(failed=self.close_on_finish)
            self.channel.finished(close=self.close_on_finish, cut=self.cut, tunnel=tunnel)

    def execute(self) -> None:
        """Call the application, and write what it gives."""
        pieces = self.channel.server.application(self.get_environment(), self.start_response)
        try:
            self._sole_piece = isinstance(pieces, (list, tuple)) and len(pieces) == 1
            for piece in pieces:
                if piece:
                    self.write(piece)
        finally:
            if close := getattr(pieces, "close", None):
                close()
        if self.content_length is not None and self.content_bytes_written != self.content_length:
            self.close_on_finish = True  # or the client would wait for the rest
            log.warning(
                "The application gave %s bytes of a response for which it announced %s.",
                self.content_bytes_written,
                self.content_length,
            )

    def start_response(
        self, status: str, headers: Sequence[Field], exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Note the head of the response; what PEP 3333 asks of an application is checked."""
        if exc_info and exc_info[1] and self.wrote_header:
            raise exc_info[1]
        if self.complete and not exc_info:
            raise AssertionError("start_response called a second time without exc_info")
        self.complete = True
        given = {name.lower(): value for name, value in headers}
        if not HOP_BY_HOP.isdisjoint(given):
            raise AssertionError("hop-by-hop fields are the server's (PEP 3333)")
        self.status, self.response_headers, self._given = status, list(headers), frozenset(given)
        self.has_body = self.request.command != "HEAD" and not status.startswith(_NO_BODY)
        length = given.get("content-length")
        self.content_length = int(length) if self.has_body and length is not None else None
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body, the first one together with the head."""
        head = b"" if self.wrote_header else self._head(len(data))
        self.wrote_header = True
        piece = self._framed(data) if data and self.has_body else b""
        if len(piece) > _JOINED_BYTES:
            self.channel.write_soon(head)
            head = b""
        self.channel.write_soon(head + piece if head else piece)

    def _framed(self, data: bytes) -> bytes:
        if self.chunked_response:
            return b"%X\r\n%b\r\n" % (len(data), data)
        length = self.content_length
        if length is not None:
            data = data[: length - self.content_bytes_written]
            self.content_bytes_written += len(data)
        return data

    def _head(self, first: int) -> bytes:
        """Return status line and fields, in the application's order and case.

        `first` is the length of the first piece of the body.
        """
        if not self.complete:
            raise RuntimeError("start_response was not called before the body was written")
        fields: list[Field] = self.response_headers
        if self.status.startswith(("1", "204")):  # RFC 9110 section 8.6
            fields = [field for field in fields if field[0].lower() != "content-length"]
        elif self.has_body and "content-length" not in self._given:
            if self._sole_piece:
                self.content_length = first
                fields.append(("Content-Length", str(first)))
            elif self.version == "1.1":
                fields.append(("Transfer-Encoding", "chunked"))
                self.chunked_response = True
            else:
                self.delimited_by_close = True
        fields += self._connection_fields()
        if "date" not in self._given:
            fields.append(("Date", build_http_date(self.start_time)))
        lines = [f"HTTP/{self.version} {self.status}", *map(": ".join, fields)]
        head = "\r\n".join(lines)
        if not head.count("\r") == head.count("\n") == len(lines) - 1:
            raise ValueError("a field, or the status, holds a line break")
        return (head + "\r\n\r\n").encode("latin-1")

    def _connection_fields(self) -> list[tuple[str, str]]:
        """Return the fields that say what becomes of the connection."""
        if self._offer.protocol:
            return [("Upgrade", self._offer.protocol), ("Connection", "Upgrade")]
        # What has come behind a request for another protocol may be in that, and is no request.
        if self._offer.asked:
            self.close_on_finish = True
        if self.delimited_by_close or self.channel.server.is_draining() or not self._client_stays():
            self.close_on_finish = True
        if self.close_on_finish:
            return [("Connection", "close")]
        return [("Connection", "keep-alive")] if self.version == "1.0" else []

    def _client_stays(self) -> bool:
        """HTTP/1.1 persists without close, HTTP/1.0 with keep-alive (RFC 9112 section 9.3)."""
        options = self.request.headers.get("CONNECTION")
        if options is None:
            return bool(self.version == "1.1")
        given = list_members(options)
        return "close" not in given and (self.version == "1.1" or "keep-alive" in given)

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment of the request."""
        request, channel = self.request, self.channel
        host, port = channel.addr
        path = request.path
        environ = {
            **channel.server.environ,
            "REMOTE_ADDR": host,
            "REMOTE_HOST": host,
            "REQUEST_METHOD": request.command.upper(),
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "PATH_INFO": f"/{path.lstrip('/')}" if path.startswith("/") else path,
            "REQUEST_URI": request.request_uri,
            "QUERY_STRING": request.query,
            "wsgi.input": request.get_body_stream(),
            "waitress.client_disconnected": channel.check_client_disconnected,
            CANCELLATION_KEY: channel.cancellation,
            TUNNEL_KEY: self._offer,
        }
        if port is not None:  # a Unix socket's client has none
            environ["REMOTE_PORT"] = str(port)
        for name, value in request.headers.items():
            environ[name if name in _NOT_PREFIXED else f"HTTP_{name}"] = value
        environ.update(request.admitted)
        return environ

    def _fail(self, error: Exception) -> None:
        """Send an error, if the response has not begun; else it is truncated."""
        path, client = self.request.path, self.channel.addr[0]
        fields = {"Path": path, "Client": client, "Cut": self.wrote_header}
        if isinstance(error, RequestError):  # the application has logged it
            log.debug("A response failed: %s", error, extra={"fields": fields})
        else:
            message = "Unexpected error while serving a request."
            log.error(message, exc_info=error, extra={"fields": fields})
        if self.wrote_header:
            self.cut = self.delimited_by_close
            return
        response = refusal_response(
            error if isinstance(error, RequestError) else InternalError(),
            self.request.headers,
            self.start_time,
            version=self.version,
            has_body=self.request.command != "HEAD",
        )
        try:
            self.channel.write_soon(response)
        except Disconnected:
            log.debug("The client went away before an error could be sent to it.")
