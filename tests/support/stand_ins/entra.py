"""A stand-in Entra: managed identities over HTTP, the v2.0 endpoints over TLS.

It says no where the real one would, in the same words.
"""

from __future__ import annotations

import hmac
import json
import re
from pathlib import Path
from typing import Any

from authproxy.demo.stand_ins.certificates import EphemeralCertificate
from authproxy.demo.stand_ins.loopback import Request, Response
from authproxy.demo.stand_ins.managed_identity import ManagedIdentityEndpoint
from tests.support.signing import jwks_of
from tests.support.stand_ins import refusals
from tests.support.stand_ins.applications import Application, FederatedCredential, TokenIssuer
from tests.support.stand_ins.assertions import check_assertion
from tests.support.stand_ins.faults import FaultyStandIn
from tests.support.stand_ins.machine import MACHINE, TOKEN_EXCHANGE, Machine, ManagedIdentity

_V2_PATH = re.compile(
    r"/(?P<tenant>[^/]+)"
    r"/(?P<what>v2\.0/\.well-known/openid-configuration|oauth2/v2\.0/token|discovery/v2\.0/keys)"
)
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class StandInEntra(FaultyStandIn, ManagedIdentityEndpoint):
    """One tenant, on two loopback ports chosen by the system unless given.

    What tests turn, at any time:

    - `lifetime`: seconds that tokens live from now on.
    - `refresh_in`: seconds after which Entra asks for a refresh (v2.0 only).
    - `applications`, `user_assigned` (by client id), `system_assigned`,
      `resources`: who exists and for what; see `register` and `assign`.
    - the faults of FaultyStandIn. Token requests of both protocols have `/token` in
      their path, discovery has not.

    `issued` has every token handed out, `requests` every request.
    """

    def __init__(
        self,
        *,
        authority_port: int = 0,
        authority: EphemeralCertificate | None = None,
        **endpoint: Any,
    ) -> None:
        """`endpoint` is what ManagedIdentityEndpoint takes."""
        super().__init__(**endpoint)
        self.system_assigned: ManagedIdentity | None = ManagedIdentity(resource_id=MACHINE)
        self.user_assigned: dict[str, ManagedIdentity] = {}
        self.resources |= {TOKEN_EXCHANGE}
        self.refresh_in: float | None = None
        self.applications: dict[str, Application] = {}
        self.authority = authority or EphemeralCertificate()
        self._v2 = self.listen(
            self._answer_v2, port=authority_port, tls=self.authority.server_context()
        )

    @property
    def authority_host(self) -> str:
        """The v2.0 endpoints' base URL, as AAD_AUTHORITY_HOST has it."""
        return self._v2.url

    def register(self, application: Application) -> Application:
        """Add an app registration, or change the one with the same client id."""
        self.applications[application.client_id] = application
        return application

    def assign(self, identity: ManagedIdentity | None = None) -> ManagedIdentity:
        """Assign one more user-assigned identity to the machine."""
        identity = identity or ManagedIdentity()
        self.user_assigned[identity.client_id] = identity
        return identity

    def trust_in(self, identity: ManagedIdentity) -> FederatedCredential:
        """Return an application's trust in a managed identity of this tenant."""
        keys = TokenIssuer(self.issuer, self.signing_key.public_key)
        return FederatedCredential(keys, identity.object_id)

    def application_environment(self, application: Application, ca_file: Path) -> dict[str, str]:
        """Return the variables for an application, all but its proof of identity.

        Writes the CA of the v2.0 endpoints to `ca_file`.
        """
        return {
            "AAD_AUTHORITY_HOST": self.authority_host,
            "AAD_TENANT_ID": self.tenant,
            "AAD_CLIENT_ID": application.client_id,
            "REQUESTS_CA_BUNDLE": str(self.authority.write_bundle(ca_file)),
        }

    def machine_environment(self) -> dict[str, str]:
        """Return the variable by which azure-identity finds the endpoint of a virtual machine."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self._identity.url}

    def _respond(self, request: Request) -> Response:
        machine = Machine(
            self.system_assigned,
            self.user_assigned,
            self._identity_header,
            frozenset(self.resources),
            lambda resource, identity: self.issue(
                resource, identity.client_id, identity.object_id, xms_mirid=identity.resource_id
            ),
        )
        return machine.respond(request)

    def _answer_v2(self, request: Request) -> Response:
        path = _V2_PATH.fullmatch(request.path)
        if path is None:
            return Response(404)
        try:
            if path["tenant"] != self.tenant:
                raise refusals.tenant_not_found(path["tenant"])
            if path["what"].startswith("v2.0/"):
                return Response.of_json(200, self._discovery())
            if path["what"].startswith("discovery/"):
                return Response.of_json(200, jwks_of(self.signing_key))
            return self._answer_token(request)
        except refusals.Refusal as refusal:
            return refusal.answer(self._clock(), request.headers.get("client-request-id"))

    def _discovery(self) -> dict[str, Any]:
        tenant = f"{self.authority_host}/{self.tenant}"
        return {
            "issuer": f"{tenant}/v2.0",
            "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{tenant}/oauth2/v2.0/token",
            "jwks_uri": f"{tenant}/discovery/v2.0/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
        }

    def _answer_token(self, request: Request) -> Response:
        form = request.form
        if form.get("grant_type") != "client_credentials":
            raise refusals.unsupported_grant(form.get("grant_type", ""))
        client_id = form.get("client_id", "")
        application = self.applications.get(client_id)
        if application is None:
            raise refusals.application_not_found(client_id, self.tenant)
        self._authenticate(application, form)
        scope = form.get("scope", "")
        if not scope.endswith("/.default"):
            raise refusals.scope_without_default(scope)
        resource = scope.removesuffix("/.default")
        if resource.rstrip("/") not in self.resources:
            raise refusals.resource_not_found(resource, self.tenant)
        token = self.issue(
            resource,
            client_id,
            application.object_id,
            appidacr="1" if "client_secret" in form else "2",
            **_asked_for(asked_claims(request)),
        )
        lifetime = int(token.claims["exp"] - self._clock())
        content = {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token.value,
        }
        if self.refresh_in is not None:
            content["refresh_in"] = int(self.refresh_in)
        return Response.of_json(200, content, {"Cache-Control": "no-store"})

    def _authenticate(self, application: Application, form: dict[str, str]) -> None:
        if "client_secret" in form:
            given, expected = form["client_secret"], application.secret
            if expected is None or not hmac.compare_digest(given.encode(), expected.encode()):
                raise refusals.invalid_secret(application.client_id)
        elif form.get("client_assertion_type") == _JWT_BEARER and form.get("client_assertion"):
            discovery = self._discovery()
            audiences = frozenset((discovery["token_endpoint"], discovery["issuer"]))
            check_assertion(application, form["client_assertion"], audiences, self._clock())
        else:
            raise refusals.no_credential()


def asked_claims(request: Request) -> Any:
    """Return the JSON in the `claims` parameter of a token request, or None."""
    return json.loads(request.form.get("claims", "null"))


def _asked_for(claims: Any) -> dict[str, Any]:
    """Return what of a claims request shows in the token: the client's capabilities."""
    match claims:
        case {"access_token": {"xms_cc": {"values": [*capabilities]}}}:
            return {"xms_cc": capabilities}
    return {}
