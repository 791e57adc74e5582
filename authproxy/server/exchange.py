"""One request in a thread: what it sees of the connection, and how it writes the response.

waitress's WSGI task closes the connection after every response without
Content-Length, adds Via, sorts and re-cases the fields, and ends a HEAD with a
last chunk. Here what the application gave is sent as it was given.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from waitress.adjustments import Adjustments
from waitress.task import WSGITask
from waitress.utilities import build_http_date

from authproxy.cancellation import CANCELLATION_KEY, Cancellation
from authproxy.errors import InternalError, RequestError
from authproxy.http1.headers import list_members
from authproxy.server.outbox import Disconnected, Outbox
from authproxy.server.refusals import refusal_response
from authproxy.server.request_head import Request
from authproxy.server.tunnel import Tunnel
from authproxy.server.tunnels import Offer, Tunnels
from authproxy.tunnel import TUNNEL_KEY

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

#: A piece up to this size is copied behind the head, which saves a call of the kernel.
_JOINED_BYTES = 16 * 1024

#: An interim response that every client of HTTP/1.1 knows.
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: A client's host and port; no port behind a Unix socket.
Address = tuple[str, int | None]


@dataclass(frozen=True)
class Site:
    """What responses on one listening socket have in common; waitress calls it the server."""

    application: WSGIApplication
    adj: Adjustments
    server_name: str
    effective_port: str
    is_draining: Callable[[], bool]
    tunnels: Tunnels


class Finished(Protocol):
    """Called when a response is written.

    `close` and `cut`: how the connection ends, if it does; `tunnel`: what it becomes, if anything.
    """

    def __call__(self, *, close: bool, cut: bool, tunnel: Tunnel | None = None) -> None: ...


class Exchange:
    """What waitress's tasks call a channel; `finished` and `cancellation` are additions."""

    def __init__(
        self,
        site: Site,
        addr: Address,
        outbox: Outbox,
        finished: Finished,
        *,
        may_wait: bool,
        takes_interim: bool,
    ) -> None:
        """`may_wait`: a thread may be held for a client that is slow to take the response.

        `takes_interim`: the client knows interim responses.
        """
        self.server = site
        self.addr = addr
        self.finished = finished
        self.cancellation = Cancellation()
        self._outbox = outbox
        self._may_wait = may_wait
        #: An interim response may still be sent; the lock keeps it in front of the response.
        self.may_probe = takes_interim
        self._beginning = threading.Lock()

    def check_client_disconnected(self) -> bool:
        return self._outbox.closed

    def write_soon(self, data: bytes) -> int:
        """Send a piece of the response. Raises Disconnected."""
        if self.may_probe:
            with self._beginning:
                self.may_probe = False
        self._outbox.write(data, wait=self._may_wait)
        return len(data)

    def probe(self) -> None:
        """Send an interim response, unless the response has begun. Raises Disconnected.

        A client may get 100 without having asked, and discards it (RFC 9110 section 15.2.1).
        Called by the main loop.
        """
        with self._beginning:
            if self.may_probe:
                self._outbox.write(CONTINUE, wait=False)


class ApplicationTask(WSGITask):
    """Runs the WSGI application for one request, and writes its response."""

    logger = log
    channel: Exchange
    request: Request

    wrote_header: bool = False

    #: The end of the connection is the end of the body.
    delimited_by_close = False

    #: The connection has to end with a reset, as the response is truncated.
    cut = False

    @cached_property
    def _offer(self) -> Offer:
        """The tunnel that the application may have."""
        return Offer(self.channel.server.tunnels)

    @property
    def has_body(self) -> bool:
        return self.request.command != "HEAD" and not self.status.startswith(("1", "204", "304"))

    @property
    def content_length(self) -> int | None:
        """Length of the body to come; None if unknown or if there is no body.

        So a 304 or HEAD that carries Content-Length is not held to it.
        """
        return self._content_length if self.has_body else None

    @content_length.setter
    def content_length(self, value: int | None) -> None:
        self._content_length = value

    _content_length: int | None = None

    def set_close_on_finish(self) -> None:
        self.close_on_finish = True

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

    def write(self, data: bytes) -> None:
        """Send a piece of the body, the first one together with the head."""
        head = b"" if self.wrote_header else self.build_response_header()
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

    def build_response_header(self) -> bytes:
        """Return status line and fields, in the application's order and case."""
        fields = list(self.response_headers)
        given = {name.lower() for name, _ in fields}
        if self.status.startswith(("1", "204")):  # RFC 9110 section 8.6
            fields = [field for field in fields if field[0].lower() != "content-length"]
        elif self.has_body and "content-length" not in given:
            if self.content_length is not None:
                fields.append(("Content-Length", str(self.content_length)))
            elif self.version == "1.1":
                fields.append(("Transfer-Encoding", "chunked"))
                self.chunked_response = True
            else:
                self.delimited_by_close = True
        fields += self._connection_fields()
        if "date" not in given:
            fields.append(("Date", build_http_date(self.start_time)))
        lines = [
            f"HTTP/{self.version} {self.status}",
            *(f"{name}: {value}" for name, value in fields),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

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
        options = list_members(self.request.headers.get("CONNECTION", ""))
        return "close" not in options and (self.version == "1.1" or "keep-alive" in options)

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ["SERVER_SOFTWARE"] = "waitress"  # None, as no Server field is wanted
        if self.channel.addr[1] is None:  # a Unix socket's client has no port
            del environ["REMOTE_PORT"]
        del environ["wsgi.file_wrapper"]  # a connection takes bytes alone
        environ.update(self.request.admitted)
        environ[CANCELLATION_KEY] = self.channel.cancellation
        environ[TUNNEL_KEY] = self._offer
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
