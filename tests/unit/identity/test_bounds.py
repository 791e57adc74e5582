"""Every way to a token ends in time and in bytes: the real azure-identity, over sockets."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msal.managed_identity
import pytest

from authproxy.identity.bounded_fetch import RESPONSE_BYTES
from authproxy.identity.credentials import FetchError, TokenFetcher
from authproxy.identity.lifetimes import LONGEST_LIFETIME
from tests.support.authority import Authority
from tests.support.endpoints import HEAD, Endpoint, Pieces, dripping, whole
from tests.support.fetching import bound_fetches, fetcher, forget_identities, refused
from tests.support.forward_proxy import ForwardProxy

AUDIENCE = "https://monitor.azure.com"
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_identities(monkeypatch)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    bound_fetches(monkeypatch, seconds=0.3)


# Endpoints.


class Home:
    """Where a process runs, as far as its identity endpoint is concerned."""

    def __init__(self, authority: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._authority = authority
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._stack = ExitStack()
        self.settings: dict[str, Any] = {}

    def close(self) -> None:
        self._stack.close()

    def __call__(self, kind: str, pieces: Pieces) -> TokenFetcher:
        """Return a fetcher for a home of this kind, whose endpoint answers so."""
        tls = self._authority.context() if kind in OVER_TLS else None
        self.endpoint = self._stack.enter_context(Endpoint(pieces, tls))
        url = self.endpoint.url
        variables = {
            "IMDS": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url},
            "IMDS over TLS": {
                "AZURE_POD_IDENTITY_AUTHORITY_HOST": url,
                "REQUESTS_CA_BUNDLE": str(self._authority.bundle),
            },
            "App Service": {"IDENTITY_ENDPOINT": f"{url}/token", "IDENTITY_HEADER": "header"},
            "Azure ML": {"MSI_ENDPOINT": f"{url}/token", "MSI_SECRET": "header"},
            "Cloud Shell": {"MSI_ENDPOINT": f"{url}/token"},
            "Azure Arc": {"IDENTITY_ENDPOINT": f"{url}/token", "IMDS_ENDPOINT": url},
            "Service Fabric": {
                "IDENTITY_ENDPOINT": f"{url}/token",
                "IDENTITY_HEADER": "header",
                "IDENTITY_SERVER_THUMBPRINT": self.endpoint.thumbprint if tls else "",
            },
            "Entra": {"REQUESTS_CA_BUNDLE": str(self._authority.bundle)},
            "token proxy": {
                "AZURE_KUBERNETES_TOKEN_PROXY": url,
                "AZURE_KUBERNETES_CA_FILE": str(self._authority.bundle),
                "AZURE_FEDERATED_TOKEN_FILE": str(self._folder / "token"),
            },
        }
        for name, value in variables[kind].items():
            self._monkeypatch.setenv(name, value)
        if kind == "Entra":
            return fetcher(
                "aadapplication",
                aad_client_id="client",
                aad_tenant_id="11111111-2222-3333-4444-555555555555",
                aad_client_secret="secret",
                aad_authority_host=url,
            )
        if kind == "token proxy":
            (self._folder / "token").write_text("of-the-service-account")
            tenant = "11111111-2222-3333-4444-555555555555"
            return fetcher("workloadidentity", aad_client_id="client", aad_tenant_id=tenant)
        return fetcher("systemassigned")


@pytest.fixture
def home(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    made = Home(authority, tmp_path, monkeypatch)
    yield made
    made.close()


MANAGED = ["IMDS", "App Service", "Azure ML", "Cloud Shell", "Azure Arc", "Service Fabric"]
OVER_TLS = ("IMDS over TLS", "Service Fabric", "token proxy", "Entra")
HOMES = [*MANAGED, "token proxy", "Entra"]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", HOMES)
@pytest.mark.parametrize(
    "first",
    [b"HTTP/1.1 200 OK\r\nX: ", HEAD + b"Content-Length: 500\r\n\r\n{"],
    ids=["head", "body"],
)
def test_an_endpoint_that_drips_is_a_failure_that_says_so(
    home: Home, kind: str, first: bytes
) -> None:
    error = refused(home(kind, dripping(first, 0.05)))
    assert error.explanation is not None
    assert error.explanation.code == "IdentityTimeout"
    # Where the endpoint pauses for all that is left, as on a busy machine, the socket says so.
    assert "timed out" in error.detail


BOMB = whole(gzip.compress(b'"' + b"x" * 5 * RESPONSE_BYTES + b'"'), b"Content-Encoding: gzip")


@pytest.mark.parametrize("kind", HOMES)
def test_a_bomb_is_a_failure_that_says_so(home: Home, kind: str) -> None:
    error = refused(home(kind, lambda: iter([BOMB])))
    assert error.explanation is not None
    assert error.explanation.code == "IdentityResponseTooLarge"


NESTED = b"[" * 100_000


@pytest.mark.parametrize("kind", HOMES)
@pytest.mark.parametrize("status", [200, 400])
def test_json_without_a_bottom_is_a_failure(home: Home, kind: str, status: int) -> None:
    response = whole(NESTED).replace(b"200", b"%d" % status, 1)
    refused(home(kind, lambda: iter([response])))


def token(**changes: object) -> bytes:
    now = int(time.time())
    content = {"access_token": "the-token", "token_type": "Bearer", "resource": AUDIENCE}
    return whole(
        json.dumps({**content, "expires_in": 3600, "expires_on": now + 3600, **changes}).encode()
    )


@pytest.mark.parametrize(
    "kind", [*(kind for kind in MANAGED if kind != "Azure Arc"), *OVER_TLS[:-1]]
)
def test_a_managed_identity_endpoint_is_never_reached_through_a_proxy(
    home: Home, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy() as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert home(kind, lambda: iter([token()]))(None).value == "the-token"
        assert proxy.heads == []


# Lifetimes.

HOUR = 3600.0
STATED: dict[str, Callable[[float], object]] = {
    "a text": lambda now: str(int(now + HOUR)),
    "milliseconds": lambda now: int((now + HOUR) * 1000),
    "milliseconds as text": lambda now: str(int((now + HOUR) * 1000)),
    "nanoseconds": lambda now: int((now + HOUR) * 1e9),
    "a fraction": lambda now: now + HOUR,
}


@pytest.mark.parametrize("kind", ["App Service", "Service Fabric"])
@pytest.mark.parametrize("stated", STATED)
def test_an_expiry_in_an_odd_form_is_understood(home: Home, kind: str, stated: str) -> None:
    now = time.time()
    fetched = home(kind, lambda: iter([token(expires_on=STATED[stated](now))]))(None)
    assert fetched.expires_on == pytest.approx(now + HOUR, abs=2)
    assert fetched.refresh_on is None


@pytest.mark.parametrize(("kind", "name"), [("App Service", "expires_on"), ("IMDS", "expires_in")])
@pytest.mark.parametrize("stated", [10**11, 3 * 10**11, 10**11 * 7])
def test_a_lifetime_of_years_is_cut(home: Home, kind: str, name: str, stated: int) -> None:
    fetched = home(kind, lambda: iter([token(**{name: stated})]))(None)
    assert fetched.expires_on == pytest.approx(time.time() + LONGEST_LIFETIME, abs=60)
    assert fetched.refresh_on is None


NO_TIMES: list[object] = [float("inf"), float("nan"), 10**400, -(10**400), "soon", [1], {}, True]


@pytest.mark.parametrize(("kind", "name"), [("App Service", "expires_on"), ("IMDS", "expires_in")])
@pytest.mark.parametrize("stated", NO_TIMES, ids=lambda stated: f"{stated}"[:10])
def test_without_a_usable_expiry_there_is_no_token_that_is_valid(
    home: Home, kind: str, name: str, stated: object
) -> None:
    fetch = home(kind, lambda: iter([token(**{name: stated})]))
    try:
        fetched = fetch(None)
    except FetchError:
        return  # most of them
    assert fetched.expires_on <= time.time() + 1


# Service Fabric and Arc, which have ways of their own.


def test_service_fabric_is_asked_as_it_wants_to_be(home: Home) -> None:
    fetched = home("Service Fabric", lambda: iter([token(expires_on=str(int(time.time()) + 99))]))(
        None
    )
    assert fetched.value == "the-token"
    assert fetched.expires_on == pytest.approx(time.time() + 99, abs=5)
    (request,) = home.endpoint.requests
    head = request.decode().lower()
    assert "secret: header" in head
    assert "api-version=2019-07-01-preview" in head
    assert "resource=https%3a%2f%2fmonitor.azure.com " in head.replace("&api", " &api")


def test_service_fabric_by_default_is_asked_too(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home("Service Fabric", lambda: iter([token()]))
    assert fetcher("default")(None).value == "the-token"


def test_whoever_has_another_certificate_than_service_fabrics_gets_no_secret(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = home("Service Fabric", lambda: iter([token()]))
    monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "00" * 20)
    assert "ingerprint" in refused(fetch).detail
    assert home.endpoint.requests == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IDENTITY_SERVER_THUMBPRINT", "none"),
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/token"),
    ],
)
def test_a_wrong_environment_of_service_fabric_is_named(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    fetch = home("Service Fabric", lambda: iter([token()]))
    monkeypatch.setenv(name, value)
    assert name in refused(fetch).detail


def test_service_fabrics_refusal_and_redirect_are_told(home: Home) -> None:
    content = {"error": {"code": "ManagedIdentityNotFound", "message": "none is assigned"}}
    response = whole(json.dumps(content).encode()).replace(b"200 OK", b"404 Not Found", 1)
    error = refused(home("Service Fabric", lambda: iter([response])))
    assert "HTTP 404" in error.detail
    assert "none is assigned" in error.detail
    redirect = b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    assert "gave no token" in refused(home("Service Fabric", lambda: iter([redirect]))).detail


def test_service_fabric_chooses_the_identity_itself(home: Home) -> None:
    home("Service Fabric", lambda: iter([token()]))
    error = refused(fetcher("userassigned", aad_client_id="client"))
    assert "IDENTITY_TYPE" in error.detail
    assert home.endpoint.requests == []


def test_arc_is_asked_twice_on_the_same_session(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "arc.key").write_text("the-key")
    keys = msal.managed_identity._supported_arc_platforms_and_their_prefixes
    monkeypatch.setitem(keys, "linux", str(tmp_path))
    challenge = (
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n"
        b"WWW-Authenticate: Basic realm=/var/opt/azcmagent/tokens/arc.key\r\n\r\n"
    )
    responses = iter([challenge, token()])
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert home("Azure Arc", lambda: iter([next(responses)]))(None).value == "the-token"
    assert "Basic the-key" in home.endpoint.requests[1].decode()


# The Azure CLI, and what else starts a process.


# What fetches must not leave behind.


def test_no_request_asks_the_system_for_an_id_for_which_it_keeps_a_file_open(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`uuid1` of the system's library opens a file in each thread, and never closes it."""

    def asked(*_: object) -> None:
        raise AssertionError("uuid1 was called")

    monkeypatch.setattr("uuid.uuid1", asked)
    for kind in ("App Service", "Entra"):
        fetch = home(kind, lambda: iter([token()]))
        if kind == "Entra":
            assert "uuid1" not in str(refused(fetch))
        else:
            assert fetch(None).value == "the-token"
