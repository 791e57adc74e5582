"""Who and what may come in: callers by their tokens, methods, paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
from authproxy.http1.path_readings import oddity
from authproxy.http1.path_rules import PathRules
from authproxy.http1.urls import has_origin_form, path_of, request_target
from authproxy.identity.refresher import Refresher
from authproxy.settings import Settings

#: After which time a caller may ask again while the token file cannot be read.
_RETRY_SECONDS = 5.0

#: Where the server has judged a request already, this is its `Verdict`. No client
#: can set it: what comes from one is called HTTP_ something.
VERDICT_KEY = "authproxy.verdict"


@dataclass(frozen=True)
class Verdict:
    """A request was let in, by whose judgement, and who the caller is if that is known."""

    by: Admission
    caller: str | None


class Admission:
    """Judges each request before anything is done for it."""

    def __init__(self, settings: Settings, refresher: Refresher) -> None:
        self._methods = settings.allowed_methods
        self._paths = None if settings.allowed_paths is None else PathRules(settings.allowed_paths)
        path = settings.inbound_token_file
        self._tokens = None if path is None else watched_tokens(path)
        self._callers = _callers(settings, refresher)

    def start(self) -> None:
        """Begin to get what callers are judged by; harmless when repeated."""
        if self._tokens is not None:
            self._tokens.start()
        if self._callers is not None:
            self._callers.keys.start()

    def stop(self) -> None:
        if self._tokens is not None:
            self._tokens.stop()
        if self._callers is not None:
            self._callers.keys.stop()

    @property
    def alive(self) -> bool:
        """Whether it is noticed when what callers are judged by changes."""
        return (self._tokens is None or self._tokens.alive) and (
            self._callers is None or self._callers.keys.alive
        )

    @property
    def ready(self) -> bool:
        """Whether any caller can be let in yet."""
        if self._tokens is not None and self._tokens.current() is not None:
            return True
        if self._callers is not None:
            return self._callers.keys.current() is not None
        return self._tokens is None

    def admit(self, environ: Mapping[str, Any]) -> str | None:
        """Return who the caller is, where that is known; None for anybody who may come in.

        Raises the RequestError that says why a request may not: first for the
        caller, so that others learn nothing, then for the method and the path.
        """
        verdict: Verdict | None = environ.get(VERDICT_KEY)
        if verdict is not None and verdict.by is self:
            return verdict.caller
        caller = None
        if self._tokens is not None or self._callers is not None:
            caller = self._identify(environ)
        if self._methods is not None:
            self._require_method(environ["REQUEST_METHOD"], self._methods)
        if self._paths is not None:
            _require_path(environ, self._paths)
        return caller

    def _identify(self, environ: Mapping[str, Any]) -> str | None:
        given = bearer_tokens(environ)
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
        """Tell whether one of these is in the token file; before it says no, as that is now."""
        if self._tokens is None:
            return False
        return _any_in(given, self._tokens.current()) or (
            self._tokens.renewed() and _any_in(given, self._tokens.current())
        )

    @staticmethod
    def _require_method(method: str, allowed: tuple[str, ...]) -> None:
        if method not in allowed:
            raise MethodNotAllowed(
                f"{method} is not allowed here", fields=[("Allow", ", ".join(allowed))]
            )


def _require_path(environ: Mapping[str, Any], rules: PathRules) -> None:
    """Raise for a path that is not allowed, or of which that cannot be told."""
    if not has_origin_form(environ):
        raise BadRequest("the request target is not a path (ALLOWED_PATHS is set)")
    path = path_of(request_target(environ))
    if what := oddity(path):
        raise BadRequest(
            f"the path can be read in more than one way: it holds {what} (ALLOWED_PATHS is set)"
        )
    if not rules.admit(path):
        raise PathNotAllowed("the path is none of those that are allowed here")


def _any_in(given: list[str], known: TokenDigests | None) -> bool:
    """Compare all of them, so that it takes no less time if the first is right."""
    return known is not None and any([token in known for token in given])  # noqa: C419


def bearer_tokens(environ: Mapping[str, Any]) -> list[str]:
    """Return what the request shows: a bearer token, X-Authproxy-Token, or both."""
    scheme, _, bearer = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    given = [bearer] if scheme.lower() == "bearer" else []
    given.append(environ.get("HTTP_X_AUTHPROXY_TOKEN", ""))
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
    """Return what judges the requests; None where everything may come in."""
    restricting = (
        settings.allowed_methods,
        settings.allowed_paths,
        settings.inbound_token_file,
        settings.inbound_jwks_url,
        settings.inbound_jwks_file,
    )
    return None if all(each is None for each in restricting) else Admission(settings, refresher)
