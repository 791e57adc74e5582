"""From settings to a token: the one place that knows azure-identity.

Each fetch makes a new credential object and closes it afterwards. A credential
and MSAL cache what they get, so that asking an old one for a "refresh" silently
returns the same token until about five minutes before its expiry; and a rotated
certificate or secret is used from the next fetch on. For the same reason
nothing is retried inside: the waiting is done by `authproxy.identity.tokens`.

azure.identity is big (msal, cryptography, about 35 MB): it is imported when the
first token is fetched, and only the class that is needed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from authproxy.clock import Clock, SystemClock
from authproxy.errors import CertificateError, CredentialError, SettingsError
from authproxy.identity.entra_errors import Explanation, explain
from authproxy.identity.rotation import RotatingCertificate
from authproxy.redaction import Redactor
from authproxy.settings import Settings
from authproxy.tls import KeptContexts

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo, TokenRequestOptions

# Both log each failure and raise it, too. Whoever asked tells of it once; where logging is
# not set up, Python would print theirs on standard error as well.
for _library in ("azure", "msal"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

#: Seconds. Entra answers within one; the second is between bytes.
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 30
#: The Azure CLI is a Python program that may have to refresh its own sign-in.
CLI_TIMEOUT = 30

#: Of an error's own text, what is passed on: enough for Entra's longest message.
_DETAIL_LIMIT = 1500

#: What may stand behind "Bearer " (RFC 6750 says less, but some issuers are loose).
_FIELD_CONTENT = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class FetchedToken:
    """A token as the issuer gave it. Times are seconds since the epoch."""

    value: str = field(repr=False)
    expires_on: float
    #: When the issuer would like it refreshed, if it says so.
    refresh_on: float | None = None


class FetchError(CredentialError):
    """No token. The message holds both the explanation, if any, and the raw text.

    `detail` is what Entra or the library said, without secrets; `summary` is
    what fits a reply or a probe: the explanation, or else that text.
    """

    def __init__(
        self, detail: str, explanation: Explanation | None = None, retry_after: float | None = None
    ) -> None:
        self.summary = str(explanation) if explanation else detail
        super().__init__(f"{explanation} ({detail})" if explanation else detail, retry_after)
        self.detail = detail
        self.explanation = explanation


class _Credential(AbstractContextManager["_Credential"], Protocol):
    """What is needed of a credential of azure-identity."""

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo: ...


class TokenFetcher:
    """Fetches a token for the settings' identity and scope, a new one at each call.

    `clock_offset` is how many seconds the Date of the identity endpoint's last
    answer was ahead of this machine's clock, if there was one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        contexts: KeptContexts | None = None,
    ) -> None:
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self.clock_offset: float | None = None
        self._contexts = contexts or KeptContexts()
        #: The client secret of the latest fetch, so that no error quotes it.
        self._secret: str | None = None
        self._certificate: RotatingCertificate | None = None
        if settings.aad_client_certificate_path:
            self._certificate = RotatingCertificate(
                str(settings.aad_client_certificate_path),
                settings.certificate_password,
                self._clock,
            )
        self._make: dict[str, Callable[[dict[str, Any]], Any]] = {
            "systemassigned": self._system_assigned,
            "userassigned": self._user_assigned,
            "aadapplication": self._application,
            "workloadidentity": self._workload_identity,
            "azurecli": self._azure_cli,
            "default": self._default,
        }

    def __call__(self, claims: str | None = None) -> FetchedToken:
        """Fetch a token; takes as long as the identity endpoint does.

        `claims` are those of a claims challenge, as JSON. Managed identity
        endpoints take none, and may go on giving out a token from their own
        cache. Raises FetchError, whatever went wrong.
        """
        from azure.core.pipeline.transport import RequestsTransport

        from authproxy.identity.http_transport import IdentitySession, retry_after_seconds

        try:
            session = IdentitySession(self._contexts.current())
        except SettingsError as error:
            raise FetchError(str(error)) from error
        transport = RequestsTransport(
            session=session, connection_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT
        )
        # With `enable_cae` Entra learns that claims challenges are answered here. They are:
        # that is what `claims` is for.
        options: TokenRequestOptions = {"enable_cae": True}
        if claims is not None:
            options["claims"] = claims
        try:
            common = {"transport": transport, "retry_total": 0}
            with session, self._credential(common) as credential:
                info = credential.get_token_info(self._settings.scope, options=options)
        except FetchError:
            raise
        except CredentialError as error:  # a secret's or password's file
            raise FetchError(str(error)) from error
        # azure-identity lets through whatever happens inside it: its own errors, MSAL's,
        # ValueError, OSError of a token file, AttributeError for unexpected JSON. Each of
        # them means only that there is no token.
        except Exception as error:
            refusal = session.refusal
            retry_after = None
            if refusal is not None:
                retry_after = retry_after_seconds(refusal.retry_after, self._clock.wall())
            raise self._explained(error, str(refusal or ""), retry_after) from error
        finally:
            self.clock_offset = session.clock_offset
        if not _FIELD_CONTENT.fullmatch(str(info.token)):
            raise FetchError("The identity endpoint sent a token that no header can carry")
        return FetchedToken(str(info.token), float(info.expires_on), info.refresh_on)

    def _explained(self, error: Exception, refusal: str, retry_after: float | None) -> FetchError:
        detail = _one_line(str(error)) or type(error).__name__
        if refusal:
            answer, _, words = refusal.partition(": ")
            detail = f"{detail} [{answer if words in detail else refusal}]"
        # The answer tells more than the library's guess, and the cause more than its wrapper.
        texts = [refusal, str(error)]
        cause = error.__cause__ or error.__context__
        while cause is not None:
            texts.append(f"{type(cause).__name__}: {cause}")
            cause = cause.__cause__ or cause.__context__
        return FetchError(self._masked(detail), explain("\n".join(texts)), retry_after)

    def _masked(self, text: str) -> str:
        """Return `text` without anything secret, at a length fit for a log line."""
        text = Redactor((self._secret, os.environ.get("IDENTITY_HEADER")))(text)
        return text if len(text) <= _DETAIL_LIMIT else f"{text[:_DETAIL_LIMIT]}..."

    # One method for each identity type; `common` goes to every class that uses HTTP.

    def _credential(self, common: dict[str, Any]) -> _Credential:
        return cast(_Credential, self._make[self._settings.identity_type](common))

    def _authority(self, common: dict[str, Any]) -> dict[str, Any]:
        """Add the authority host.

        The host is the operator's own choice. To have the public cloud vouch
        for it first would keep disconnected clouds and private endpoints out.
        """
        return {
            **common,
            "authority": self._settings.authority_host,
            "disable_instance_discovery": True,
        }

    def _system_assigned(self, common: dict[str, Any]) -> object:
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(**common)

    def _user_assigned(self, common: dict[str, Any]) -> object:
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self._settings.aad_client_id, **common)

    def _application(self, common: dict[str, Any]) -> object:
        settings = self._settings
        who: dict[str, Any] = {
            "tenant_id": settings.aad_tenant_id,
            "client_id": settings.aad_client_id,
            **self._authority(common),
        }
        if self._certificate is None:
            from azure.identity import ClientSecretCredential

            secret = self._secret = settings.client_secret() or ""
            return ClientSecretCredential(client_secret=secret, **who)
        from azure.identity import CertificateCredential

        try:
            certificate = self._certificate.current()
        except (CertificateError, CredentialError) as error:
            path = settings.aad_client_certificate_path
            raise FetchError(f"AAD_CLIENT_CERTIFICATE_PATH={path}: {error}") from error
        return CertificateCredential(
            certificate_data=certificate.data,
            password=certificate.password,
            # x5c, for applications that trust a subject and issuer rather than a thumbprint.
            send_certificate_chain=True,
            **who,
        )

    def _workload_identity(self, common: dict[str, Any]) -> object:
        from azure.identity import WorkloadIdentityCredential

        # The path of the service account's token comes from AZURE_FEDERATED_TOKEN_FILE, which
        # the webhook sets: it has moved before.
        return WorkloadIdentityCredential(
            tenant_id=self._settings.aad_tenant_id,
            client_id=self._settings.aad_client_id,
            **self._authority(common),
        )

    def _azure_cli(self, _: dict[str, Any]) -> object:
        from azure.identity import AzureCliCredential

        return AzureCliCredential(
            tenant_id=self._settings.aad_tenant_id or "", process_timeout=CLI_TIMEOUT
        )

    def _default(self, common: dict[str, Any]) -> object:
        from azure.identity import DefaultAzureCredential

        given: dict[str, Any] = {}
        # Absent is not None here: the class has defaults of its own from the environment.
        if self._settings.aad_client_id:
            given["managed_identity_client_id"] = self._settings.aad_client_id
        if self._settings.aad_tenant_id:
            given["workload_identity_tenant_id"] = self._settings.aad_tenant_id
        # The chain that the retired proxy's SDK had: environment, workload identity, managed
        # identity, az, azd. Nothing that opens a window or reads a desktop's caches.
        return DefaultAzureCredential(
            exclude_interactive_browser_credential=True,
            exclude_shared_token_cache_credential=True,
            exclude_visual_studio_code_credential=True,
            exclude_powershell_credential=True,
            exclude_broker_credential=True,
            process_timeout=CLI_TIMEOUT,
            **given,
            **self._authority(common),
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())
