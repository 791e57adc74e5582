"""For programs that make the application themselves."""

from __future__ import annotations

from flask import Flask

from authproxy.app import Services
from authproxy.errors import AuthProxyError


def services_of(app: Flask) -> Services:
    """Return what an application of `create_app` lives by.

    Its `start` begins to fetch tokens, and belongs into the process that
    serves; its `close` ends that. Raises AuthProxyError for another application.
    """
    services = app.extensions.get("authproxy")
    if not isinstance(services, Services):
        raise AuthProxyError(f"{app!r} was not made by authproxy.create_app")
    return services
