"""Refusals of the v2.0 token endpoint, in the form in which Entra sends them."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone

from authproxy.demo.stand_ins.loopback import Response


class Refusal(Exception):
    """A token request that Entra would not grant.

    `code` is the number behind AADSTS, `error` the OAuth error (RFC 6749
    section 5.2) that comes with it.
    """

    def __init__(self, code: int, error: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.error = error
        self.status = status

    def answer(self, now: float, correlation_id: str | None = None) -> Response:
        """Return the response; `now` is in epoch seconds."""
        trace_id = str(uuid.uuid4())
        correlation_id = correlation_id or str(uuid.uuid4())
        timestamp = f"{datetime.fromtimestamp(now, timezone.utc):%Y-%m-%d %H:%M:%SZ}"
        description = (
            f"AADSTS{self.code}: {self} Trace ID: {trace_id} "
            f"Correlation ID: {correlation_id} Timestamp: {timestamp}"
        )
        return Response.of_json(
            self.status,
            {
                "error": self.error,
                "error_description": description,
                "error_codes": [self.code],
                "timestamp": timestamp,
                "trace_id": trace_id,
                "correlation_id": correlation_id,
                "error_uri": f"https://login.microsoftonline.com/error?code={self.code}",
            },
        )


def tenant_not_found(tenant: str) -> Refusal:
    return Refusal(
        90002,
        "invalid_request",
        f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are "
        "signing into the correct cloud. Check with your subscription administrator, this may "
        "happen if there are no active subscriptions for the tenant.",
    )


def application_not_found(client_id: str, tenant: str) -> Refusal:
    return Refusal(
        700016,
        "unauthorized_client",
        f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. "
        "This can happen if the application has not been installed by the administrator of the "
        "tenant or consented to by any user in the tenant. You may have sent your authentication "
        "request to the wrong tenant.",
    )


def resource_not_found(resource: str, tenant: str) -> Refusal:
    return Refusal(
        500011,
        "invalid_resource",
        f"The resource principal named {resource} was not found in the tenant named {tenant}. "
        "This can happen if the application has not been installed by the administrator of the "
        "tenant or consented to by any user in the tenant. You might have sent your "
        "authentication request to the wrong tenant.",
    )


def scope_without_default(scope: str) -> Refusal:
    return Refusal(
        1002012,
        "invalid_scope",
        f"The provided value for scope {scope} is not valid. Client credential flows must have a "
        "scope value with /.default suffixed to the resource identifier (application ID URI).",
    )


def unsupported_grant(grant_type: str) -> Refusal:
    return Refusal(
        70003,
        "unsupported_grant_type",
        f"The app requested an unsupported grant type '{grant_type}'.",
    )


def no_credential() -> Refusal:
    return Refusal(
        7000216,
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is required for the "
        "'client_credentials' grant type.",
        401,
    )


def invalid_secret(client_id: str) -> Refusal:
    return Refusal(
        7000215,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the "
        f"client secret value, not the client secret ID, for a secret added to app '{client_id}'.",
        401,
    )


def invalid_assertion_signature(client_id: str, reason: str, thumbprint: str) -> Refusal:
    return Refusal(
        700027,
        "invalid_client",
        f"The certificate with identifier used to sign the client assertion is not registered on "
        f"application. [Reason - {reason}, Thumbprint of key used by client: '{thumbprint}', "
        "Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured "
        f"keys for app Id '{client_id}'.]",
        401,
    )


def assertion_audience_mismatch(audience: object) -> Refusal:
    return Refusal(
        700023,
        "invalid_client",
        f"Client assertion audience claim does not match Realm issuer. Audience: '{audience}'.",
        401,
    )


def assertion_names_another(client_id: str) -> Refusal:
    return Refusal(
        700021,
        "invalid_client",
        f"Client assertion application identifier doesn't match 'client_id' parameter "
        f"'{client_id}'.",
        401,
    )


def assertion_out_of_time() -> Refusal:
    return Refusal(
        700024,
        "invalid_client",
        "Client assertion is not within its valid time range.",
        401,
    )


def malformed_assertion() -> Refusal:
    return Refusal(50027, "invalid_request", "JWT token is invalid or malformed.")


def no_matching_federation(issuer: object, subject: object, audience: object) -> Refusal:
    return Refusal(
        70021,
        "invalid_client",
        "No matching federated identity record found for presented assertion. Assertion Issuer: "
        f"'{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'. "
        "https://learn.microsoft.com/entra/workload-id/workload-identity-federation",
        401,
    )
