"""Who and what is admitted: callers by their tokens, methods, paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from authproxy.admission.jwks_endpoint import Endpoint, EndpointKeys
from authproxy.admission.signed_tokens import TokenCallers, invalid
from authproxy.errors import (
    AdmissionUnavailable,
    BadRequest,
    MethodNotAllowed,
    PathNotAllowed,
    RequestError,
    Unauthorized,
)
from authproxy.files.inbound_tokens import TokenDigests, watched_tokens
from authproxy.files.jwks import FileKeys, KeySource
from authproxy.http1.headers import INBOUND_CREDENTIALS, is_token
from authproxy.http1.inbound_request import InboundRequest
from authproxy.http1.path_readings import oddity
from authproxy.http1.path_rules import PathRules
from authproxy.http1.urls import has_origin_form
from authproxy.identity.refresher import Refresher
from authproxy.settings import Settings
from authproxy.settings.declaration import Group

#: After which time a caller may ask again while the token file cannot be read.
_RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class AdmissionResult:
    """A request was admitted: by what, and who the caller is if that is known."""

    by: Admission | None
    caller: str | None = None
    #: Whether it was let in as a browser's preflight, without a token.
    preflight: bool = False


#: Of a request that nothing restricts.
UNRESTRICTED = AdmissionResult(None)


class Admission:
    """Decides about each request before anything is done for it. Any thread may ask."""

    def __init__(self, settings: Settings, refresher: Refresher) -> None:
        self._methods = settings.allowed_methods
        self._paths = None if settings.allowed_paths is None else PathRules(settings.allowed_paths)
        path = settings.inbound_token_file
        self._tokens = None if path is None else watched_tokens(path)
        self._callers = _callers(settings, refresher)
        self._allows_preflight = settings.inbound_allow_preflight
        keys = None if self._callers is None else self._callers.keys
        #: What identifies callers.
        self._known = [each for each in (self._tokens, keys) if each is not None]

    def start(self) -> None:
        """Begin to get what identifies callers; harmless when repeated."""
        for each in self._known:
            each.start()

    def stop(self) -> None:
        for each in self._known:
            each.stop()

    @property
    def alive(self) -> bool:
        """Whether changes of what identifies callers are noticed."""
        return all(each.alive for each in self._known)

    @property
    def ready(self) -> bool:
        """Whether any caller can be admitted yet."""
        return not self._known or any(each.current() is not None for each in self._known)

    def admit(self, request: InboundRequest) -> AdmissionResult:
        """Return that the request is admitted, at once where its head was already.

        Raises the RequestError that says why it is not: first for the
        caller, so that others learn nothing, then for the method and the path.
        """
        checked = request.head_check
        if isinstance(checked, AdmissionResult) and checked.by is self:
            return checked
        # A preflight counts as the request that the browser asks about.
        method = requested_method(request) if self._allows_preflight else None
        preflight = method is not None
        caller = None
        if self._known and not preflight:
            caller = self._identify(bearer_tokens(request.fields))
        method = method or request.method
        if self._methods is not None and method not in self._methods:
            raise MethodNotAllowed(
                f"the method {method} is not allowed here",
                fields=[("Allow", ", ".join(self._methods))],
            )
        if self._paths is not None:
            _require_path(request, self._paths)
        return AdmissionResult(self, caller, preflight)

    def _identify(self, given: list[str]) -> str | None:
        """Return whose tokens these are; None where they are in the token file, which has no names.

        Raises Unauthorized, CallerNotAllowed or AdmissionUnavailable.
        """
        if not given:
            raise Unauthorized(
                "a token is required, as `Authorization: Bearer` or X-Authproxy-Token",
                fields=[("WWW-Authenticate", "Bearer")],
            )
        if self._knows(given):
            return None
        error: RequestError = invalid("it is not one of those known here")
        if self._callers is not None:
            for token in given:
                try:
                    return self._callers.identify(token)
                except RequestError as refusal:
                    error = refusal
        if self._tokens is not None and self._tokens.current() is None:
            raise AdmissionUnavailable(
                "the tokens of callers cannot be read", retry_after=_RETRY_SECONDS
            )
        raise error

    def _knows(self, given: list[str]) -> bool:
        """Tell whether one of these is in the token file, read again before it is denied."""
        if self._tokens is None:
            return False
        return _any_in(given, self._tokens.current()) or (
            self._tokens.renewed() and _any_in(given, self._tokens.current())
        )


def _require_path(request: InboundRequest, rules: PathRules) -> None:
    """Raise for a path that is not allowed, or that is ambiguous."""
    path = request.path
    if not has_origin_form(request.raw_target):
        raise BadRequest("the request target is not a path (ALLOWED_PATHS is set)")
    if what := oddity(path):
        raise BadRequest(
            f"the path can be read in more than one way: it holds {what} (ALLOWED_PATHS is set)"
        )
    if not rules.admit(path):
        raise PathNotAllowed("the path is none of those that are allowed here")


def _any_in(given: list[str], known: TokenDigests | None) -> bool:
    """Compare all of them, so that it takes no less time if the first is right."""
    return known is not None and any([token in known for token in given])  # noqa: C419


def requested_method(request: InboundRequest) -> str | None:
    """Return the method that a browser asks for in a preflight; None where it is none.

    A preflight is OPTIONS with Origin and Access-Control-Request-Method, without a body and
    without credentials (Fetch Standard, "CORS-preflight fetch"). Nor does it ask for another
    protocol: a tunnel needs a token.
    """
    fields = request.fields
    if request.method != "OPTIONS" or request.upgrade or "Origin" not in fields:
        return None
    if request.content_length not in ("", "0") or "Transfer-Encoding" in fields:
        return None
    if not INBOUND_CREDENTIALS.isdisjoint(map(str.lower, fields)):
        return None
    method = fields.get("Access-Control-Request-Method", "")
    return method if is_token(method) else None


def bearer_tokens(fields: Mapping[str, str]) -> list[str]:
    """Return the tokens of a request: as `Authorization: Bearer`, X-Authproxy-Token, or both."""
    scheme, _, bearer = fields.get("Authorization", "").partition(" ")
    given = [bearer] if scheme.lower() == "bearer" else []
    given.append(fields.get("X-Authproxy-Token", ""))
    return [token for each in given if (token := each.strip(" \t"))]


def _callers(settings: Settings, refresher: Refresher) -> TokenCallers | None:
    keys: KeySource
    if settings.inbound_jwks_url is not None:
        keys = EndpointKeys(
            Endpoint(
                settings.inbound_jwks_url,
                ca_file=settings.inbound_jwks_ca_file,
                token_file=settings.inbound_jwks_token_file,
            ),
            refresher,
        )
    elif settings.inbound_jwks_file is not None:
        keys = FileKeys(settings.inbound_jwks_file)
    else:
        return None
    # The rules of the settings see to it that none of these is missing.
    return TokenCallers(
        keys,
        issuer=settings.inbound_jwt_issuer or "",
        audience=settings.inbound_jwt_audience or "",
        subjects=settings.inbound_jwt_subjects or (),
    )


def admission_for(settings: Settings, refresher: Refresher) -> Admission | None:
    """Return what admits the requests; None where everything is admitted."""
    return Admission(settings, refresher) if any(settings.values_of(Group.ADMISSION)) else None
