"""Rules of the settings that say where requests go and under which identity."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from authproxy.errors import Fault
from authproxy.files.regular_file import MAX_BUNDLE_BYTES, UnreadableFile, require_regular_file
from authproxy.redaction import MASK
from authproxy.settings import audiences
from authproxy.settings.draft import Draft, Rule
from authproxy.settings.values import Unusable, read_secret

_REQUIRED_IDS = {
    "userassigned": ("AAD_CLIENT_ID",),
    "aadapplication": ("AAD_CLIENT_ID", "AAD_TENANT_ID"),
    "workloadidentity": ("AAD_CLIENT_ID", "AAD_TENANT_ID"),
}
_IN_FILES = ("AAD_CLIENT_SECRET", "AAD_CLIENT_CERTIFICATE_PASSWORD")

#: The webhook of workload identity names the token's file here, and moves it at will.
_TOKEN_FILE = "AZURE_FEDERATED_TOKEN_FILE"


def one_target(draft: Draft) -> Iterator[Fault]:
    """Exactly one of TARGET_HOST and INGESTION_URL."""
    if draft.lacks("TARGET_HOST", "INGESTION_URL"):
        yield Fault(
            "TARGET_HOST",
            None,
            "it is required: nothing says where requests go",
            "Set TARGET_HOST to a host or URL, or INGESTION_URL to a whole ingestion endpoint.",
        )
    elif draft.gives("TARGET_HOST", "INGESTION_URL"):
        yield Fault(
            "INGESTION_URL",
            draft.settings.ingestion_url,
            "it is set besides TARGET_HOST",
            "Keep INGESTION_URL for remote write alone, TARGET_HOST for everything else.",
        )


def known_audience(draft: Draft) -> Iterator[Fault]:
    """AUDIENCE, or a target that implies one."""
    settings = draft.settings
    if not draft.lacks("AUDIENCE") or not (settings.target_host or settings.ingestion_url):
        return
    host = settings.target.host
    if audiences.scope_for_host(host) is None:
        yield Fault(
            "AUDIENCE",
            None,
            f"it is required: the target {host} does not imply it",
            "Set it to the scope or resource that the target takes tokens for, such as "
            "https://prometheus.monitor.azure.com/.default.",
        )


def required_ids(draft: Draft) -> Iterator[Fault]:
    """The ids that the identity type needs."""
    kind = draft.settings.identity_type
    for variable in _REQUIRED_IDS.get(kind, ()):
        if draft.lacks(variable):
            other = variable.replace("AAD_", "AZURE_")
            yield Fault(
                variable,
                None,
                f"it is required with IDENTITY_TYPE={kind}",
                f"Set it to the identity's {variable[4:].lower().replace('_', ' ')} "
                f"({other} will do as well).",
            )


def one_application_credential(draft: Draft) -> Iterator[Fault]:
    """Exactly one of certificate and secret for an application."""
    if draft.settings.identity_type != "aadapplication":
        return
    if draft.lacks("AAD_CLIENT_CERTIFICATE_PATH", *_in_either_form("AAD_CLIENT_SECRET")):
        yield Fault(
            "AAD_CLIENT_CERTIFICATE_PATH",
            None,
            "IDENTITY_TYPE=aadapplication needs a certificate or a secret",
            "Set AAD_CLIENT_CERTIFICATE_PATH, or AAD_CLIENT_SECRET_FILE.",
        )
    secrets = draft.given.intersection(_in_either_form("AAD_CLIENT_SECRET"))
    if secrets and draft.gives("AAD_CLIENT_CERTIFICATE_PATH"):
        yield Fault(
            "AAD_CLIENT_CERTIFICATE_PATH",
            draft.settings.aad_client_certificate_path,
            f"it is set besides {min(secrets)}",
            "Keep one of them; a certificate is the safer one.",
        )


def federated_token(draft: Draft) -> Iterator[Fault]:
    """The token file that the workload identity webhook provides."""
    if draft.settings.identity_type != "workloadidentity":
        return
    path = draft.environ.get(_TOKEN_FILE)
    mend = (
        'Label the pod azure.workload.identity/use: "true" and give it the annotated service '
        "account, so that the webhook provides the file."
    )
    if not path:
        yield Fault(_TOKEN_FILE, None, "IDENTITY_TYPE=workloadidentity needs this variable", mend)
        return
    try:
        read_secret(path)
    except Unusable as error:
        yield Fault(_TOKEN_FILE, path, error.problem, mend)


def value_or_file(draft: Draft) -> Iterator[Fault]:
    """A secret by value or by file, not both."""
    for variable in _IN_FILES:
        if draft.gives(*_in_either_form(variable)):
            yield Fault(
                f"{variable}_FILE",
                draft.value(f"{variable}_FILE"),
                f"it is set besides {variable}",
                "Keep one of them; the file is the safer one.",
            )


def readable_secret_files(draft: Draft) -> Iterator[Fault]:
    """Files of secrets can be read and hold something."""
    for variable in (*(f"{name}_FILE" for name in _IN_FILES), "INBOUND_JWKS_TOKEN_FILE"):
        path = draft.value(variable)
        if path is None:
            continue
        try:
            read_secret(path)
        except Unusable as error:
            yield Fault(variable, path, error.problem, error.mend)


def usable_certificate(draft: Draft) -> Iterator[Fault]:
    """The client certificate loads, with its key and password, and is valid today."""
    settings = draft.settings
    path = settings.aad_client_certificate_path
    password_settings = _in_either_form("AAD_CLIENT_CERTIFICATE_PASSWORD")
    if path is None or settings.identity_type != "aadapplication":
        return
    if draft.faulty.intersection(password_settings):
        return  # nothing can be said of the file before its password is right
    # Here and not above: cryptography takes a while to load, and few need it.
    from authproxy.files.certificates import UnusableCertificate, load_certificate

    variable, secret_file = password_settings
    password = settings.aad_client_certificate_password
    try:
        plain = password.get_secret_value() if password else None
        if settings.aad_client_certificate_password_file is not None:
            variable = secret_file
            plain = read_secret(settings.aad_client_certificate_password_file)
        load_certificate(path, plain).require_valid(datetime.now(timezone.utc))
    except Unusable:
        return  # `readable_secret_files` has said so
    except UnusableCertificate as error:
        if error.password:
            given = MASK if plain else None
            yield Fault(variable, given, f"{error.problem} ({path})", error.mend)
        else:
            yield Fault("AAD_CLIENT_CERTIFICATE_PATH", path, error.problem, error.mend)


def usable_ca_files(draft: Draft) -> Iterator[Fault]:
    """Files of authorities hold at least one certificate."""
    for variable in ("TARGET_CA_FILE", "INBOUND_JWKS_CA_FILE"):
        path = draft.value(variable)
        if path is None:
            continue
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            require_regular_file(path, MAX_BUNDLE_BYTES)
            context.load_verify_locations(cafile=path)
            problem = "" if context.cert_store_stats()["x509"] else "it holds no certificate"
        except ssl.SSLError:
            problem = "it holds no PEM certificate, or a damaged one"
        except UnreadableFile as error:
            problem = f"it {error.problem}"
        if problem:
            mend = "Name a readable PEM file with the authority's certificate."
            yield Fault(variable, path, problem, mend)


def _in_either_form(variable: str) -> tuple[str, str]:
    return variable, f"{variable}_FILE"


TARGET_RULES: tuple[Rule, ...] = (
    one_target,
    known_audience,
    required_ids,
    one_application_credential,
    federated_token,
    value_or_file,
    readable_secret_files,
    usable_certificate,
    usable_ca_files,
)
