"""From settings to a credential: the one place that knows azure-identity's classes.

Where a class sends requests outside of the session that it is given, a credential of
this package takes its place, so that the session's budget holds for every fetch.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

from azure.core.credentials import SupportsTokenInfo
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import (
    AzureCliCredential,
    AzureDeveloperCliCredential,
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    DefaultAzureCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from authproxy.errors import CredentialError
from authproxy.identity.bounded_fetch import FETCH_SECONDS
from authproxy.identity.command_line import AzureCLI, AzureDeveloperCLI
from authproxy.identity.federation import exchange_scope
from authproxy.identity.http_transport import IdentitySession
from authproxy.identity.provenance import on_service_fabric
from authproxy.identity.rotation import RotatingCertificate
from authproxy.identity.service_fabric import ServiceFabricIdentity
from authproxy.identity.token_proxy import TokenProxyAdapter
from authproxy.settings import Settings
from authproxy.settings.token_proxy import TokenProxy

#: Seconds for a connection. Entra takes one within a tenth; the rest is the budget's.
CONNECT_SECONDS = 10


def credential_for(
    settings: Settings, certificate: RotatingCertificate | None, session: IdentitySession
) -> SupportsTokenInfo:
    """Return a new credential of the settings' identity, which sends its requests on this session.

    Raises CredentialError, and whatever the classes of azure-identity raise.
    """
    match settings.identity_type:
        case "systemassigned":
            return _managed_identity(session)
        case "userassigned":
            return _managed_identity(session, **_user_assigned(settings))
        case "aadapplication":
            return _application(settings, certificate, session)
        case "workloadidentity":
            return _workload_identity(settings, session)
        case "azurecli":
            return AzureCLI(session, settings.aad_tenant_id or "")
        case "default":
            return _default(settings, session)


def _user_assigned(settings: Settings) -> dict[str, Any]:
    others = {"resource_id": settings.aad_resource_id, "object_id": settings.aad_object_id}
    for name, given in others.items():
        if given:
            return {"identity_config": {name: given}}
    return {"client_id": settings.aad_client_id}


def _application(
    settings: Settings, certificate: RotatingCertificate | None, session: IdentitySession
) -> SupportsTokenInfo:
    who = {**_whom(settings), **_authority(settings, session)}
    if which := settings.aad_federated_identity:
        ids = {} if which == "systemassigned" else {"client_id": which}
        proof = _managed_identity(session, **ids)
        scope = exchange_scope(settings.aad_authority_host)
        return ClientAssertionCredential(func=lambda: proof.get_token_info(scope).token, **who)
    if certificate is None:
        secret = settings.revealed(Settings.aad_client_secret) or ""
        session.sent.append(secret)  # the class may quote it before it is sent
        return ClientSecretCredential(client_secret=secret, **who)
    return CertificateCredential(
        certificate_data=certificate.current().data,
        # x5c, for applications that trust a subject and issuer rather than a thumbprint.
        send_certificate_chain=True,
        **who,
    )


def _workload_identity(settings: Settings, session: IdentitySession) -> SupportsTokenInfo:
    if proxy := TokenProxy.of(os.environ):
        session.mount("https://", TokenProxyAdapter(session, proxy))
    return WorkloadIdentityCredential(
        token_file_path=settings.aad_federated_token_file,
        **_whom(settings),
        **_authority(settings, session),
    )


def _default(settings: Settings, session: IdentitySession) -> SupportsTokenInfo:
    given: dict[str, Any] = {}
    # Absent is not None here: the class has defaults of its own from the environment.
    if settings.aad_client_id:
        given["managed_identity_client_id"] = settings.aad_client_id
    if settings.aad_tenant_id:
        given["workload_identity_tenant_id"] = settings.aad_tenant_id
    # The chain that the retired proxy's SDK had: environment, workload identity, managed
    # identity, az, azd. Nothing that opens a window or reads a desktop's caches.
    chain = DefaultAzureCredential(
        exclude_interactive_browser_credential=True,
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_powershell_credential=True,
        exclude_broker_credential=True,
        **given,
        **_authority(settings, session),
    )
    chain.credentials = tuple(_bounded(each, session) for each in chain.credentials)
    return chain


def _whom(settings: Settings) -> dict[str, Any]:
    return {"tenant_id": settings.aad_tenant_id, "client_id": settings.aad_client_id}


def _authority(settings: Settings, session: IdentitySession) -> dict[str, Any]:
    """Return the options of what asks Entra itself.

    The operator chooses the host. Instance discovery would ask the public cloud
    about it first, which disconnected clouds and private endpoints cannot reach.
    """
    return {
        **_common(session),
        "authority": settings.aad_authority_host,
        "disable_instance_discovery": True,
    }


def _managed_identity(session: IdentitySession, **which: Any) -> SupportsTokenInfo:
    """Return the credential of the machine's identity, or of `which` user-assigned one.

    Without the last option the class becomes the service account's federated identity where
    the variables of the workload identity webhook are set (seen with azure-identity 1.27).
    """
    if not on_service_fabric():
        return ManagedIdentityCredential(
            **which, **_common(session), _exclude_workload_identity_credential=True
        )
    if which:
        raise CredentialError(
            "On Service Fabric the cluster's configuration chooses the identity: name none, and "
            "set IDENTITY_TYPE (or AAD_FEDERATED_IDENTITY) to systemAssigned"
        )
    return ServiceFabricIdentity(session)


def _common(session: IdentitySession) -> dict[str, Any]:
    """Return the options of every class that sends requests."""
    return {
        "transport": RequestsTransport(
            session=session,
            connection_timeout=CONNECT_SECONDS,
            read_timeout=FETCH_SECONDS,
        ),
        "retry_total": 0,
        # One that azure-core makes itself is of version 1, for which the system's library
        # keeps a file open in each thread.
        "request_id": str(uuid.uuid4()),
    }


def _bounded(credential: Any, session: IdentitySession) -> Any:
    """Return what keeps to the budget, in place of a credential that does not."""
    if isinstance(credential, AzureCliCredential):
        return AzureCLI(session)
    if isinstance(credential, AzureDeveloperCliCredential):
        return AzureDeveloperCLI(session)
    if isinstance(credential, ManagedIdentityCredential) and on_service_fabric():
        return ServiceFabricIdentity(session)
    return credential
