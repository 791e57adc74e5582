"""The settings of where requests go and under which identity; and how a setting is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
)
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from authproxy.errors import CredentialError
from authproxy.settings import audiences, values
from authproxy.urls import TargetURL

Text = Annotated[str, BeforeValidator(values.text)]
Identifier = Annotated[Text, AfterValidator(values.identifier)]
Secret = Annotated[SecretStr, BeforeValidator(values.secret)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
Timeout = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
IdentityType = Literal[
    "default",
    "systemassigned",
    "userassigned",
    "aadapplication",
    "workloadidentity",
    "azurecli",
]

TARGET, IDENTITY = "Where requests go", "Which identity"


def setting(
    group: str,
    default: Any,
    doc: str,
    *,
    secret: bool = False,
    also: Sequence[str] = (),
    shown: str = "",
) -> Any:
    """Declare a setting; `also` is read where it is unset, `shown` describes its default."""
    extra: JsonDict = {"group": group, "secret": secret, "also": list(also), "shown": shown}
    return Field(default=default, description=doc, json_schema_extra={"authproxy": extra})


def about(field: FieldInfo) -> Mapping[str, Any]:
    """Return what `setting` was told of a field, besides its default and doc."""
    extra = field.json_schema_extra
    told: Any = extra["authproxy"] if isinstance(extra, dict) else {}
    return dict(told)


class TargetSettings(BaseModel):
    """The first half of `model.Settings`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
        populate_by_name=True,
    )

    target_host: Annotated[Text, AfterValidator(values.target_host)] | None = setting(
        TARGET,
        None,
        "Host, host:port or URL to forward to. Always over https, whatever its scheme says, unless "
        "TARGET_ALLOW_HTTP. A path and a query in it are put in front of each request's, so that a "
        "whole metrics ingestion endpoint can be pasted.",
        shown="required, unless INGESTION_URL",
    )
    target_allow_http: bool = setting(
        TARGET,
        False,
        "Honour http:// in TARGET_HOST and INGESTION_URL. Tokens then travel in clear: for tests "
        "and for meshes that encrypt by themselves.",
    )
    target_ca_file: Text | None = setting(
        TARGET,
        None,
        "PEM file of certificate authorities to trust for the target, besides the usual ones.",
        shown="system and certifi",
    )
    target_connect_timeout_seconds: Timeout = setting(
        TARGET, 5.0, "How long a connection to the target may take to open."
    )
    target_read_timeout_seconds: Timeout = setting(
        TARGET,
        150.0,
        "How long the target may be silent, before its answer and within it. Longer than the two "
        "minutes that a query may take.",
    )
    target_pool_size: Annotated[int, Field(ge=1, le=10_000)] | None = setting(
        TARGET, None, "Connections to the target that each worker keeps open.", shown="THREADS"
    )
    ingestion_url: Annotated[Text, AfterValidator(values.ingestion_url)] | None = setting(
        TARGET,
        None,
        "Instead of TARGET_HOST, as Azure Monitor's remote-write sidecar had it: the whole URL of "
        "the metrics ingestion endpoint. /api/v1/write is sent to exactly this URL, and nothing "
        "else is forwarded.",
    )
    cluster: Text | None = setting(
        TARGET, None, "A name that the sidecar knew; it is logged at start and used for nothing."
    )
    audience: Annotated[Text, AfterValidator(values.audience)] | None = setting(
        TARGET,
        None,
        "Scope or resource to get tokens for. `/.default` is added where it is missing. Unset, it "
        "is derived from the target's host for Azure Monitor's ingestion and query endpoints; any "
        "other target needs it.",
        also=["INGESTION_AAD_AUDIENCE"],
        shown="by target",
    )

    identity_type: Annotated[IdentityType, BeforeValidator(values.lowered)] = setting(
        IDENTITY,
        "default",
        "Whose token to send: systemassigned or userassigned (managed identities), aadapplication "
        "(a certificate or a secret), workloadidentity (Kubernetes), azurecli (whoever logged in "
        "with az), default (tries them as azure-identity's DefaultAzureCredential does). Case does "
        "not matter.",
    )
    aad_client_id: Identifier | None = setting(
        IDENTITY,
        None,
        "Client id of the identity: required for userassigned, aadapplication, workloadidentity.",
        also=["AZURE_CLIENT_ID"],
    )
    aad_tenant_id: Identifier | None = setting(
        IDENTITY,
        None,
        "Tenant id: required for aadapplication and workloadidentity.",
        also=["AZURE_TENANT_ID"],
    )
    aad_client_certificate_path: Text | None = setting(
        IDENTITY,
        None,
        "For aadapplication: PEM or PKCS#12 (.pfx) file with certificate, chain and RSA private "
        "key. The chain is sent along. A replaced file is used from the next refresh on.",
        also=["AZURE_CLIENT_CERTIFICATE_PATH"],
    )
    aad_client_certificate_password: Secret | None = setting(
        IDENTITY, None, "Password of an encrypted certificate file.", secret=True
    )
    aad_client_certificate_password_file: Text | None = setting(
        IDENTITY, None, "File that holds AAD_CLIENT_CERTIFICATE_PASSWORD."
    )
    aad_client_secret: Secret | None = setting(
        IDENTITY,
        None,
        "For aadapplication: the client secret. Exactly one of certificate and secret.",
        secret=True,
    )
    aad_client_secret_file: Text | None = setting(
        IDENTITY, None, "File that holds AAD_CLIENT_SECRET."
    )
    aad_authority_host: Annotated[Text, AfterValidator(values.authority_host)] | None = setting(
        IDENTITY,
        None,
        "Entra ID endpoint of another cloud. Unset, login.microsoftonline.us or "
        "login.chinacloudapi.cn where the target's host is in the US government's or China's "
        "cloud, and the public cloud's elsewhere.",
        also=["AAD_HOST_ENDPOINT", "AZURE_AUTHORITY_HOST"],
        shown="by target",
    )
    aad_token_refresh_interval_in_percentage: Annotated[int, Field(ge=1, le=99)] = setting(
        IDENTITY, 10, "Refresh a token when this share of its lifetime is left, in percent."
    )

    @property
    def target(self) -> TargetURL:
        """Where requests are forwarded to."""
        url = self.target_host or self.ingestion_url
        if url is None:
            raise ValueError("neither TARGET_HOST nor INGESTION_URL is set")
        return TargetURL.parse(url, allow_http=self.target_allow_http)

    @property
    def forwards_only_remote_write(self) -> bool:
        """Whether only /api/v1/write is forwarded, to exactly the target's URL."""
        return self.ingestion_url is not None

    @property
    def scope(self) -> str:
        """The scope to get tokens for, given or derived."""
        if self.audience is not None:
            return audiences.scope_of(self.audience)
        derived = audiences.scope_for_host(self.target.host)
        if derived is None:
            raise ValueError("AUDIENCE is not set, and the target implies none")
        return derived

    @property
    def authority_host(self) -> str | None:
        """The https URL of the Entra ID endpoint, None for the public cloud's."""
        return self.aad_authority_host or audiences.authority_for_host(self.target.host)

    def client_secret(self) -> str | None:
        """Return the client secret, from its file as it is now where one is named.

        Raises CredentialError where the file cannot be used (any more).
        """
        return _secret(
            self.aad_client_secret, self.aad_client_secret_file, "AAD_CLIENT_SECRET_FILE"
        )

    def certificate_password(self) -> str | None:
        """Return the certificate's password; as `client_secret` does."""
        return _secret(
            self.aad_client_certificate_password,
            self.aad_client_certificate_password_file,
            "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE",
        )


def _secret(value: SecretStr | None, path: str | None, variable: str) -> str | None:
    if value is not None:
        return value.get_secret_value()
    if path is None:
        return None
    try:
        return values.read_secret(path)
    except values.Unusable as error:
        raise CredentialError(f"{variable}={path!r}: {error.problem}. {error.mend}") from None
