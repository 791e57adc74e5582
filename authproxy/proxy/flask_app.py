"""The Flask application: routes by the raw request target, and forwards without Flask's contexts.

Those are an eighth of a small request: where nothing can look at them, there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Request, Response, request, signals
from werkzeug.routing import MapAdapter, Rule

from authproxy.http1.inbound_request import InboundRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The endpoint of what no other rule takes.
FORWARD = "proxy.forward"

#: What Flask sends in the course of a request that is forwarded.
_SIGNALS = (
    *(signals.appcontext_pushed, signals.appcontext_tearing_down, signals.appcontext_popped),
    *(signals.request_started, signals.request_finished, signals.request_tearing_down),
)


class ForwardingView:
    """The view of what is forwarded; `forward` is the same without Flask's contexts."""

    def __init__(self, forward: Callable[[InboundRequest], Response]) -> None:
        self.forward = forward

    def __call__(self, **_: str) -> Response:
        return self.forward(inbound_request())


def inbound_request() -> InboundRequest:
    """Return the inbound request of Flask's context."""
    return cast(ProxyRequest, request).inbound


class RawTargetAdapter(MapAdapter):
    """Matches rules against the raw request target, never against PATH_INFO.

    Servers decode and normalise PATH_INFO each in their own way, so that
    `/%68ealth` or `//health` could be taken for a probe. A path that is no
    rule's own, letter for letter, is forwarded.
    """

    def __init__(self, app: Flask, inbound: InboundRequest) -> None:
        super().__init__(app.url_map, "", "/", "", "http", "/", inbound.method, None)
        # The forwarding view responds to what cannot be read.
        self._path = "" if inbound.malformed else inbound.path

    def match(self, *_: Any, **__: Any) -> tuple[Rule, dict[str, Any]]:
        """Return the rule to serve; Flask asks for the rule itself."""
        for rule in self.map.iter_rules():
            if (
                rule.rule == self._path
                and rule.methods is not None
                and self.default_method in rule.methods
            ):
                return rule, {}
        return next(self.map.iter_rules(FORWARD)), {}


class ProxyRequest(Request):
    """A Flask request with the inbound request that the proxy goes by."""

    def __init__(self, environ: WSGIEnvironment, *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        self.inbound = InboundRequest.of(environ)

    @cached_property
    def url(self) -> str:
        """The raw request target: Werkzeug would decode it, and `/%68ealth` look like a probe."""
        return self.inbound.raw_target


class ProxyApp(Flask):
    """A Flask application that routes by the raw request target.

    What is forwarded passes by Flask's contexts, unless something looks at them: a hook, a
    receiver of a signal, another view in the place of ours.
    """

    request_class = ProxyRequest

    #: Whether Flask has served a request: it takes no further views and hooks from then on.
    _set_up = False

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what matches the request to a view."""
        if isinstance(request, ProxyRequest):
            return RawTargetAdapter(self, request.inbound)
        return super().create_url_adapter(request)

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        inbound = InboundRequest.of(environ)
        view = self.view_functions[FORWARD]
        if not (isinstance(view, ForwardingView) and self._is_bare(inbound, environ)):
            started = super().wsgi_app(environ, start_response)
            self._set_up = True
            return started
        try:
            response = view.forward(inbound)
        except Exception as error:  # noqa: BLE001  # Flask logs and responds, or raises it
            with self.request_context(environ):
                response = self._response_to(error)
        return response(environ, start_response)

    def _is_bare(self, inbound: InboundRequest, environ: WSGIEnvironment) -> bool:
        """Whether a request is forwarded, and nothing looks at Flask's contexts for it."""
        return (
            self._set_up
            and not self._has_hooks
            and not any(signal.receivers for signal in _SIGNALS)
            and (inbound.malformed or inbound.path not in self._own_paths)
            and "werkzeug.debug.preserve_context" not in environ  # Flask's test client
        )

    @cached_property
    def _has_hooks(self) -> bool:
        hooks = self.before_request_funcs, self.after_request_funcs, self.teardown_request_funcs
        return any([*hooks, self.url_value_preprocessors, self.teardown_appcontext_funcs])

    @cached_property
    def _own_paths(self) -> frozenset[str]:
        """The paths of views; whether these take the method too is for the adapter to say."""
        return frozenset(r.rule for r in self.url_map.iter_rules() if r.endpoint != FORWARD)

    def _response_to(self, error: Exception) -> Response:
        """Return the response to what the view has raised, as Flask does around a view."""
        try:
            return self.finalize_request(self.handle_user_exception(error))
        except Exception as bug:  # noqa: BLE001  # as above
            return self.handle_exception(bug)
