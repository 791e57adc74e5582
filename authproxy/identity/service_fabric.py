"""The managed identity of a Service Fabric application.

MSAL sends this request on a session of its own, which has neither a timeout nor
a bound, and which goes through HTTPS_PROXY (seen with 1.39). So it is sent from
here. The protocol:
https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code
"""

from __future__ import annotations

import os
import re
import ssl
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AccessTokenInfo
from azure.identity import CredentialUnavailableError
from requests import PreparedRequest, Response

from authproxy.identity.http_transport import DirectAdapter, IdentitySession, SessionCredential
from authproxy.identity.provenance import SERVICE_FABRIC

if TYPE_CHECKING:
    from azure.core.credentials import TokenRequestOptions

_API_VERSION = "2019-07-01-preview"

#: SHA-1, as Service Fabric names certificates.
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}")


class ServiceFabricIdentity(SessionCredential):
    """A credential: the identity that the cluster's configuration gives to the application.

    The endpoint is known by the thumbprint of its certificate, and by that alone.
    """

    def __init__(self, session: IdentitySession) -> None:
        super().__init__(session)
        self._endpoint, self._secret, thumbprint = (os.environ[name] for name in SERVICE_FABRIC)
        self._thumbprint = re.sub(r"[\s:]", "", thumbprint)

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Return a token. Raises CredentialUnavailableError, and what requests raises."""
        if not _THUMBPRINT.fullmatch(self._thumbprint):
            raise CredentialUnavailableError("IDENTITY_SERVER_THUMBPRINT is no SHA-1 thumbprint")
        if not self._endpoint.startswith("https://"):
            raise CredentialUnavailableError("IDENTITY_ENDPOINT of Service Fabric is not https")
        self.session.mount(self._endpoint, _PinnedAdapter(self.session, self._thumbprint))
        response = self.session.get(
            self._endpoint,
            params={"api-version": _API_VERSION, "resource": scopes[0].removesuffix("/.default")},
            headers={"Secret": self._secret},
            allow_redirects=False,  # the secret goes nowhere else
        )
        if response.status_code != 200:
            raise CredentialUnavailableError("Service Fabric gave no token")
        content = response.json()
        return AccessTokenInfo(content["access_token"], int(content["expires_on"]))


class _PinnedAdapter(DirectAdapter):
    """Trusts the certificate with this thumbprint, by whichever authority."""

    def __init__(self, session: IdentitySession, thumbprint: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__(session.budget, context, assert_fingerprint=thumbprint)

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        kwargs["verify"] = False  # by authorities; the thumbprint is verified all the same
        return super().send(request, *args, **kwargs)
