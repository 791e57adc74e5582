"""Fetches of tokens by the real azure-identity, for tests of what becomes of them."""

from __future__ import annotations

import os
from functools import cache, partial
from typing import Any

import pytest

from authproxy.identity import credentials
from authproxy.identity.bounded_fetch import Budget
from authproxy.identity.credentials import FetchError, TokenFetcher
from authproxy.tls import TLSContextCache
from tests.support.identity import settings_for


def forget_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no identity of the machine that runs the tests, and none beyond loopback."""
    for name in os.environ:
        if name.startswith(("AZURE_", "AAD_", "IDENTITY_", "MSI_", "IMDS_")):
            monkeypatch.delenv(name)
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")


def bound_fetches(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let fetches take so long, instead of half a minute."""
    monkeypatch.setattr(credentials, "Budget", partial(Budget, seconds))


@cache
def _contexts(bundle: str | None) -> TLSContextCache:
    """Return the TLS contexts that all fetchers share: to load authorities is most of a fetch."""
    return TLSContextCache()


def fetcher(identity_type: str, **settings: Any) -> TokenFetcher:
    contexts = _contexts(os.environ.get("REQUESTS_CA_BUNDLE"))
    return TokenFetcher(settings_for(identity_type, **settings), contexts=contexts)


def refused(fetch: TokenFetcher, claims: str | None = None) -> FetchError:
    """Return the error of a fetch, which has to fail."""
    with pytest.raises(FetchError) as caught:
        fetch(claims)
    return caught.value
