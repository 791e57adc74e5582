"""TLS for the connections that are opened here."""

from __future__ import annotations

import os
import ssl
from typing import Any

import certifi
from requests.adapters import HTTPAdapter

from authproxy.errors import Fault, SettingsError


def client_context(extra_ca_file: str | None = None) -> ssl.SSLContext:
    """Return the TLS context of all connections to the target.

    It trusts the system's authorities (SSL_CERT_FILE counts among them),
    certifi's, those of REQUESTS_CA_BUNDLE and of `extra_ca_file`. Raises
    SettingsError where a bundle cannot be read.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    bundles = {
        "certifi": certifi.where(),
        "REQUESTS_CA_BUNDLE": os.environ.get("REQUESTS_CA_BUNDLE"),
        "TARGET_CA_FILE": extra_ca_file,
    }
    for setting, path in bundles.items():
        if not path:
            continue
        try:
            if os.path.isdir(path):
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except OSError as error:
            mend = "Name a readable PEM file with CA certificates"
            raise SettingsError(
                [Fault(setting, path, f"cannot be loaded ({error})", mend)]
            ) from error
    return context


class ContextAdapter(HTTPAdapter):
    """Has `requests` use a TLS context as it is, also behind a proxy."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the context as it is; requests would load certifi into it each time."""
