"""Requests for tokens through the proxy of AKS identity bindings.

azure-identity has a transport for it (`enable_azure_proxy`) with a session of its own, which has
no bound, and which HTTPS_PROXY leads elsewhere. Here it is one more adapter of our session.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response

from authproxy.errors import CredentialError
from authproxy.identity.http_transport import DirectAdapter, IdentitySession
from authproxy.settings.token_proxy import TokenProxy


class TokenProxyAdapter(DirectAdapter):
    """Sends each request to the proxy, below whose path Entra's paths are."""

    def __init__(self, session: IdentitySession, proxy: TokenProxy) -> None:
        self._url = proxy.url.rstrip("/")
        try:
            # With authorities given, no others are trusted.
            context = ssl.create_default_context(cadata=proxy.authorities)
        except ssl.SSLError as error:
            raise CredentialError(
                f"The authorities of AZURE_KUBERNETES_TOKEN_PROXY cannot be used: {error}"
            ) from error
        named = {"server_hostname": proxy.server_name} if proxy.server_name else {}
        super().__init__(session.budget, context, **named)

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request for Entra to the proxy, and return the response."""
        redirected = request.copy()
        asked = urlsplit(str(request.url))
        redirected.url = f"{self._url}{asked._replace(scheme='', netloc='').geturl()}"
        return super().send(redirected, *args, **kwargs)
