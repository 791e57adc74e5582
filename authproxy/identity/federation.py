"""What proves an identity in place of a secret: a token of somebody whom Entra trusts for it."""

from __future__ import annotations

import os

from authproxy.errors import Explanation
from authproxy.identity.entra_errors import FEDERATION_CODES
from authproxy.settings import Settings
from authproxy.settings.token_proxy import TOKEN_PROXY

#: What a managed identity's token is for that proves an application, by Entra's host:
#: https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity
_EXCHANGE = "api://AzureADTokenExchange"
_EXCHANGES = {
    "https://login.microsoftonline.us": f"{_EXCHANGE}USGov",
    "https://login.chinacloudapi.cn": f"{_EXCHANGE}China",
    "https://login.partner.microsoftonline.cn": f"{_EXCHANGE}China",
}

#: In a pod of an AKS identity binding, by identity type. AKS keeps the federated credential of a
#: binding itself: one for the service account's token as it is would not help, and use up one
#: of twenty. azure-identity's default chain does not use bindings.
_BINDING: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "workloadidentity": (
        "The identity binding does not let this service account be the identity",
        "See that this cluster has a binding to the identity of AAD_CLIENT_ID, and a ClusterRole "
        "with the verb use-managed-identity on that client id, bound to the service account; a "
        "federated credential for the service account is not what is missing",
        (
            "az aks identity-binding list --resource-group GROUP --cluster-name CLUSTER",
            "kubectl auth can-i use-managed-identity $AAD_CLIENT_ID.cid.wi.aks.azure.com "
            "--as system:serviceaccount:NAMESPACE:NAME",
        ),
    ),
    "default": (
        "IDENTITY_TYPE=default does not use the identity binding of this pod",
        "Set IDENTITY_TYPE=workloadIdentity",
        (),
    ),
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
    if settings.identity_type in _BINDING and os.environ.get(TOKEN_PROXY):
        return Explanation(explanation.code, *_BINDING[settings.identity_type])
    return explanation
