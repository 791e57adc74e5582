"""What is said at the start, however the proxy is served."""

from __future__ import annotations

import logging

from authproxy import logs
from authproxy.secret_files import open_secret_files
from authproxy.settings import Loaded, Settings

log = logging.getLogger(__name__)


def announce(loaded: Loaded) -> None:
    """Set up the log, write the settings in force to it, and warn of what is unsafe."""
    settings = loaded.settings
    logs.configure(settings)
    # Letter for letter what the retired proxy wrote.
    log.info("Configuration settings loaded:", extra={"fields": settings.effective()})
    tell_routes(settings)
    for file in open_secret_files(loaded):
        log.warning(
            "Every user of this machine can get at a secret: take the file's permissions "
            "for others away (chmod o=)",
            extra={"fields": {"Setting": file.setting, "Path": file.path, "Mode": file.mode}},
        )


def tell_routes(settings: Settings) -> None:
    """Write the routes to the log, if there are several, and warn of what is unsafe."""
    for route in settings.routes:
        if settings.has_routes:
            log.info("Route:", extra={"fields": route.shown()})
        if route.settings.target.scheme == "http":
            log.warning(
                "Tokens travel in clear: TARGET_ALLOW_HTTP is set and the target is http",
                extra={"fields": {"Target": str(route.settings.target)}},
            )
