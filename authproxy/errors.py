"""The error hierarchy, and how an error turns into a reply.

Three families: what stops the program from starting (`SettingsError`), what
keeps it from getting a token (`CredentialError`), and what a client is told
(`RequestError`, one subclass per code of the contract).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import ceil

#: An X-Request-ID of a client that comes back.
_ECHOED_ID = re.compile(r"[!-~]{1,128}")


class AuthProxyError(Exception):
    """Root of every error that authproxy raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one setting.

    `value` is what the operator gave, already masked if it is secret; `None`
    where nothing was given. `route` is the name of the route that it is of.
    """

    setting: str
    value: str | None
    problem: str
    hint: str
    route: str | None = None

    def of_route(self, name: str) -> Fault:
        return replace(self, route=name)

    @property
    def place(self) -> str:
        """What stands in front of the setting's name."""
        return "" if self.route is None else f"route {self.route}: "

    def __str__(self) -> str:
        given = "" if self.value is None else f"={self.value!r}"
        return f"{self.place}{self.setting}{given}: {self.problem}. {self.hint}"


class SettingsError(AuthProxyError):
    """The settings have faults; all of them are in `faults`."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class CertificateError(AuthProxyError):
    """A client certificate file cannot be used; the message says why."""


class CredentialError(AuthProxyError):
    """No token could be fetched.

    `retry_after` is the wait in seconds that the identity endpoint asked for,
    if it asked.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestError(AuthProxyError):
    """A request that the proxy answers itself.

    Subclasses fix `status` and, by their name, the `code` that clients see.
    `retry_after` is in seconds and becomes a Retry-After field; `fields` are
    further header fields of the reply.
    """

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.fields = tuple(fields)

    @property
    def code(self) -> str:
        return type(self).__name__

    def reply(self, request_id: str | None = None) -> Reply:
        """Return the JSON reply of the contract (DESIGN section 2)."""
        reply = error_reply(self.status, self.code, str(self), self.retry_after, request_id)
        reply.headers.extend(self.fields)
        return reply


@dataclass(frozen=True)
class Reply:
    """A whole response of the proxy's own making."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def line(self) -> str:
        """Status code and reason, as the status line has them."""
        try:
            return f"{int(self.status)} {HTTPStatus(self.status).phrase}"
        except ValueError:  # not of the standard's
            return f"{int(self.status)} "


def echoed_request_id(given: str | None) -> str | None:
    """Return a client's own request id if it may come back: 128 printable characters at most."""
    return given if given is not None and _ECHOED_ID.fullmatch(given) else None


def error_reply(
    status: int,
    code: str,
    message: str,
    retry_after: float | None = None,
    request_id: str | None = None,
) -> Reply:
    """Return `{"code": ..., "message": ...}` with its header fields.

    `request_id` is the client's, as it came: it is echoed if it may be.
    """
    body = json.dumps({"code": code, "message": message}).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if retry_after is not None:
        headers.append(("Retry-After", str(max(1, ceil(retry_after)))))
    if (echoed := echoed_request_id(request_id)) is not None:
        headers.append(("X-Request-ID", echoed))
    return Reply(status, headers, body)


class BadRequest(RequestError):
    """The request cannot be read as one unambiguous HTTP request."""

    status = HTTPStatus.BAD_REQUEST


class Unauthorized(RequestError):
    """Nothing in the request shows that its sender may come in."""

    status = HTTPStatus.UNAUTHORIZED


class CallerNotAllowed(RequestError):
    """It is known who the sender is: nobody that INBOUND_JWT_SUBJECTS names."""

    status = HTTPStatus.FORBIDDEN


class AdmissionUnavailable(RequestError):
    """Whether the sender may come in cannot be told now; it should ask again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class PathNotAllowed(RequestError):
    """The path is none of ALLOWED_PATHS."""

    status = HTTPStatus.FORBIDDEN


class NoRoute(RequestError):
    """Nothing is forwarded at this path."""

    status = HTTPStatus.NOT_FOUND


class MethodNotAllowed(RequestError):
    """CONNECT and TRACE make no sense through this proxy; others may not be allowed."""

    status = HTTPStatus.METHOD_NOT_ALLOWED


class RequestBodyTooLarge(RequestError):
    """More body than MAX_REQUEST_BODY_BYTES."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class RequestBodyNotKept(RequestError):
    """There is no room for a body that memory is not for: the disk is full, say."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class AuthenticationTokenNotFound(RequestError):
    """There is no valid token to send."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class ClientDisconnected(RequestError):
    """The connection to the client ended first, whoever ended it: nobody reads the reply.

    Log and metrics tell of it, with the status that nginx and others made up for this.
    """

    status = 499

    def __init__(self) -> None:
        super().__init__("the connection to the client ended before the answer did")


class TargetUnreachable(RequestError):
    """No connection to the target: DNS, TCP or TLS."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class TargetProtocolError(RequestError):
    """The target closed the connection early or did not speak HTTP."""

    status = HTTPStatus.BAD_GATEWAY


class TargetTimeout(RequestError):
    """The target was silent for too long."""

    status = HTTPStatus.GATEWAY_TIMEOUT


class TargetRefusedIdentity(RequestError):
    """The target refused the proxy's identity; the sender should try later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class Overloaded(RequestError):
    """All threads are taken, and enough requests wait for one already."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class ShuttingDown(RequestError):
    """The grace for requests in flight is over."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
