"""`application` for mod_wsgi and any other WSGI server.

The settings are read when the module is imported, so that a fault stops the
server at its start. The rest is made at the first request, in the process
that serves it: threads and pooled connections do not survive a fork.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from authproxy.errors import AuthProxyError, SettingsError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from authproxy.settings import Settings

log = logging.getLogger(__name__)


def _refuse_sub_interpreter() -> None:
    """Raise AuthProxyError in a sub-interpreter of mod_wsgi, the default there.

    cryptography and pydantic cannot be loaded in one, and say so obscurely.
    """
    mod_wsgi = sys.modules.get("mod_wsgi")
    group = getattr(mod_wsgi, "application_group", "")
    if group:
        raise AuthProxyError(
            f"authproxy cannot run in the mod_wsgi sub-interpreter {group!r}: "
            "add `WSGIApplicationGroup %{GLOBAL}` to the Apache configuration"
        )


def _read_settings() -> Settings:
    from authproxy.settings import load_settings
    from authproxy.startup import announce

    try:
        loaded = load_settings(serving=False)
    except SettingsError as error:
        sys.stderr.write(f"authproxy cannot start:\n{error}\n")
        raise
    announce(loaded)
    settings = loaded.settings
    if settings.metrics_port is not None:
        # The processes here have no parent of ours that could open the port for all.
        log.warning("METRICS_PORT has no effect: only `authproxy serve` answers there")
        settings = settings.model_copy(update={"metrics_port": None})
    return settings


class _Application:
    """Makes the application at the first request and hands all of them to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._app: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return (self._app or self._made())(environ, start_response)

    def _made(self) -> WSGIApplication:
        from authproxy.app import create_app

        with self._lock:
            if self._app is None:
                app = create_app(self._settings)
                services = app.extensions["authproxy"]
                services.start()
                atexit.register(services.close)  # sends the last telemetry
                self._app = app
            return self._app


_refuse_sub_interpreter()

#: The WSGI application.
application: WSGIApplication = _Application(_read_settings())
