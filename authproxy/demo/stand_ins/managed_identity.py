"""A stand-in for App Service's managed identity endpoint, for an app with one identity.

It speaks to the real azure-identity. Tokens are JWTs that `signing_key.verify` accepts.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from authproxy.demo.stand_ins.directory import METRICS_INGESTION, METRICS_QUERY, TENANT, new_id
from authproxy.demo.stand_ins.loopback import Request, Response
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.demo.stand_ins.stand_in import StandIn

APP_SERVICE_PATH = "/msi/token"


@dataclass(frozen=True)
class IssuedToken:
    """A token that was handed out, with what it says."""

    value: str = field(repr=False)
    claims: dict[str, Any]


class ManagedIdentityEndpoint(StandIn):
    """The endpoint of one app, on a loopback port chosen by the system unless given.

    `resources` says what it gives tokens for; `lifetime` is that of tokens from now on, in
    seconds. `issued` has every token handed out.
    """

    def __init__(
        self,
        *,
        identity_port: int = 0,
        signing_key: SigningKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.tenant = TENANT
        self.lifetime: float = 3600
        self.resources = {METRICS_INGESTION, METRICS_QUERY}
        self.issued: list[IssuedToken] = []
        self.signing_key = signing_key or SigningKey()
        self._client_id, self._object_id = new_id(), new_id()
        self._identity_header = secrets.token_hex(16)
        self._clock = clock
        self._identity = self.listen(self._respond, port=identity_port)

    @property
    def identity_endpoint(self) -> str:
        """The managed identity endpoint's URL, as IDENTITY_ENDPOINT has it."""
        return self._identity.url + APP_SERVICE_PATH

    @property
    def issuer(self) -> str:
        """Who signs the tokens."""
        return f"https://sts.windows.net/{self.tenant}/"

    def managed_identity_environment(self) -> dict[str, str]:
        """Return the variables by which azure-identity finds the endpoint."""
        return {
            "IDENTITY_ENDPOINT": self.identity_endpoint,
            "IDENTITY_HEADER": self._identity_header,
        }

    def issue(
        self,
        resource: str,
        client_id: str,
        object_id: str,
        *,
        lifetime: float | None = None,
        **claims: Any,
    ) -> IssuedToken:
        """Return a new token for `resource`, without a request for it.

        `lifetime` in seconds (negative: expired already) goes before the
        general one; `claims` are added or replaced.
        """
        now = self._clock()
        content = {
            "aud": resource,
            "iss": self.issuer,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + (self.lifetime if lifetime is None else lifetime)),
            "appid": client_id,
            "azp": client_id,
            "idp": self.issuer,
            "idtyp": "app",
            "oid": object_id,
            "sub": object_id,
            "tid": self.tenant,
            "uti": base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
            "ver": "1.0",
            **claims,
        }
        token = IssuedToken(self.signing_key.sign(content), content)
        self.issued.append(token)
        return token

    def _respond(self, request: Request) -> Response:
        """Respond to a request of api-version 2019-08-01."""
        given = request.headers.get("X-IDENTITY-HEADER", "")
        if not hmac.compare_digest(given.encode(), self._identity_header.encode()):
            return app_service_error(401, "The X-IDENTITY-HEADER is missing or wrong.")
        resource = request.query.get("resource", "")
        if request.path != APP_SERVICE_PATH or resource.rstrip("/") not in self.resources:
            return app_service_error(404, "Not found.")
        token = self.issue(resource, self._client_id, self._object_id)
        return granted(resource, self._client_id, token)


def granted(resource: str, client_id: str, token: IssuedToken, **more: str) -> Response:
    """Return the response with a token for a resource."""
    content = {
        "access_token": token.value,
        "expires_on": str(token.claims["exp"]),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": client_id,
        **more,
    }
    return Response.of_json(200, content)


def app_service_error(status: int, message: str) -> Response:
    """Return a refusal in the form of App Service."""
    return Response.of_json(
        status, {"statusCode": status, "message": message, "correlationId": new_id()}
    )
