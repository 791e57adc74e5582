"""What proves an identity in place of a secret: a token of somebody whom Entra trusts for it."""

from __future__ import annotations

from authproxy.identity.entra_errors import FEDERATION_CODES, Explanation
from authproxy.settings import Settings

#: What a managed identity's token is for that proves an application, by Entra's host:
#: https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity
_EXCHANGE = "api://AzureADTokenExchange"
_EXCHANGES = {
    "https://login.microsoftonline.us": f"{_EXCHANGE}USGov",
    "https://login.chinacloudapi.cn": f"{_EXCHANGE}China",
    "https://login.partner.microsoftonline.cn": f"{_EXCHANGE}China",
}


def exchange_scope(authority: str | None) -> str:
    """Return the scope of a managed identity's token that proves an application in this cloud."""
    return f"{_EXCHANGES.get(authority or '', _EXCHANGE)}/.default"


def of_federation(explanation: Explanation | None, settings: Settings) -> Explanation | None:
    """Return what an explanation means where it is not a service account's token that was refused.

    The others are returned as they are.
    """
    if explanation is None or explanation.code not in FEDERATION_CODES:
        return explanation
    if settings.identity_type == "aadapplication" and settings.aad_federated_identity:
        audience = exchange_scope(settings.aad_authority_host).removesuffix("/.default")
        return Explanation(
            explanation.code,
            "The application has no federated credential that fits the managed identity of "
            "AAD_FEDERATED_IDENTITY",
            "Add one to the application: as issuer the identity's tenant, as subject its object id "
            f"and as audience {audience}",
            ("az ad app federated-credential list --id $AAD_CLIENT_ID",),
        )
    return explanation
