"""A small HTTP/1.1 server for one handler, on loopback, with or without TLS.

The standard library's reading of requests, on connections of an Acceptor, whose
end is that of open connections too, as in a crash.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit

from authproxy.demo.stand_ins.acceptor import LOOPBACK, Acceptor

#: More than any remote write that a demonstration or a test sends.
_LONGEST_BODY = 512 * 1024 * 1024


class PortInUse(OSError):
    """Somebody listens on the port that was asked for."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is in use already")
        self.port = port


def free_port(port: int = 0) -> int:
    """Return `port`, or for 0 one that is free at the moment. Raises PortInUse."""
    with socket.socket() as probe:
        # As servers do, so that connections that just ended are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortInUse(port) from error
        chosen: int = probe.getsockname()[1]
        return chosen


@dataclass(frozen=True)
class Request:
    """One request, read whole."""

    method: str
    target: str
    headers: Message = field(repr=False)
    body: bytes = field(repr=False)

    @cached_property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return urlsplit(self.target).path

    @cached_property
    def query(self) -> dict[str, str]:
        """The query's parameters, decoded; the last one counts."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @cached_property
    def form(self) -> dict[str, str]:
        """The parameters of a form-encoded body; empty for any other body."""
        if self.headers.get_content_type() != "application/x-www-form-urlencoded":
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(frozen=True)
class Response:
    """One response, written whole."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(
        cls, status: int, content: object, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return `content` as a JSON response."""
        fields = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        return cls(status, json.dumps(content).encode(), fields)


class LoopbackServer:
    """Calls `respond` for every request, each connection in a thread of its own.

    `port` 0 lets the system choose, once: after a `stop`, `start` takes the
    same port again. `respond` returning None closes the connection without a response.
    """

    def __init__(
        self,
        respond: Callable[[Request], Response | None],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.respond = respond
        self._port = port
        self._tls = tls
        self._acceptor: Acceptor | None = None

    @property
    def port(self) -> int:
        """The port; known once the server has been started."""
        return self._port

    @property
    def url(self) -> str:
        """Scheme, host and port, without a trailing slash."""
        return f"{'https' if self._tls else 'http'}://{LOOPBACK}:{self._port}"

    def start(self) -> None:
        """Listen. Raises PortInUse."""
        try:
            self._acceptor = Acceptor(self._serve, port=self._port, tls=self._tls)
        except OSError as error:
            raise PortInUse(self._port) from error
        self._port = self._acceptor.port

    def shut(self) -> None:
        """Stop listening and end every connection, without waiting for what `respond` does."""
        if self._acceptor is not None:
            self._acceptor.shut()

    def stop(self) -> None:
        """Stop listening, end every connection and wait for them; nothing to do if not started."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None

    def _serve(self, connection: socket.socket) -> None:
        _Handler(connection, (LOOPBACK, 0), self)  # type: ignore[arg-type]  # of it, `respond` alone


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: LoopbackServer  # type: ignore[assignment]

    def _serve(self) -> None:
        try:
            body = self._read_body()
        except ValueError as error:
            self.send_error(400, str(error))
            self.close_connection = True
            return
        response = self.server.respond(Request(self.command, self.path, self.headers, body))
        if response is None:
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _serve

    def _read_body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise ValueError("the body has no length")
        length = int(self.headers.get("Content-Length", 0))
        if not 0 <= length <= _LONGEST_BODY:
            raise ValueError("the length of the body makes no sense")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the body was cut short")
        return body

    def version_string(self) -> str:
        return "authproxy-demo"

    def log_message(self, *args: object) -> None:
        """Say nothing: the proxy's log is the one to read."""
