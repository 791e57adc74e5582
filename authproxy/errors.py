"""The error hierarchy, and how an error turns into a response.

Three families: what stops the program from starting (`SettingsError`), what
keeps it from getting a token (`CredentialError`), and what a client gets in
place of a response of the target (`RequestError`, one subclass per code).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
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

    @property
    def place(self) -> str:
        """What stands in front of the setting's name."""
        return "" if self.route is None else f"route {self.route}: "

    def __str__(self) -> str:
        given = "" if self.value is None else f"={self.value!r}"
        return f"{self.place}{self.setting}{given}: {self.problem}. {self.hint}"


@dataclass(frozen=True)
class Advice:
    """One likely cause, a hint, and commands that help; in a rule it counts `when` that holds."""

    cause: str
    hint: str = ""
    commands: tuple[str, ...] = ()
    when: object = field(default=True, compare=False, repr=False)


@dataclass(frozen=True)
class Explanation:
    """An error explained: a code to look up, what is wrong, a hint, and commands that help.

    In commands names with $ are settings, words in capitals are for the operator to fill in.
    """

    code: str
    cause: str
    hint: str
    commands: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.cause} ({self.code}). {self.hint}."


class SettingsError(AuthProxyError):
    """The settings have faults; all of them are in `faults`."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Unusable(AuthProxyError, ValueError):
    """A value or a file that cannot be used: the problem, and a hint. Neither quotes a secret.

    `setting` is the variable at fault, where that is not known to all who read it.
    """

    def __init__(self, problem: str, hint: str, setting: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.setting = setting

    @property
    def sentences(self) -> str:
        """The problem, and the hint behind it."""
        return f"{self.problem}. {self.hint}"


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

    Subclasses fix `status` and, by their name, the `code` that clients see: all codes
    are classes of this module. The message becomes a whole sentence, `problem` has it as given.
    `retry_after` is in seconds and becomes a Retry-After field; `fields` are further header
    fields of the response.
    """

    status: ClassVar[int]
    code: ClassVar[str]

    def __init_subclass__(cls, status: int, code: str | None = None) -> None:
        cls.status, cls.code = status, code or cls.__name__

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        stop = "" if message.endswith(".") else "."
        super().__init__(f"{message[:1].upper()}{message[1:]}{stop}")
        self.problem = message
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
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:  # not a status of the standard
            return f"{self.status} "


class BadRequest(RequestError, status=400):
    """The request cannot be read as one unambiguous HTTP request."""


class Unauthorized(RequestError, status=401):
    """Nothing in the request shows that its sender is admitted."""


class CallerNotAllowed(RequestError, status=403):
    """The sender is known, and not one of INBOUND_JWT_SUBJECTS."""


class ClientCertificateMissing(RequestError, status=403):
    """The client has shown no certificate, and LISTENING_TLS_CLIENT_CA_FILE wants one."""


class AdmissionUnavailable(RequestError, status=503):
    """It cannot be decided now whether the sender is admitted; it should try again."""


class PathNotAllowed(RequestError, status=403):
    """The path is none of ALLOWED_PATHS."""


class NoRoute(RequestError, status=404):
    """Nothing is forwarded, or served, at this path."""


class MethodNotAllowed(RequestError, status=405):
    """CONNECT and TRACE are never forwarded; others may not be allowed."""


class RequestBodyTooLarge(RequestError, status=413):
    """The body is longer than MAX_REQUEST_BODY_BYTES."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request body is larger than MAX_REQUEST_BODY_BYTES ({limit}) allows."
        )


class RequestHeaderTooLarge(RequestError, status=431):
    """The header is longer than MAX_REQUEST_HEADER_BYTES, or has too many fields."""


class CodingNotImplemented(RequestError, status=501, code="NotImplemented"):
    """The request has another Transfer-Encoding than chunked (RFC 9112 section 6.1)."""


class RequestBodyNotKept(RequestError, status=503):
    """Neither memory nor the temporary directory can take the body."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(
            "the temporary directory cannot take the request's body "
            f"({problem.strerror or problem}); see to TMPDIR",
            retry_after=5,
        )


class AuthenticationTokenNotFound(RequestError, status=503):
    """There is no valid token to send."""


class ClientDisconnected(RequestError, status=499):
    """The connection to the client ended first, from either side: the response is not read.

    Log and metrics have it, with the status that nginx and others use for this.
    """

    def __init__(self) -> None:
        super().__init__("the connection to the client ended before the response did")


class TargetUnreachable(RequestError, status=503):
    """No connection to the target: DNS, TCP or TLS."""


class TargetProtocolError(RequestError, status=502):
    """The target closed the connection early or did not speak HTTP."""


class TargetTimeout(RequestError, status=504):
    """The target was silent for too long."""


class TargetRefusedIdentity(RequestError, status=503):
    """The target refused the proxy's identity; the sender should try later."""


class TargetRedirectedWrite(RequestError, status=503):
    """The target redirects writes, and their senders would follow it past the proxy."""


class Overloaded(RequestError, status=503):
    """All threads are taken, and as many requests wait for one as may."""


class TooManyTunnels(RequestError, status=503):
    """As many connections are upgraded as MAX_TUNNELS allows."""


class UpgradeNotSupported(RequestError, status=501):
    """The protocol of this connection cannot change, which the client asks for."""


class ShuttingDown(RequestError, status=503):
    """The grace for requests in flight is over; an upgrade is refused from its beginning on."""


class NotConfigured(RequestError, status=503):
    """Under Apache, which goes on without a program that cannot start: why it cannot."""


class MetricsUnavailable(RequestError, status=503):
    """The counts of all workers cannot be added up now."""


class InternalError(RequestError, status=500):
    """A fault in authproxy; its log has the traceback."""

    def __init__(self) -> None:
        super().__init__("The proxy failed to serve this request; its log says why.")
