"""/debug on METRICS_PORT: stacks, a profile, and the level of the log while the process runs.

They tell more than /metrics does, and cost more: they are for clients on this machine and for
those that show a token of DEBUG_TOKEN_FILE.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from authproxy.admin.profiling import sampled, stacks
from authproxy.admission.admission import bearer_tokens
from authproxy.errors import (
    AdmissionUnavailable,
    AuthProxyError,
    BadRequest,
    LocalResponse,
    MetricsUnavailable,
    Overloaded,
    Unauthorized,
)
from authproxy.files.inbound_tokens import TokenDigests, parse_tokens
from authproxy.files.regular_file import read_regular_file
from authproxy.http1.inbound_request import InboundRequest
from authproxy.settings.telemetry import LEVELS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from authproxy.admin.metrics_page import Page
    from authproxy.server.processes.channel import ParentLink

log = logging.getLogger(__name__)

#: The logger whose level LOG_LEVEL sets.
_LOGGER = logging.getLogger("authproxy")

#: Seconds that a profile takes, and at most.
_SECONDS, _MOST_SECONDS = 10, 60

#: Not all of 127.0.0.0/8: service meshes send what comes from elsewhere from 127.0.0.6.
_THIS_MACHINE = ("127.0.0.1", "::1")
#: What a browser's page of another site, whose name leads here, would not have in Host.
_OWN_NAMES = ("127.0.0.1", "::1", "localhost")
#: How the fields begin that a proxy on this machine adds to the requests of others.
_FORWARDED = ("Forwarded", "X-Forwarded-", "X-Real-Ip", "Via")
#: What a browser says of a request that its user, or a page of ours, began (Fetch Metadata).
_OWN_SITES = ("none", "same-origin")

#: What workers report on; the last sets the level named behind it.
_STACKS, _LEVEL = "stacks", "log level"


class DebugPages:
    """The pages of this worker, for all workers where that is possible."""

    def __init__(self, token_file: str | None, siblings: ParentLink | None = None) -> None:
        self._token_file = token_file
        self._siblings = siblings
        self._profiling = threading.Lock()
        self._ended = threading.Event()
        if siblings is not None:
            siblings.report_on(_STACKS, lambda: json.dumps(stacks()).encode())
            for level in ("", *LEVELS):
                make = lambda level=level: json.dumps(_set_level(level)).encode()  # noqa: E731
                siblings.report_on(f"{_LEVEL} {level}", make)

    @property
    def pages(self) -> dict[str, tuple[Page, tuple[str, ...]]]:
        """The pages by path, each with the methods that it takes."""
        return {
            "/debug/threads": (self._admitted(self._threads), ("GET", "HEAD")),
            "/debug/profile": (self._admitted(self._profile), ("GET",)),
            "/debug/log-level": (self._admitted(self._log_level), ("GET", "HEAD", "PUT")),
        }

    def close(self) -> None:
        """End a profile that is being taken."""
        self._ended.set()

    def _admitted(self, page: Callable[[InboundRequest], LocalResponse]) -> Page:
        def admit(environ: WSGIEnvironment) -> LocalResponse:
            request = InboundRequest.of(environ)
            if not (_is_local(request) or self._shows_token(request)):
                raise Unauthorized(
                    "/debug is for clients on this machine (http://127.0.0.1), and for those that "
                    "show a token of DEBUG_TOKEN_FILE"
                )
            return page(request)

        return admit

    def _shows_token(self, request: InboundRequest) -> bool:
        given = bearer_tokens(request.fields)
        if self._token_file is None or not given:
            return False
        try:
            known = TokenDigests(parse_tokens(read_regular_file(self._token_file)))
        except ValueError as error:
            raise AdmissionUnavailable(f"DEBUG_TOKEN_FILE: {error}") from error
        return any(token in known for token in given)

    def _threads(self, request: InboundRequest) -> LocalResponse:
        text = "\n".join(
            f"Process {pid}\n\n{report or 'It does not respond.'}\n"
            for pid, report in self._reports(_STACKS, stacks)
        )
        return _response(text.encode(), "text/plain; charset=utf-8")

    def _profile(self, request: InboundRequest) -> LocalResponse:
        given = parse_qs(urlsplit(request.target).query).get("seconds", [str(_SECONDS)])[-1]
        seconds = int(given) if given.isascii() and given.isdigit() and len(given) < 3 else 0
        if not 1 <= seconds <= _MOST_SECONDS:
            raise BadRequest(f"seconds has to be a whole number from 1 to {_MOST_SECONDS}")
        if not self._profiling.acquire(blocking=False):
            raise Overloaded("a profile is being taken, and only one is at a time")
        try:
            profile = sampled(seconds, self._ended)
        finally:
            self._profiling.release()
        title = f"authproxy, process {os.getpid()}, {seconds} s"
        return _response(json.dumps(profile.speedscope(title)).encode(), "application/json")

    def _log_level(self, request: InboundRequest) -> LocalResponse:
        level = ""
        if request.method == "PUT":
            assert request.body is not None
            level = request.body.read().decode("latin-1").strip().lower()
            if level not in LEVELS:
                raise BadRequest(f"the body has to be one of {', '.join(LEVELS)}")
        reports = self._reports(f"{_LEVEL} {level}", lambda: _set_level(level))
        if level:
            fields = {"From": _own(reports)["old"], "To": level, "Client": request.client}
            found = max(logging.WARNING, LEVELS[level])  # at whatever level
            log.log(found, "The log's level was changed", extra={"fields": fields})
        workers = [{"pid": pid, **(report or {})} for pid, report in reports]
        return _response(json.dumps({**_own(reports), "workers": workers}).encode())

    def _reports(self, subject: str, make: Callable[[], Any]) -> list[tuple[int, Any]]:
        """Return what each worker reports, by pid; None of one that does not respond."""
        if self._siblings is None:
            return [(os.getpid(), make())]
        try:
            gathered = self._siblings.gather(subject)
        except AuthProxyError as error:
            raise MetricsUnavailable(str(error)) from error
        return [(worker["pid"], worker["report"]) for worker in gathered["workers"]]


def _own(reports: list[tuple[int, Any]]) -> dict[str, str]:
    """Return the report of the worker that responds, or of any other one."""
    reported = {pid: report for pid, report in reports if report}
    if not reported:
        raise MetricsUnavailable("no worker responds")
    own: dict[str, str] = reported.get(os.getpid()) or next(iter(reported.values()))
    return own


def _set_level(level: str) -> dict[str, str]:
    """Log from this level up, if one is given; return the one before and the one now."""
    old = logging.getLevelName(_LOGGER.level).lower()
    if level:
        _LOGGER.setLevel(LEVELS[level])
    return {"old": old, "new": level or old}


def _is_local(request: InboundRequest) -> bool:
    """Whether a program of this machine asks, for itself."""
    if request.client not in _THIS_MACHINE:
        return False
    if any(name.startswith(_FORWARDED) for name in request.fields):
        return False
    if request.fields.get("Sec-Fetch-Site", "none") not in _OWN_SITES:
        return False
    return urlsplit(f"//{request.host}").hostname in _OWN_NAMES


def _response(body: bytes, content_type: str = "application/json") -> LocalResponse:
    headers = [("Content-Type", content_type), ("Cache-Control", "no-store")]
    headers.append(("X-Content-Type-Options", "nosniff"))
    return LocalResponse(HTTPStatus.OK, headers, body)
