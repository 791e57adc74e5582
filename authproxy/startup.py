"""What is said at the start, however the proxy is served."""

from __future__ import annotations

import logging

from authproxy import logs
from authproxy.settings import Settings

log = logging.getLogger(__name__)


def announce(settings: Settings) -> None:
    """Set up the log, write the settings in force to it, and warn of what is unsafe."""
    logs.configure(settings)
    # Letter for letter what the retired proxy wrote.
    log.info("Configuration settings loaded:", extra={"fields": settings.effective()})
    if settings.target.scheme == "http":
        log.warning(
            "Tokens travel in clear: TARGET_ALLOW_HTTP is set and the target is http",
            extra={"fields": {"Target": str(settings.target)}},
        )
