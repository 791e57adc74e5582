"""Every setting, declared once: name, type, range, default, meaning.

The variable is the attribute's name in capitals. Command line, documentation
and messages are made from this declaration.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
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

from authproxy import audiences
from authproxy import settings_values as values
from authproxy.errors import CredentialError
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

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

TARGET, IDENTITY, SERVING = "Where requests go", "Which identity", "Listening and serving"
LIMITS, HEADERS, LOGS = "Limits and shutdown", "What is sent", "Logs"
TELEMETRY = "Telemetry"


def _setting(
    group: str, default: Any, doc: str, *, secret: bool = False, also: str = "", shown: str = ""
) -> Any:
    """Declare a setting; `also` is read where it is unset, `shown` describes its default."""
    extra: JsonDict = {"group": group, "secret": secret, "also": also, "shown": shown}
    return Field(default=default, description=doc, json_schema_extra={"authproxy": extra})


class Settings(BaseModel):
    """What authproxy runs with. Made by `authproxy.settings.load_settings`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
        populate_by_name=True,
    )

    target_host: Annotated[Text, AfterValidator(values.target_host)] | None = _setting(
        TARGET,
        None,
        "Host, host:port or URL to forward to. Always over https, whatever its scheme says, unless "
        "TARGET_ALLOW_HTTP. A path and a query in it are put in front of each request's, so that a "
        "whole metrics ingestion endpoint can be pasted.",
        shown="required, unless INGESTION_URL",
    )
    target_allow_http: bool = _setting(
        TARGET,
        False,
        "Honour http:// in TARGET_HOST and INGESTION_URL. Tokens then travel in clear: for tests "
        "and for meshes that encrypt by themselves.",
    )
    target_ca_file: Text | None = _setting(
        TARGET,
        None,
        "PEM file of certificate authorities to trust for the target, besides the usual ones.",
        shown="system and certifi",
    )
    target_connect_timeout_seconds: Timeout = _setting(
        TARGET, 5.0, "How long a connection to the target may take to open."
    )
    target_read_timeout_seconds: Timeout = _setting(
        TARGET,
        150.0,
        "How long the target may be silent, before its answer and within it. Longer than the two "
        "minutes that a query may take.",
    )
    target_pool_size: Annotated[int, Field(ge=1, le=10_000)] | None = _setting(
        TARGET, None, "Connections to the target that each worker keeps open.", shown="THREADS"
    )
    ingestion_url: Annotated[Text, AfterValidator(values.ingestion_url)] | None = _setting(
        TARGET,
        None,
        "Instead of TARGET_HOST, as Azure Monitor's remote-write sidecar had it: the whole URL of "
        "the metrics ingestion endpoint. /api/v1/write is sent to exactly this URL, and nothing "
        "else is forwarded.",
    )
    cluster: Text | None = _setting(
        TARGET, None, "A name that the sidecar knew; it is logged at start and used for nothing."
    )
    audience: Annotated[Text, AfterValidator(values.audience)] | None = _setting(
        TARGET,
        None,
        "Scope or resource to get tokens for. `/.default` is added where it is missing. Unset, it "
        "is derived from the target's host for Azure Monitor's ingestion and query endpoints; any "
        "other target needs it.",
        shown="by target",
    )

    identity_type: Annotated[IdentityType, BeforeValidator(values.lowered)] = _setting(
        IDENTITY,
        "default",
        "Whose token to send: systemassigned or userassigned (managed identities), aadapplication "
        "(a certificate or a secret), workloadidentity (Kubernetes), azurecli (whoever logged in "
        "with az), default (tries them as azure-identity's DefaultAzureCredential does). Case does "
        "not matter.",
    )
    aad_client_id: Identifier | None = _setting(
        IDENTITY,
        None,
        "Client id of the identity: required for userassigned, aadapplication, workloadidentity.",
        also="AZURE_CLIENT_ID",
    )
    aad_tenant_id: Identifier | None = _setting(
        IDENTITY,
        None,
        "Tenant id: required for aadapplication and workloadidentity.",
        also="AZURE_TENANT_ID",
    )
    aad_client_certificate_path: Text | None = _setting(
        IDENTITY,
        None,
        "For aadapplication: PEM or PKCS#12 (.pfx) file with certificate, chain and RSA private "
        "key. The chain is sent along. A replaced file is used from the next refresh on.",
        also="AZURE_CLIENT_CERTIFICATE_PATH",
    )
    aad_client_certificate_password: Secret | None = _setting(
        IDENTITY, None, "Password of an encrypted certificate file.", secret=True
    )
    aad_client_certificate_password_file: Text | None = _setting(
        IDENTITY, None, "File that holds AAD_CLIENT_CERTIFICATE_PASSWORD."
    )
    aad_client_secret: Secret | None = _setting(
        IDENTITY,
        None,
        "For aadapplication: the client secret. Exactly one of certificate and secret.",
        secret=True,
    )
    aad_client_secret_file: Text | None = _setting(
        IDENTITY, None, "File that holds AAD_CLIENT_SECRET."
    )
    aad_authority_host: Annotated[Text, AfterValidator(values.authority_host)] | None = _setting(
        IDENTITY,
        None,
        "Entra ID endpoint of another cloud, such as login.microsoftonline.us or "
        "login.chinacloudapi.cn.",
        also="AZURE_AUTHORITY_HOST",
        shown="public cloud",
    )
    aad_token_refresh_interval_in_percentage: Annotated[int, Field(ge=1, le=99)] = _setting(
        IDENTITY, 10, "Refresh a token when this share of its lifetime is left, in percent."
    )

    listening_port: Annotated[int, Field(ge=1, le=65535)] | None = _setting(
        SERVING,
        None,
        "Port to listen on. Not where systemd passes sockets.",
        shown="required, unless LISTENING_SOCKET",
    )
    listening_host: Annotated[Text, AfterValidator(values.bind_host)] | None = _setting(
        SERVING, None, "Address to listen on.", shown="all interfaces, IPv4 and IPv6"
    )
    listening_socket: Text | None = _setting(
        SERVING, None, "Unix socket to listen on instead of a port (mode 0660)."
    )
    workers: Annotated[int, Field(ge=1, le=256)] = _setting(SERVING, 1, "Processes that serve.")
    threads: Annotated[int, Field(ge=1, le=1024)] = _setting(
        SERVING, 32, "Threads in each process: requests that it works on at the same time."
    )

    max_request_body_bytes: Annotated[int, Field(ge=1, le=2**40)] = _setting(
        LIMITS, 64 * 1024 * 1024, "A request with a larger body is answered with 413."
    )
    max_request_header_bytes: Annotated[int, Field(ge=1024, le=2**24)] = _setting(
        LIMITS, 64 * 1024, "A request with a larger header is answered with 431."
    )
    max_queued_requests: Annotated[int, Field(ge=0, le=100_000)] | None = _setting(
        LIMITS,
        None,
        "Requests that wait for a thread in each process; more are answered with 503 and "
        "Retry-After at once, instead of waiting for long.",
        shown="4 times THREADS",
    )
    shutdown_delay_seconds: Seconds = _setting(
        LIMITS,
        0.0,
        "On SIGTERM, how long to go on accepting requests while /ready already says 503, so that "
        "load balancers notice first.",
    )
    shutdown_grace_seconds: Seconds = _setting(
        LIMITS, 25.0, "After that, how long requests in flight may take to finish."
    )

    override_request_headers: Annotated[
        Mapping[str, SecretStr], BeforeValidator(values.header_overrides)
    ] = _setting(
        HEADERS,
        {},
        "JSON object of header fields to set on each forwarded request, in place of the client's. "
        "Not for hop-by-hop fields, Authorization, Host or Content-Length. The values are treated "
        "as secrets.",
        secret=True,
        shown="{}",
    )
    remote_write_retry_auth_failures: bool = _setting(
        HEADERS,
        True,
        "Answer 503 to a remote write that the target refused with 401 or 403, so that the sender "
        "keeps the samples and tries again: new role assignments take up to half an hour.",
    )

    log_format: Annotated[Literal["logfmt", "json"], BeforeValidator(values.lowered)] = _setting(
        LOGS, "logfmt", "Form of the log lines on standard error: logfmt or json."
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(values.log_level)
    ] = _setting(LOGS, "info", "Least level that is logged: debug, info, warning or error.")
    log_query: bool = _setting(LOGS, True, "Whether the query strings of requests are logged.")
    trace_logging: Annotated[bool, BeforeValidator(values.any_text_is_true)] = _setting(
        LOGS, False, "Set to anything, it means LOG_LEVEL=debug, as in the retired proxy."
    )

    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = _setting(
        TELEMETRY,
        None,
        "Second port, on LISTENING_HOST, where `authproxy serve` answers /metrics for Prometheus, "
        "and nothing is forwarded.",
        shown="off",
    )
    otel_grpc_endpoint: Annotated[Text, AfterValidator(values.grpc_endpoint)] | None = _setting(
        TELEMETRY,
        None,
        "Where to send traces and metrics to over OTLP/gRPC: host:port or http:// in clear, "
        "https:// with TLS. OpenTelemetry's own OTEL_* variables work as well.",
        shown="no export",
    )
    otel_service_name: Text = _setting(
        TELEMETRY, "aad_auth_proxy", "service.name of what is exported."
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
        return self.aad_authority_host

    @property
    def queue_length(self) -> int:
        """Requests that may wait for a thread."""
        return 4 * self.threads if self.max_queued_requests is None else self.max_queued_requests

    @property
    def pool_size(self) -> int:
        """Connections to the target that each worker keeps."""
        return self.target_pool_size or self.threads

    @property
    def level(self) -> int:
        """The least level to log, as `logging` counts."""
        return logging.DEBUG if self.trace_logging else _LEVELS[self.log_level]

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

    def effective(self) -> dict[str, str]:
        """Return what is in force, variable by variable, with secrets masked.

        What is unset is an empty text; AUDIENCE and TARGET_POOL_SIZE appear as
        derived.
        """
        shown = {
            name.upper(): values.shown(getattr(self, name)) for name in type(self).model_fields
        }
        shown["AUDIENCE"] = self.scope
        shown["TARGET_POOL_SIZE"] = str(self.pool_size)
        shown["MAX_QUEUED_REQUESTS"] = str(self.queue_length)
        return shown


def _secret(value: SecretStr | None, path: str | None, variable: str) -> str | None:
    if value is not None:
        return value.get_secret_value()
    if path is None:
        return None
    try:
        return values.read_secret(path)
    except values.Unusable as error:
        raise CredentialError(f"{variable}={path!r}: {error.problem}. {error.mend}") from None
