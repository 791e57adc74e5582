"""The settings of the identity whose tokens are sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, get_args

from authproxy.errors import CredentialError, Fault, SettingsError, Unusable
from authproxy.files.secret import Secret, read_secret
from authproxy.http1.urls import TargetURL
from authproxy.redaction import MASK
from authproxy.settings import audiences
from authproxy.settings.declaration import Group, OneOf, Required, Setting, derived, rule
from authproxy.settings.kinds import FilePath, Integer, SecretText, Text, Word
from authproxy.settings.rules import Draft
from authproxy.settings.target import TargetSettings, host_of
from authproxy.settings.token_proxy import TokenProxy

if TYPE_CHECKING:
    from authproxy.files.certificates import ClientCertificate

IdentityType = Literal[
    "default",
    "systemassigned",
    "userassigned",
    "aadapplication",
    "workloadidentity",
    "azurecli",
]

#: The webhook of workload identity names the token's file here, and moves it at will.
_WEBHOOKS_FILE = "AZURE_FEDERATED_TOKEN_FILE"


#: Of a user-assigned managed identity; Azure compares such ids without regard to case.
_RESOURCE_ID = re.compile(
    "/subscriptions/[^/]+/resourcegroups/[^/]+/providers/microsoft[.]managedidentity"
    "/userassignedidentities/[^/]+",
    re.IGNORECASE,
)


def identifier(text: str) -> str:
    """Take what azure-identity takes for a tenant; client ids are GUIDs and fit as well."""
    if text.startswith("/"):
        raise Unusable("it is a resource id", "Put a resource id into AAD_RESOURCE_ID.")
    if not re.fullmatch("[0-9A-Za-z.-]+", text):
        raise ValueError("it has characters that no such id has")
    return text


def resource_id(text: str) -> str:
    """Take the resource id of a user-assigned managed identity."""
    if not _RESOURCE_ID.fullmatch(text):
        raise ValueError("it is not the resource id of a user-assigned managed identity")
    return text


def federated_identity(text: str) -> str:
    """Take `systemAssigned`, in any case, or a client id; return the word in small letters."""
    if not re.fullmatch("[0-9A-Za-z.-]+", text):
        raise ValueError("it is no client id")
    return text.lower() if text.lower() == "systemassigned" else text


def authority(text: str) -> str:
    """Take the host, or https:// URL, of an Entra ID endpoint; return its URL."""
    if re.match(r"http://", text, re.IGNORECASE):
        raise ValueError("it is http, and secrets must not travel in clear")
    url = TargetURL.parse(text)
    if url.path not in ("", "/") or url.query:
        raise ValueError("it has a path or a query")
    return url.origin


_ID = Text(identifier, "Copy it from the Azure portal: letters, digits, '-' and '.' only.")

#: Those that an application's registration, or a workload's, cannot do without.
_REGISTERED = ("aadapplication", "workloadidentity")


class IdentitySettings(TargetSettings, group=Group.IDENTITY):
    """Whose token to send, and how to get it."""

    identity_type = Setting(
        Word[IdentityType](*get_args(IdentityType)),
        "default",
        "Whose token to send: systemassigned or userassigned (managed identities), aadapplication "
        "(a certificate, secret or federated identity), workloadidentity (Kubernetes), azurecli "
        "(the user of az login), default (tries them as azure-identity's "
        "DefaultAzureCredential does). Case does not matter.",
    )
    aad_client_id = Setting(
        _ID,
        None,
        "Client id of the identity. For userassigned exactly one of it, AAD_RESOURCE_ID and "
        "AAD_OBJECT_ID.",
        also=("AZURE_CLIENT_ID",),
        required=Required("Set it to the identity's client id", identity_type, _REGISTERED),
    )
    aad_resource_id = Setting(
        Text(
            resource_id,
            "Copy it from the identity's properties in the Azure portal: /subscriptions/.../"
            "providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME.",
        ),
        None,
        "For userassigned: the identity's resource id, which is known before the identity is made.",
    )
    aad_object_id = Setting(
        _ID,
        None,
        "For userassigned: the identity's object id, which the portal also calls principal id.",
    )
    user_assigned: OneOf[Any] = OneOf(
        aad_client_id,
        aad_resource_id,
        aad_object_id,
        hint="Keep one of them.",
        required=Required(
            "Set it to the identity's client id (AZURE_CLIENT_ID will do as well), or set "
            "AAD_RESOURCE_ID or AAD_OBJECT_ID",
            where=identity_type,
            values=("userassigned",),
            because="a machine may have several identities",
        ),
    )
    aad_tenant_id = Setting(
        _ID,
        None,
        "Tenant id of the identity.",
        also=("AZURE_TENANT_ID",),
        required=Required("Set it to the identity's tenant id", identity_type, _REGISTERED),
    )
    aad_client_certificate_path = Setting(
        FilePath(private=True),
        None,
        "For aadapplication: PEM or PKCS#12 (.pfx) file, or base64 of one, with certificate, chain "
        "and RSA private key. The chain is sent along. A replaced file is used from the next "
        "refresh on.",
        also=("AZURE_CLIENT_CERTIFICATE_PATH",),
        chart_key="clientCertificate.key",
    )
    aad_client_certificate_key_path = Setting(
        FilePath(private=True),
        None,
        "PEM file of the private key, where the certificate's file does not hold it. A replaced "
        "file is used likewise.",
        needs=aad_client_certificate_path,
        chart_key="clientCertificate.privateKeyKey",
    )
    aad_client_certificate_password = Setting(
        SecretText(),
        None,
        "Password of an encrypted certificate file or private key.",
        also=("AZURE_CLIENT_CERTIFICATE_PASSWORD",),
        chart_key="clientCertificate.passwordKey",
    )
    aad_client_secret = Setting(
        SecretText(),
        None,
        "For aadapplication: the client secret. Exactly one of certificate, secret and federated "
        "identity.",
        also=("AZURE_CLIENT_SECRET",),
        chart_key="clientSecret.key",
    )
    aad_federated_identity = Setting(
        Text(federated_identity, "Give systemAssigned, or a user-assigned identity's client id."),
        None,
        "For aadapplication, in place of certificate and secret: the managed identity that the "
        "application trusts by a federated credential, systemAssigned or the client id of a "
        "user-assigned one. AAD_TENANT_ID may be another tenant than the identity's, where the "
        "application is known there.",
    )
    credential: OneOf[Any] = OneOf(
        aad_client_certificate_path,
        aad_client_secret,
        aad_federated_identity,
        hint="Keep one of them; a certificate is the safer one.",
        required=Required(
            "Set it, or AAD_CLIENT_SECRET_FILE, or AAD_FEDERATED_IDENTITY",
            where=identity_type,
            values=("aadapplication",),
            because="an application needs a certificate or a secret, or a federated identity",
        ),
    )
    aad_federated_token_file = Setting(
        FilePath(),
        None,
        "For workloadidentity: the file of the service account's token, which the webhook names by "
        "itself. For a route that is another workload: one with a token for its own issuer, "
        "subject and audience.",
        also=(_WEBHOOKS_FILE,),
    )
    aad_authority_host = Setting(
        Text(authority, "Give a host such as login.microsoftonline.us, or https:// and that host."),
        derived(
            TargetSettings.destination,
            lambda url: audiences.authority_for_host(host_of(url)),
            "by target",
        ),
        "Entra ID endpoint of another cloud. Unset, login.microsoftonline.us or "
        "login.chinacloudapi.cn where the target's host is in the US government's or China's "
        "cloud (azure.us, usgovcloudapi.net, azure.cn, chinacloudapi.cn and their kin), and the "
        "public cloud's elsewhere.",
        also=("AAD_HOST_ENDPOINT", "AZURE_AUTHORITY_HOST"),
    )
    aad_token_refresh_interval_in_percentage = Setting(
        Integer(1, 99),
        10,
        "Refresh a token when this share of its lifetime is left, in percent.",
    )

    def client_certificate(self) -> ClientCertificate:
        """Return the certificate with its key, from their files as they are now.

        Raises Unusable, or CredentialError where the password's file cannot be used.
        """
        # Here and not above: cryptography takes a while to load, and few need it.
        from authproxy.files.certificates import load_certificate

        return load_certificate(
            self.aad_client_certificate_path or "",
            self.revealed(IdentitySettings.aad_client_certificate_password),
            self.aad_client_certificate_key_path,
        )

    def naming(self, error: Unusable) -> str:
        """Return what is wrong with the client certificate, and with which setting."""
        return f"{error.setting}={self.effective()[error.setting]}: {error.sentences}"

    def revealed(self, one: Setting[Secret | None]) -> str | None:
        """Return a secret, from its file as it is now where one is named.

        Raises CredentialError where the file cannot be used (any more).
        """
        secret, file = one.value(self), one.file
        path = None if file is None else file.value(self)
        if secret is not None or file is None or path is None:
            return None if secret is None else secret.reveal()
        try:
            return read_secret(path)
        except Unusable as error:
            raise CredentialError(f"{file.variable}={path!r}: {error.sentences}") from None

    @rule(per_route=True)
    def federated_token(self, draft: Draft) -> Iterator[Fault]:
        """There is a token file, which is the webhook's unless a setting names another."""
        if self.identity_type != "workloadidentity":
            return
        one: Setting[str | None] = IdentitySettings.aad_federated_token_file
        path = one.value(self)
        problem = "IDENTITY_TYPE=workloadidentity needs this variable"
        try:
            if path:
                read_secret(path)
                return
        except Unusable as error:
            if draft.origins.get(one.variable) != f"environment ({_WEBHOOKS_FILE})":
                yield draft.fault(one, error.problem, error.hint)
                return
            problem = error.problem
        hint = (
            'Label the pod azure.workload.identity/use: "true" and give it the annotated service '
            "account, so that the webhook provides the file."
        )
        yield Fault(_WEBHOOKS_FILE, path or None, problem, hint)

    @rule(per_route=True)
    def token_proxy(self, draft: Draft) -> Iterator[Fault]:
        """Where there is a proxy of AKS identity bindings, it can be used."""
        if self.identity_type == "workloadidentity":
            try:
                TokenProxy.of(draft.environ)
            except SettingsError as error:
                yield from error.faults

    @rule(per_route=True)
    def usable_certificate(self, draft: Draft) -> Iterator[Fault]:
        """The client certificate loads, with its key and password, and is valid today."""
        if self.aad_client_certificate_path is None or self.identity_type != "aadapplication":
            return
        password = IdentitySettings.aad_client_certificate_password
        forms = {one.variable: one for form in password.forms for one in form}
        if draft.faulty & forms.keys():
            return  # the file can only be checked with its password
        try:
            self.client_certificate().require_valid(datetime.now(timezone.utc))
        except CredentialError:
            return  # the fault is that of the password's file
        except Unusable as error:
            if error.setting not in forms:
                yield draft.fault(self.declared[error.setting], error.problem, error.hint)
                return
            given = next((name for name in forms if name in draft.given), None)
            problem = f"{error.problem} ({self.aad_client_certificate_path})"
            yield Fault(given or error.setting, MASK if given else None, problem, error.hint)
