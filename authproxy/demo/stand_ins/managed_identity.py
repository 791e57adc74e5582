"""A stand-in for the managed identity endpoints of App Service and of virtual machines (IMDS).

It speaks to the real azure-identity and says no where the real one would, in
the same words. Tokens are JWTs that `signing_key.verify` accepts.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from authproxy.demo.stand_ins.directory import (
    MACHINE,
    METRICS_INGESTION,
    METRICS_QUERY,
    TENANT,
    TOKEN_EXCHANGE,
    ManagedIdentity,
)
from authproxy.demo.stand_ins.loopback import Request, Response
from authproxy.demo.stand_ins.machine import APP_SERVICE_PATH, Machine
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.demo.stand_ins.stand_in import StandIn


@dataclass(frozen=True)
class IssuedToken:
    """A token that was handed out, with what it says."""

    value: str = field(repr=False)
    claims: dict[str, Any]


class ManagedIdentityEndpoint(StandIn):
    """The endpoint of one machine, on a loopback port chosen by the system unless given.

    `system_assigned`, `user_assigned` (by client id) and `resources` say who gets tokens, and
    for what; `lifetime` is that of tokens from now on, in seconds. `issued` has every token
    handed out.
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
        self.system_assigned: ManagedIdentity | None = ManagedIdentity(resource_id=MACHINE)
        self.user_assigned: dict[str, ManagedIdentity] = {}
        self.resources = {METRICS_INGESTION, METRICS_QUERY, TOKEN_EXCHANGE}
        self.issued: list[IssuedToken] = []
        self.signing_key = signing_key or SigningKey()
        self._identity_header = secrets.token_hex(16)
        self._clock = clock
        self._identity = self.listen(self._managed_identity_response, port=identity_port)

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

    def machine_environment(self) -> dict[str, str]:
        """Return the variable by which azure-identity finds the endpoint of a virtual machine."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self._identity.url}

    def _managed_identity_response(self, request: Request) -> Response:
        def issue(resource: str, identity: ManagedIdentity) -> tuple[str, dict[str, Any]]:
            token = self.issue(
                resource,
                identity.client_id,
                identity.object_id,
                xms_mirid=identity.resource_id,
            )
            return token.value, token.claims

        machine = Machine(
            self.system_assigned,
            self.user_assigned,
            self._identity_header,
            frozenset(self.resources),
            issue,
        )
        return machine.respond(request)
