"""The error hierarchy, and how an error turns into a response.

Three families: what stops the program from starting (`SettingsError`), what
keeps it from getting a token (`CredentialError`), and what a client gets in
place of a response of the target (`RequestError`, one subclass per code).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import ceil
from typing import ClassVar

#: The X-Request-ID of a client that is echoed.
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
    """A request that the proxy responds to itself.

    Subclasses fix `status` and, by their name, the `code` that clients see:
    each code is a class of this module. `retry_after` is in seconds and becomes
    a Retry-After field; `fields` are further header fields of the response.
    """

    status: ClassVar[int]
    code: ClassVar[str]

    def __init_subclass__(cls, code: str | None = None) -> None:
        cls.code = code or cls.__name__

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.fields = tuple(fields)

    def response(self, request_id: str | None = None) -> LocalResponse:
        """Return `{"code": ..., "message": ...}` with its header fields.

        `request_id` is the client's X-Request-ID as it came: it is echoed if it may be.
        """
        body = json.dumps({"code": self.code, "message": str(self)}).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        if self.retry_after is not None:
            headers.append(("Retry-After", str(max(1, ceil(self.retry_after)))))
        if request_id is not None and _ECHOED_ID.fullmatch(request_id):
            headers.append(("X-Request-ID", request_id))
        return LocalResponse(self.status, [*headers, *self.fields], body)


@dataclass(frozen=True)
class LocalResponse:
    """A whole response that the proxy makes itself."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def line(self) -> str:
        """Status code and reason, as the status line has them."""
        try:
            return f"{int(self.status)} {HTTPStatus(self.status).phrase}"
        except ValueError:  # not a status of the standard
            return f"{int(self.status)} "


class BadRequest(RequestError):
    """The request cannot be read as one unambiguous HTTP request."""

    status = HTTPStatus.BAD_REQUEST


class Unauthorized(RequestError):
    """Nothing in the request shows that its sender is admitted."""

    status = HTTPStatus.UNAUTHORIZED


class CallerNotAllowed(RequestError):
    """The sender is known, and not one of INBOUND_JWT_SUBJECTS."""

    status = HTTPStatus.FORBIDDEN


class AdmissionUnavailable(RequestError):
    """It cannot be decided now whether the sender is admitted; it should try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class PathNotAllowed(RequestError):
    """The path is none of ALLOWED_PATHS."""

    status = HTTPStatus.FORBIDDEN


class NoRoute(RequestError):
    """Nothing is forwarded, or served, at this path."""

    status = HTTPStatus.NOT_FOUND


class MethodNotAllowed(RequestError):
    """CONNECT and TRACE are never forwarded; others may not be allowed."""

    status = HTTPStatus.METHOD_NOT_ALLOWED


class RequestBodyTooLarge(RequestError):
    """The body is longer than MAX_REQUEST_BODY_BYTES."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is larger than MAX_REQUEST_BODY_BYTES ({limit}) allows."
        )


class RequestHeaderTooLarge(RequestError):
    """The header is longer than MAX_REQUEST_HEADER_BYTES, or has too many fields."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class CodingNotImplemented(RequestError, code="NotImplemented"):
    """The request has another Transfer-Encoding than chunked (RFC 9112 section 6.1)."""

    status = HTTPStatus.NOT_IMPLEMENTED


class RequestBodyNotKept(RequestError):
    """Neither memory nor the temporary directory can take the body."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class AuthenticationTokenNotFound(RequestError):
    """There is no valid token to send."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class ClientDisconnected(RequestError):
    """The connection to the client ended first, whoever ended it: nobody reads the response.

    Log and metrics have it, with the status that nginx and others use for this.
    """

    status = 499

    def __init__(self) -> None:
        super().__init__("the connection to the client ended before the response did")


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
    """All threads are taken, and as many requests wait for one as may."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class ShuttingDown(RequestError):
    """The grace for requests in flight is over."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class NotConfigured(RequestError):
    """Under Apache, which goes on without a program that cannot start: why it cannot."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class MetricsUnavailable(RequestError):
    """The counts of all workers cannot be added up now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class InternalError(RequestError):
    """A fault in authproxy; its log has the traceback."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self) -> None:
        super().__init__("The proxy failed to serve this request; its log says why.")
