"""From settings to a credential: the one place that knows azure-identity's classes.

Where a class sends requests outside of the session that it is given, a credential of
this package takes its place, so that the session's budget holds for every fetch.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

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
from authproxy.identity.command_line import AZ, AZD, CommandLineIdentity
from authproxy.identity.federation import exchange_scope
from authproxy.identity.http_transport import IdentitySession
from authproxy.identity.provenance import on_service_fabric
from authproxy.identity.rotation import RotatingCertificate
from authproxy.identity.service_fabric import ServiceFabricIdentity
from authproxy.identity.token_proxy import TokenProxyAdapter
from authproxy.settings import Settings
from authproxy.settings.token_proxy import TokenProxy

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo, TokenRequestOptions

#: Seconds for a connection. Entra takes one within a tenth; the rest is the budget's.
CONNECT_SECONDS = 10


class Credential(AbstractContextManager["Credential"], Protocol):
    """What is needed of a credential of azure-identity."""

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo: ...


class CredentialMaker:
    """Makes the credentials of one identity, a new one for each fetch.

    `secret` is the client secret of the latest one, so that no error quotes it.
    """

    def __init__(self, settings: Settings, certificate: RotatingCertificate | None) -> None:
        self._settings = settings
        self._certificate = certificate
        self.secret: str | None = None
        self._makers: dict[str, Callable[[IdentitySession], object]] = {
            "systemassigned": self._system_assigned,
            "userassigned": self._user_assigned,
            "aadapplication": self._application,
            "workloadidentity": self._workload_identity,
            "azurecli": self._azure_cli,
            "default": self._default,
        }

    def make(self, session: IdentitySession) -> Credential:
        """Return a credential that sends its requests on this session.

        Raises CredentialError, and whatever the classes of azure-identity raise.
        """
        return cast(Credential, self._makers[self._settings.identity_type](session))

    def _authority(self, session: IdentitySession) -> dict[str, Any]:
        """Return the options of what asks Entra itself.

        The operator chooses the host. Instance discovery would ask the public cloud
        about it first, which disconnected clouds and private endpoints cannot reach.
        """
        return {
            **_common(session),
            "authority": self._settings.aad_authority_host,
            "disable_instance_discovery": True,
        }

    # One method for each identity type.

    def _system_assigned(self, session: IdentitySession) -> object:
        return _managed_identity(session)

    def _user_assigned(self, session: IdentitySession) -> object:
        settings = self._settings
        others = {"resource_id": settings.aad_resource_id, "object_id": settings.aad_object_id}
        for name, given in others.items():
            if given:
                return _managed_identity(session, identity_config={name: given})
        return _managed_identity(session, client_id=settings.aad_client_id)

    def _application(self, session: IdentitySession) -> object:
        settings = self._settings
        who: dict[str, Any] = {
            "tenant_id": settings.aad_tenant_id,
            "client_id": settings.aad_client_id,
            **self._authority(session),
        }
        if settings.aad_federated_identity:
            which = settings.aad_federated_identity
            ids = {} if which == "systemassigned" else {"client_id": which}
            proof = _managed_identity(session, **ids)
            scope = exchange_scope(settings.aad_authority_host)
            return ClientAssertionCredential(func=lambda: proof.get_token_info(scope).token, **who)
        if self._certificate is None:
            self.secret = settings.client_secret() or ""
            return ClientSecretCredential(client_secret=self.secret, **who)
        return CertificateCredential(
            certificate_data=self._certificate.current().data,
            # x5c, for applications that trust a subject and issuer rather than a thumbprint.
            send_certificate_chain=True,
            **who,
        )

    def _workload_identity(self, session: IdentitySession) -> object:
        if proxy := TokenProxy.of(os.environ):
            session.mount("https://", TokenProxyAdapter(session, proxy))
        return WorkloadIdentityCredential(
            token_file_path=self._settings.aad_federated_token_file,
            tenant_id=self._settings.aad_tenant_id,
            client_id=self._settings.aad_client_id,
            **self._authority(session),
        )

    def _azure_cli(self, session: IdentitySession) -> object:
        return CommandLineIdentity(AZ, session, self._settings.aad_tenant_id or "")

    def _default(self, session: IdentitySession) -> object:
        given: dict[str, Any] = {}
        # Absent is not None here: the class has defaults of its own from the environment.
        if self._settings.aad_client_id:
            given["managed_identity_client_id"] = self._settings.aad_client_id
        if self._settings.aad_tenant_id:
            given["workload_identity_tenant_id"] = self._settings.aad_tenant_id
        # The chain that the retired proxy's SDK had: environment, workload identity, managed
        # identity, az, azd. Nothing that opens a window or reads a desktop's caches.
        chain = DefaultAzureCredential(
            exclude_interactive_browser_credential=True,
            exclude_shared_token_cache_credential=True,
            exclude_visual_studio_code_credential=True,
            exclude_powershell_credential=True,
            exclude_broker_credential=True,
            **given,
            **self._authority(session),
        )
        chain.credentials = tuple(_bounded(each, session) for each in chain.credentials)
        return chain


def _managed_identity(session: IdentitySession, **which: Any) -> Credential:
    """Return the credential of the machine's identity, or of `which` user-assigned one.

    Without the last option the class becomes the service account's federated identity where
    the variables of the workload identity webhook are set (seen with azure-identity 1.27).
    """
    if not on_service_fabric():
        return cast(
            Credential,
            ManagedIdentityCredential(
                **which, **_common(session), _exclude_workload_identity_credential=True
            ),
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
        return CommandLineIdentity(AZ, session)
    if isinstance(credential, AzureDeveloperCliCredential):
        return CommandLineIdentity(AZD, session)
    if isinstance(credential, ManagedIdentityCredential) and on_service_fabric():
        return ServiceFabricIdentity(session)
    return credential
