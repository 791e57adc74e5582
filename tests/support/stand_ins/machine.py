"""The responses of managed identity endpoints: App Service's, and virtual machines' (IMDS)."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from authproxy.demo.stand_ins.directory import new_id
from authproxy.demo.stand_ins.loopback import Request, Response
from authproxy.demo.stand_ins.managed_identity import (
    APP_SERVICE_PATH,
    IssuedToken,
    app_service_error,
    granted,
)

#: What a token is for that proves an application.
TOKEN_EXCHANGE = "api://AzureADTokenExchange"

_GROUP = "/subscriptions/00000000-0000-4000-8000-00000000bbbb/resourceGroups/group/providers"
MACHINE = f"{_GROUP}/Microsoft.Compute/virtualMachines/machine"

#: Below the host that AZURE_POD_IDENTITY_AUTHORITY_HOST names.
IMDS_PATH = "/metadata/identity/oauth2/token"

#: By which parameters a request chooses an identity: endpoints name them differently.
_SELECTORS = {
    "client_id": "client_id",
    "object_id": "object_id",
    "principal_id": "object_id",
    "msi_res_id": "resource_id",
    "mi_res_id": "resource_id",
}


@dataclass(frozen=True)
class ManagedIdentity:
    """An identity that Azure assigns to a machine, a user-assigned one unless told otherwise."""

    client_id: str = field(default_factory=new_id)
    object_id: str = field(default_factory=new_id)
    #: For a system-assigned one, the machine's.
    resource_id: str = field(
        default_factory=lambda: (
            f"{_GROUP}/Microsoft.ManagedIdentity/userAssignedIdentities/{new_id()}"
        )
    )


@dataclass(frozen=True)
class Machine:
    """The identities of a machine, when it is asked."""

    system_assigned: ManagedIdentity | None
    user_assigned: Mapping[str, ManagedIdentity]
    #: What its App Service endpoint is sent by those that may ask.
    header: str
    resources: frozenset[str]
    #: Makes a token for a resource and an identity.
    issue: Callable[[str, ManagedIdentity], IssuedToken]

    def respond(self, request: Request) -> Response:
        """Return the response of the endpoint."""
        path = request.path.rstrip("/")
        if path == APP_SERVICE_PATH and request.method == "GET":
            return self._app_service(request)
        if path == IMDS_PATH and request.method == "GET":
            return self._imds(request)
        return app_service_error(404, "Not found.")

    def _chosen(self, request: Request) -> ManagedIdentity | None:
        """Return the identity that a request is for, if the machine has it."""
        for parameter, attribute in _SELECTORS.items():
            asked = request.query.get(parameter)
            if asked is not None:
                of_all = self.user_assigned.values()
                fits = (one for one in of_all if getattr(one, attribute).lower() == asked.lower())
                return next(fits, None)
        return self.system_assigned

    def _app_service(self, request: Request) -> Response:
        """Api-version 2019-08-01."""
        given = request.headers.get("X-IDENTITY-HEADER", "")
        if not hmac.compare_digest(given.encode(), self.header.encode()):
            return app_service_error(401, "The X-IDENTITY-HEADER is missing or wrong.")
        if request.query.get("api-version") != "2019-08-01":
            return app_service_error(400, "The api-version is not supported.")
        identity = self._chosen(request)
        if identity is None and _SELECTORS.keys() & request.query.keys():
            return app_service_error(
                400,
                "No User Assigned or Delegated Managed Identity found for specified "
                "ClientId/ResourceId/PrincipalId.",
            )
        if identity is None:
            return app_service_error(400, "Unable to load requested managed identity.")
        resource = request.query.get("resource", "")
        if resource.rstrip("/") not in self.resources:
            return app_service_error(
                500, "An unexpected error occured while fetching the AAD Token."
            )
        return granted(resource, identity.client_id, self.issue(resource, identity))

    def _imds(self, request: Request) -> Response:
        """Api-version 2018-02-01. A request need not name the only user-assigned identity."""
        if request.headers.get("Metadata", "").lower() != "true":
            return _imds_error("Required metadata header not specified")
        identity = self._chosen(request)
        if identity is None and not _SELECTORS.keys() & request.query.keys():
            if len(self.user_assigned) > 1:
                return _imds_error(
                    "Multiple user assigned identities exist, please specify the clientId / "
                    "resourceId of the identity in the token request"
                )
            identity = next(iter(self.user_assigned.values()), None)
        if identity is None:
            return _imds_error("Identity not found")
        resource = request.query.get("resource", "")
        if resource.rstrip("/") not in self.resources:
            return _imds_error(
                f"AADSTS500011: The resource principal named {resource} was not found"
            )
        token = self.issue(resource, identity)
        lifetime = str(token.claims["exp"] - token.claims["iat"])
        return granted(resource, identity.client_id, token, expires_in=lifetime)


def _imds_error(description: str) -> Response:
    return Response.of_json(400, {"error": "invalid_request", "error_description": description})
