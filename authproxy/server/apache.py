"""What Apache with mod_wsgi needs (docs/apache.md)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from authproxy.errors import AuthProxyError, NotConfigured, RequestError

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: The Apache configuration sets this (`SetEnv`) where nothing there changes response
#: bodies, so that these may come with their framing.
FRAMING = "authproxy.framing"


class HostError(AuthProxyError):
    """mod_wsgi runs the program where it cannot work; the message has a hint."""


def hosted() -> bool:
    """Tell whether this process is one of Apache's, with mod_wsgi."""
    return _mod_wsgi("version") is not None


def refuse_unfit_host() -> None:
    """Raise HostError in a sub-interpreter or in Apache's own processes.

    cryptography cannot be loaded in a sub-interpreter, and its error is obscure.
    Apache starts and ends its own processes by load: each would fetch tokens, and
    run other sites' code in the process that has the proxy's secrets.
    """
    if group := _mod_wsgi("application_group"):
        raise HostError(
            f"authproxy cannot run in mod_wsgi's sub-interpreter {group!r}: add "
            "application-group=%{GLOBAL} to its WSGIScriptAlias "
            "(or `WSGIApplicationGroup %{GLOBAL}`)"
        )
    if _mod_wsgi("process_group") == "":
        raise HostError(
            "authproxy does not run in Apache's own processes (mod_wsgi's embedded mode): add "
            "process-group=authproxy, the name of a WSGIDaemonProcess, to its WSGIScriptAlias "
            "(or `WSGIProcessGroup authproxy`)"
        )


def _mod_wsgi(name: str) -> Any:
    """Return an attribute of the module that mod_wsgi adds to its processes, None elsewhere."""
    return getattr(sys.modules.get("mod_wsgi"), name, None)


def refusing(message: str) -> WSGIApplication:
    """Return an application whose responses are 503 with `message`, which must hold no secret.

    mod_wsgi loads a script that fails again for each request, with a traceback
    in the log each time and a page without a reason for the client.
    """
    response = NotConfigured(message).response()

    def application(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(response.line, response.headers)
        return [response.body]

    return application


class Framed:
    """Wraps an application so that clients see a truncated response as truncated.

    mod_wsgi ends a response in order when the application fails within it, or
    when its process dies: Apache then writes the last chunk, and half a
    response looks whole. But Apache does not change a body that is already chunked, as
    its Transfer-Encoding says: so responses of unknown length are chunked here, and a
    truncated one lacks the last chunk (RFC 9112 section 8).
    """

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = _Response(environ, start_response)
        response.pieces = self._application(environ, response.start)
        return response


class _Response:
    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self._start_response = start_response
        self._may_chunk = (
            environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
            and environ["REQUEST_METHOD"] != "HEAD"
            and FRAMING in environ
        )
        self._chunked = False
        self.pieces: Iterable[bytes] = ()

    def start(
        self, status: str, fields: list[tuple[str, str]], exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        has_body = not status.startswith(("204", "304"))
        has_length = any(name.lower() == "content-length" for name, _ in fields)
        self._chunked = self._may_chunk and has_body and not has_length
        if self._chunked:
            fields = [*fields, ("Transfer-Encoding", "chunked")]
        write = self._start_response(status, fields, exc_info)
        if not self._chunked:
            return write
        # Nothing written is nothing sent here, not even the head: but a zero may
        # stand before the size of any chunk (RFC 9112 section 7.1).
        return lambda piece: write(self._framed(piece) or b"0")

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked and piece else piece

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self.pieces:
                yield self._framed(piece)
        except RequestError:
            return  # it has been logged; mod_wsgi would only add a traceback
        if self._chunked:
            yield b"0\r\n\r\n"

    def close(self) -> None:
        if callable(close := getattr(self.pieces, "close", None)):
            close()
