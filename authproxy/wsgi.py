"""`application` for mod_wsgi and any other WSGI server.

The settings are read when the module is imported, so that a fault stops the
server at its start. The rest is made at the first request, in the process
that serves it: threads and pooled connections do not survive a fork.

Apache does not stop for a fault of an application. Under mod_wsgi `application`
exists in that case too, and responds to every request with what is wrong. And
as mod_wsgi imports it after the fork, in the process that will serve, tokens
are fetched from then on: a reload fails no request.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from authproxy.errors import SettingsError
from authproxy.server import apache

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from authproxy.settings import Loaded, Settings

log = logging.getLogger(__name__)

#: Seconds that a process of mod_wsgi waits for its first token. Requests wait
#: in its queue meanwhile, rather than being refused.
FIRST_TOKEN_SECONDS = 5.0


def _read_settings() -> Settings:
    from authproxy.app import announce
    from authproxy.settings import load_settings

    loaded = load_settings(serving=False)
    announce(loaded)
    if idle := _without_effect(loaded):
        log.warning(
            "Some settings have no effect here, only under `authproxy serve`",
            extra={"fields": {"Settings": ", ".join(idle)}},
        )
    # The processes here have no parent of ours that could open the port for all.
    return loaded.settings.replace(metrics_port=None)


def _without_effect(loaded: Loaded) -> list[str]:
    """Return the settings that are given though only `authproxy serve` uses them."""
    return [
        variable
        for variable, one in loaded.settings.declared.items()
        if one.only_serve and not loaded.origins[variable].startswith("default")
    ]


class _Application:
    """Makes the application at the first request and hands all of them to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._app: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return (self._app or self.make())(environ, start_response)

    def make(self, patience: float = 0.0) -> WSGIApplication:
        """Return the application, and wait up to `patience` seconds for its first tokens."""
        from authproxy.app import create_app

        with self._lock:
            if self._app is None:
                app = create_app(self._settings)
                services = app.extensions["authproxy"]
                services.start()
                atexit.register(services.close)  # sends the last telemetry
                services.routes.await_first_attempts(patience)
                self._app = app
            return self._app


def _hosted_by_mod_wsgi() -> WSGIApplication:
    try:
        apache.refuse_unfit_host()
        application = _Application(_read_settings())
        application.make(FIRST_TOKEN_SECONDS)
    except apache.HostError as error:
        sys.stderr.write(f"authproxy cannot start: {error}\n")
        return apache.refusing(f"the proxy is not configured: {error}")
    except SettingsError as error:
        _print_faults(error)
        return apache.refusing(
            "the proxy is not configured: its settings have faults, which Apache's error log has"
        )
    return apache.Framed(application)


def _hosted_by_any_server() -> WSGIApplication:
    try:
        return _Application(_read_settings())
    except SettingsError as error:
        _print_faults(error)
        raise


def _print_faults(error: SettingsError) -> None:
    sys.stderr.write(f"authproxy cannot start:\n{error}\n")


#: The WSGI application.
application: WSGIApplication = _hosted_by_mod_wsgi() if apache.hosted() else _hosted_by_any_server()
