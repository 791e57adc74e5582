"""The Flask application: requests that nothing looks at are forwarded without Flask's contexts."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import (
    Flask,
    Response,
    appcontext_popped,
    has_request_context,
    request_finished,
    request_started,
)

from authproxy.errors import InternalError, RequestError, TargetTimeout
from authproxy.http1.inbound_request import InboundRequest
from authproxy.proxy.blueprint import proxy_blueprint
from authproxy.proxy.flask_app import FORWARD, ProxyApp


class Forwarder:
    """Stands at the end of the application, and notes whether it was called within a context."""

    def __init__(self) -> None:
        self.contexts: list[bool] = []
        self.error: Exception | None = None

    def forward(self, request: InboundRequest) -> Response:
        self.contexts.append(has_request_context())
        if self.error is not None:
            raise self.error
        return Response(request.target, 200)


@pytest.fixture
def forwarder() -> Forwarder:
    return Forwarder()


@pytest.fixture
def app(forwarder: Forwarder) -> Flask:
    made = ProxyApp(__name__, static_folder=None)
    made.register_blueprint(proxy_blueprint(forwarder))  # type: ignore[arg-type]
    return made


def get(app: Flask, target: str = "/a%2Fb?c", **more: str) -> Any:
    environ = {"REQUEST_URI": target, **more}
    return app.test_client().get("/", environ_overrides=environ)


def forwarded_within_context(app: Flask, forwarder: Forwarder) -> bool:
    """Whether a request is that is not the application's first."""
    get(app)
    assert get(app).text == "/a%2Fb?c"
    return forwarder.contexts[-1]


def test_requests_behind_the_first_are_forwarded_without_contexts(
    app: Flask, forwarder: Forwarder
) -> None:
    assert [get(app).text for _ in range(3)] == ["/a%2Fb?c"] * 3
    assert forwarder.contexts == [True, False, False]


def hook_before(app: Flask, called: Callable[..., None]) -> None:
    app.before_request(called)


def hook_after(app: Flask, called: Callable[..., None]) -> None:
    def after(response: Response) -> Response:
        called()
        return response

    app.after_request(after)


def hook_teardown(app: Flask, called: Callable[..., None]) -> None:
    app.teardown_request(called)


def hook_app_teardown(app: Flask, called: Callable[..., None]) -> None:
    app.teardown_appcontext(called)


def hook_values(app: Flask, called: Callable[..., None]) -> None:
    app.url_value_preprocessor(called)


@pytest.mark.parametrize(
    "hook", [hook_before, hook_after, hook_teardown, hook_app_teardown, hook_values]
)
def test_a_hook_has_flasks_contexts_for_each_request(
    app: Flask, forwarder: Forwarder, hook: Callable[[Flask, Callable[..., None]], None]
) -> None:
    calls = []
    hook(app, lambda *_: calls.append(True))
    assert forwarded_within_context(app, forwarder)
    assert len(calls) == 2


@pytest.mark.parametrize("signal", [request_started, request_finished, appcontext_popped])
def test_a_receiver_of_a_signal_has_flasks_contexts_while_it_is_connected(
    app: Flask, forwarder: Forwarder, signal: Any
) -> None:
    assert not forwarded_within_context(app, forwarder)
    calls = []

    def receive(*_: object, **__: object) -> None:
        calls.append(True)

    with signal.connected_to(receive):
        assert forwarded_within_context(app, forwarder)
    assert len(calls) == 2
    assert not forwarded_within_context(app, forwarder)


def test_another_view_in_the_place_of_ours_is_called_as_flask_calls_it(
    app: Flask, forwarder: Forwarder
) -> None:
    app.view_functions[FORWARD] = partial(app.view_functions[FORWARD])
    assert forwarded_within_context(app, forwarder)


def test_views_of_ones_own_are_found_at_any_time(app: Flask, forwarder: Forwarder) -> None:
    app.add_url_rule("/own", view_func=lambda: f"own {has_request_context()}")
    for _ in range(2):
        assert get(app).text == "/a%2Fb?c"
        assert get(app, "/own?x").text == "own True"
        assert get(app, "/%6Fwn").text == "/%6Fwn"
        assert get(app, "/own", REQUEST_METHOD="PROPFIND").text == "/own"
    with pytest.raises(AssertionError, match="can no longer be called"):
        app.add_url_rule("/late", view_func=lambda: "")


@pytest.mark.parametrize("first", [True, False])
def test_errors_are_the_same_with_and_without_contexts(
    app: Flask, forwarder: Forwarder, first: bool
) -> None:
    if not first:
        get(app)
    for error, expected in (
        (TargetTimeout("too late"), TargetTimeout),
        (ZeroDivisionError("a bug"), InternalError),
    ):
        forwarder.error = error
        response = get(app, HTTP_X_REQUEST_ID="one")
        assert response.status_code == expected.status
        assert json.loads(response.text)["code"] == expected.__name__
        assert response.headers["X-Request-Id"] == "one"


def test_a_handler_of_ones_own_handles_an_error_within_a_context(
    app: Flask, forwarder: Forwarder
) -> None:
    app.register_error_handler(
        RequestError, lambda error: Response(f"mine {has_request_context()}", 418)
    )
    get(app)
    forwarder.error = TargetTimeout("too late")
    response = get(app)
    assert (response.status_code, response.text) == (418, "mine True")


def test_a_bug_is_raised_where_the_application_says_so(app: Flask, forwarder: Forwarder) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = True
    get(app)
    forwarder.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        get(app)


def test_a_client_that_keeps_the_context_gets_it(app: Flask) -> None:
    with app.test_client() as client:
        for _ in range(2):
            client.get("/", environ_overrides={"REQUEST_URI": "/kept"})
            assert has_request_context()
