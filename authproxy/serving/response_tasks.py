"""Writing responses: waitress's tasks, with a proxy's manners.

waitress closes the connection after every response without Content-Length,
adds Via, sorts and re-cases the fields, and ends a HEAD with a last chunk.
Here what the application gave goes out as it was given.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from waitress.channel import ClientDisconnected
from waitress.task import ErrorTask, Task, WSGITask
from waitress.utilities import InternalServerError, build_http_date

from authproxy.abort import ABORT_KEY
from authproxy.admission import VERDICT_KEY
from authproxy.errors import (
    AuthProxyError,
    Overloaded,
    Reply,
    RequestBodyNotKept,
    RequestError,
    error_reply,
)
from authproxy.headers import list_members

if TYPE_CHECKING:
    from authproxy.serving.connection import Connection
    from authproxy.serving.request_parser import RequestParser

log = logging.getLogger(__name__)

#: A client's own request id is given back if it is short and printable.
_REQUEST_ID = re.compile(r"[!-~]{1,128}")

#: A piece up to this size is copied behind the head, which saves a call of the kernel.
_JOINED_BYTES = 16 * 1024

#: Errors of ours that come before the application sees the request.
_UNSEEN = (Overloaded, RequestBodyNotKept)

#: waitress's status for a request that it cannot take: code and message.
_REFUSALS = {
    400: ("BadRequest", "The request is not valid HTTP/1.1."),
    413: ("RequestBodyTooLarge", "The request body is larger than MAX_REQUEST_BODY_BYTES allows."),
    431: ("RequestHeaderTooLarge", "The header is larger than MAX_REQUEST_HEADER_BYTES allows."),
    500: ("InternalError", "The proxy failed to serve this request; its log says why."),
    501: ("NotImplemented", "The only Transfer-Encoding understood is chunked."),
}


class ResponseTask(Task):
    """What all responses share: the header block, and how they fail."""

    logger = log
    channel: Connection
    request: RequestParser

    wrote_header: bool = False

    #: Only the end of the connection tells the client where the body ends.
    delimited_by_close = False

    @property
    def has_body(self) -> bool:
        command = getattr(self.request, "command", "")  # unset where parsing failed
        return command != "HEAD" and not self.status.startswith(("1", "204", "304"))

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

    def write(self, data: bytes) -> None:
        """Send a piece of the body, the first one in one go with the head."""
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
        if self.delimited_by_close or self.channel.server.draining or not self._client_stays():
            self.close_on_finish = True
        if self.close_on_finish:
            fields.append(("Connection", "close"))
        elif self.version == "1.0":
            fields.append(("Connection", "keep-alive"))
        if "date" not in given:
            fields.append(("Date", build_http_date(self.start_time)))
        lines = [
            f"HTTP/{self.version} {self.status}",
            *(f"{name}: {value}" for name, value in fields),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _client_stays(self) -> bool:
        """RFC 9112 section 9.3: HTTP/1.1 stays unless told, HTTP/1.0 if asked to."""
        options = list_members(self.request.headers.get("CONNECTION", ""))
        return "close" not in options and (self.version == "1.1" or "keep-alive" in options)

    def service(self) -> None:
        """Run the task; never raises, so that waitress has nothing to trace."""
        try:
            self.start()
            self.execute()
            self.finish()
        except ClientDisconnected:
            self.close_on_finish = True
            log.debug("The client went away before its response was complete.")
        except Exception as error:  # noqa: BLE001  # whatever it was ends this request alone
            self.close_on_finish = True
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.wrote_header:
            self.channel.cut_when_flushed = self.delimited_by_close
        path = getattr(self.request, "path", None)
        fields = {"Path": path, "Client": self.channel.addr[0], "Cut": self.wrote_header}
        if isinstance(error, AuthProxyError):  # the application has told of it
            log.debug("A response failed: %s", error, extra={"fields": fields})
        else:
            message = "Unexpected error while serving a request."
            log.error(message, exc_info=error, extra={"fields": fields})


class ErrorReplyTask(ResponseTask, ErrorTask):
    """Refuses a request that never reached the application, in JSON."""

    def execute(self) -> None:
        reply = self._reply()
        self.status = reply.line
        self.response_headers = list(reply.headers)
        self.close_on_finish = True
        self.write(reply.body)

    def _reply(self) -> Reply:
        error = self.request.error
        if isinstance(error, RequestError):
            code, message = error.code, str(error)
        else:
            code, message = _REFUSALS[error.code]
            message = self.request.problem or message
        self._tell(code, message)
        given = _REQUEST_ID.fullmatch(self.request.headers.get("X_REQUEST_ID", ""))
        request_id = given[0] if given else None
        if isinstance(error, RequestError):
            return error.reply(request_id)
        return error_reply(HTTPStatus(error.code), code, message, request_id=request_id)

    def _tell(self, code: str, message: str) -> None:
        """Have the refusal counted, unless the application has counted the request."""
        request, refused = self.request, self.channel.server.refused
        error = request.error
        seen = isinstance(error, RequestError | InternalServerError)
        if refused is None or (seen and not isinstance(error, _UNSEEN)):
            return
        agent = request.headers.get("USER_AGENT", "")
        # Both are unset where the request line could not be read.
        method, target = getattr(request, "command", ""), getattr(request, "request_uri", "")
        status = int(error.status) if isinstance(error, _UNSEEN) else error.code
        refused(method, target, agent, status, code, message)


class ApplicationTask(ResponseTask, WSGITask):
    """Runs the WSGI application for one request."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ["SERVER_SOFTWARE"] = "waitress"  # None, as no Server field is wanted
        if self.channel.addr[1] is None:  # a Unix socket's client has no port
            del environ["REMOTE_PORT"]
        if self.request.verdict is not None:
            environ[VERDICT_KEY] = self.request.verdict
        environ[ABORT_KEY] = self.channel.abort_signal
        return environ

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        if not self.wrote_header:
            known = isinstance(error, RequestError)
            self.request.error = error if known else InternalServerError("")
            self.channel.error_task_class(self.channel, self.request).service()
