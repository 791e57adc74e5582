"""Fetches tokens through azure-identity, and says what went wrong where there is none.

Each fetch makes a new credential object and closes it afterwards. A credential
and MSAL cache what they get, so that asking an old one for a "refresh" silently
returns the same token until about five minutes before its expiry; and a rotated
certificate or secret is used from the next fetch on. For the same reason
nothing is retried inside: the waiting is done by `authproxy.identity.tokens`.

azure.identity is big (msal, cryptography, about 35 MB): it is imported when the
first token is fetched.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from authproxy.clock import SystemClock
from authproxy.errors import CredentialError, Explanation, SettingsError
from authproxy.files.expiry import Expiry
from authproxy.files.regular_file import MAX_BYTES, UnreadableFile, require_regular_file
from authproxy.identity.bounded_fetch import Budget
from authproxy.identity.endpoint_errors import EndpointResponse
from authproxy.identity.entra_errors import explain
from authproxy.identity.federation import of_federation
from authproxy.identity.lifetimes import FetchedToken
from authproxy.identity.provenance import Provenance
from authproxy.identity.rotation import RotatingCertificate
from authproxy.redaction import Redactor
from authproxy.settings import Settings
from authproxy.tls import TLSContextCache

if TYPE_CHECKING:
    from azure.core.credentials import TokenRequestOptions

# Both log each failure and raise it as well, and the caller logs it. Where logging is not
# set up, Python would print their lines on standard error.
for _library in ("azure", "msal"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

#: Characters of an error's text that are passed on: enough for Entra's longest message.
_DETAIL_LIMIT = 1500
#: Characters that are searched for secrets, which may be most of the text.
_READ_LIMIT = 6000

#: What azure-identity makes of errors of a managed identity endpoint, whatever that responded.
_GUESSES = re.compile(
    r"ManagedIdentityCredential authentication unavailable, no response from the IMDS endpoint\.?"
    r"|No identity has been assigned to this resource\."
    r"|\b(App Service|Azure \w+|Cloud Shell) managed identity configuration not found in "
    r"environment\."
    # What json makes of a body that is none.
    r"|Expecting value: line 1 column 1 \(char 0\)"
)

#: Variables that name files which azure-identity opens by itself.
_OPENED_INSIDE = ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_CERTIFICATE_PATH")

#: What may stand behind "Bearer " (RFC 6750 says less, but some issuers are loose).
_FIELD_CONTENT = re.compile(r"[!-~]+")

#: Threads that import a package at the same time may meet it half done.
_importing = threading.Lock()


class FetchError(CredentialError):
    """No token. The message holds both the explanation, if any, and the raw text.

    `detail` is what Entra or the library said, without secrets; `summary` is
    what fits a response or a probe: the explanation, or else that text.
    """

    def __init__(
        self, detail: str, explanation: Explanation | None = None, retry_after: float | None = None
    ) -> None:
        self.summary = str(explanation) if explanation else detail
        super().__init__(f"{explanation} ({detail})" if explanation else detail, retry_after)
        self.detail = detail
        self.explanation = explanation


class TokenFetcher:
    """Fetches a token for the settings' identity and scope, a new one at each call.

    `clock_offset` is how many seconds the Date of the identity endpoint's last
    response was ahead of this machine's clock, if there was one. `assertion` is the token
    of somebody else that proved the identity at the latest fetch, if one did.
    """

    def __init__(self, settings: Settings, *, contexts: TLSContextCache | None = None) -> None:
        self._settings = settings
        self.clock_offset: float | None = None
        self.assertion: str | None = None
        self._contexts = contexts or TLSContextCache()
        #: What the identity endpoint was sent at the latest fetch, and what it gave out: no
        #: error is to quote them.
        self._sent: list[str] = []
        self._given: deque[str] = deque(maxlen=2)
        self._certificate: RotatingCertificate | None = None
        if settings.aad_client_certificate_path:
            self._certificate = RotatingCertificate(settings, SystemClock())

    def __call__(self, claims: str | None = None) -> FetchedToken:
        """Fetch a token; takes as long as the identity endpoint does, within a budget.

        `claims` are those of a claims challenge, as JSON. Managed identity
        endpoints take none, and may go on giving out a token from their own
        cache. Raises FetchError, whatever went wrong.
        """
        settings = self._settings
        _refuse_endless_files(settings)
        with _importing:
            from authproxy.identity.http_transport import IdentitySession, retry_after_seconds
            from authproxy.identity.identity_types import credential_for

        try:
            context = self._contexts.current()
        except SettingsError as error:
            raise FetchError(str(error)) from error
        budget = Budget()
        session = IdentitySession(context, budget)
        self._sent = session.sent
        # `enable_cae` tells Entra that this client handles claims challenges, as it does with
        # `claims`.
        options: TokenRequestOptions = {"enable_cae": True}
        if claims is not None:
            options["claims"] = claims
        try:
            with session, credential_for(settings, self._certificate, session) as credential:
                info = credential.get_token_info(settings.scope, options=options)
            token = _sendable(info.token)
            self._given.append(token)
            return FetchedToken.of(
                token,
                info.expires_on,
                info.refresh_on,
                time.time(),
                Provenance.of(token, session.endpoint).compared_with(settings),
            )
        except FetchError:
            raise
        except (CredentialError, SettingsError) as error:  # a secret's or certificate's file
            raise FetchError(str(error)) from error
        # azure-identity lets through whatever happens inside it: its own errors, MSAL's,
        # ValueError, OSError of a token file, AttributeError for unexpected JSON. Each of
        # them means only that there is no token.
        except Exception as error:
            if budget.exceeded:  # whatever else was made of it on its way here
                raise FetchError(budget.exceeded, explain(budget.exceeded)) from error
            response = session.response
            retry_after = None
            if response is not None and response.refuses:
                retry_after = retry_after_seconds(response.retry_after, time.time())
            raise self._explained(error, response, retry_after) from error
        finally:
            self.clock_offset, self.assertion = session.clock_offset, session.assertion

    @property
    def certificate_expiry(self) -> Expiry | None:
        """When the client certificate in use expires; None where there is none."""
        return None if self._certificate is None else self._certificate.expiry

    def _explained(
        self, error: Exception, response: EndpointResponse | None, retry_after: float | None
    ) -> FetchError:
        detail = self._masked(" ".join(str(error).split())) or type(error).__name__
        texts = [detail]
        if response is not None and not (response.refuses or response.managed):
            response = None  # a step before the one that failed, such as Entra's discovery
        if response is not None:
            # The response is more exact than the library's guess, and the cause than its wrapper.
            response = replace(response, text=self._masked(response.text))
            texts = [_GUESSES.sub("", detail).strip()]
            shown = response.summary if response.text in detail else str(response)
            detail = f"{texts[0]} [{shown}]" if texts[0] else str(response)
            texts.insert(0, str(response))
        cause = error.__cause__ or error.__context__
        while cause is not None:
            texts.append(self._masked(f"{type(cause).__name__}: {cause}"))
            cause = cause.__cause__ or cause.__context__
        explanation = of_federation(explain("\n".join(texts), response), self._settings)
        if len(detail) > _DETAIL_LIMIT:
            detail = f"{detail[:_DETAIL_LIMIT]}..."
        return FetchError(detail, explanation, retry_after)

    def _masked(self, text: str) -> str:
        """Return the beginning of `text` without anything secret."""
        secrets = (os.environ.get("IDENTITY_HEADER"), *self._sent, *self._given)
        return Redactor(secrets)(text[:_READ_LIMIT])


def _sendable(value: object) -> str:
    """Return a token, if a header field can carry it. Raises FetchError."""
    if not _FIELD_CONTENT.fullmatch(str(value)):
        raise FetchError("The identity endpoint sent a token that no header can carry")
    return str(value)


def _refuse_endless_files(settings: Settings) -> None:
    """Raise FetchError where a fetch would wait for a pipe, or read a device for ever."""
    paths = {variable: os.environ.get(variable) for variable in _OPENED_INSIDE}
    paths["AAD_FEDERATED_TOKEN_FILE"] = settings.aad_federated_token_file
    for variable, path in paths.items():
        try:
            if path:
                require_regular_file(path, MAX_BYTES)
        except UnreadableFile as error:
            # Other faults are reported better by azure-identity, where it needs the file.
            if not error.regular or error.too_large:
                raise FetchError(f"{variable}={path}: {error}") from None
