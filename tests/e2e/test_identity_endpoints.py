"""Whatever an identity or key endpoint says, or does not say, the process goes on (section 4)."""

from __future__ import annotations

import calendar
import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support.authority import Authority
from tests.support.callers import AUDIENCE as CALLERS
from tests.support.callers import ISSUER
from tests.support.diagnosing import Check
from tests.support.endpoints import HEAD, Endpoint, Pieces, dripping, whole
from tests.support.expect import assert_own_error
from tests.support.identity import AUDIENCE
from tests.support.process import SOURCE, ProxyProcess, wait_until
from tests.support.upstream import Upstream

#: What the base settings lead to App Service's endpoint with.
APP_SERVICE = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")
FAILED = "Failed to refresh token"
HOUR = 3600


def app_service(endpoint: Endpoint) -> dict[str, str]:
    """Return the settings of a process whose identity this endpoint is asked for."""
    return {
        "IDENTITY_TYPE": "systemassigned",
        "AUDIENCE": AUDIENCE,
        "IDENTITY_ENDPOINT": f"{endpoint.url}/token",
        "IDENTITY_HEADER": "header",
    }


def token(expires_on: object) -> bytes:
    content = {"access_token": "the-token", "token_type": "Bearer", "resource": AUDIENCE}
    return whole(json.dumps({**content, "expires_on": expires_on}).encode())


# Lifetimes.

LIFETIMES: dict[str, Callable[[float], object]] = {
    "milliseconds": lambda now: str(int((now + HOUR) * 1000)),
    "years ahead": lambda now: int(now + 500 * 365 * 24 * HOUR),
}


@pytest.mark.parametrize("said", LIFETIMES)
def test_an_odd_lifetime_is_understood_or_cut(launch: Launch, target: Upstream, said: str) -> None:
    with Endpoint(lambda: iter([token(LIFETIMES[said](time.time()))])) as endpoint:
        proxy = launch(**app_service(endpoint))
        assert proxy.get("/x").status == 200
        body = json.loads(proxy.get("/health").body)
        expires_at = time.strptime(body["token"]["expires_at"], "%Y-%m-%dT%H:%M:%SZ")
        assert time.time() < calendar.timegm(expires_at) < time.time() + 29 * HOUR
        # Nor is a refresh due that libraries have worked out from such a time.
        assert body["token"]["next_attempt_seconds"] > HOUR / 2
    assert target.only().one("Authorization") == "Bearer the-token"


NO_LIFETIMES: dict[str, object] = {"negative": -5, "of 400 digits": 10**400}


@pytest.mark.parametrize("said", NO_LIFETIMES)
def test_without_a_usable_lifetime_there_is_no_token_and_another_attempt(
    launch: Launch, target: Upstream, said: str
) -> None:
    with Endpoint(lambda: iter([token(NO_LIFETIMES[said])])) as endpoint:
        proxy = launch(ready=False, **app_service(endpoint))
        endpoint.wait_for_requests(2)
        assert proxy.get("/health").status == 200
        assert_own_error(proxy.get("/x"), 503, "AuthenticationTokenNotFound")
        assert json.loads(proxy.get("/ready").body)["token"]["last_error"]
        endpoint.pieces = lambda: iter([token(int(time.time()) + HOUR)])
        proxy.wait_ready()
        assert proxy.get("/x").status == 200
        assert "critical" not in proxy.log


# Bytes.


def test_a_bomb_in_place_of_a_token_is_not_unpacked(launch: Launch, target: Upstream) -> None:
    unpacked = 400 * 1024 * 1024
    body = gzip.compress(bytes(unpacked), 1)
    bomb = whole(body, b"Content-Encoding: gzip")
    with Endpoint(lambda: iter([bomb])) as endpoint:
        proxy = launch(ready=False, **app_service(endpoint))
        error = proxy.wait_for_event(FAILED)["Error"]
        assert "IdentityResponseTooLarge" in error
        assert proxy.peak_bytes() < unpacked // 2


# What it says.


def metadata_service(endpoint: Endpoint) -> dict[str, str]:
    """Return the settings of a virtual machine whose metadata service this endpoint is."""
    return {
        "IDENTITY_TYPE": "systemassigned",
        "AUDIENCE": AUDIENCE,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": endpoint.url,
    }


def refusal(status: int, body: bytes) -> bytes:
    return whole(body).replace(b" 200 OK", b" %d Whatever" % status, 1)


#: Status and body, and what is told of it.
REFUSALS = {
    "updating": (404, b"", "IdentityEndpointUpdating"),
    "unauthorized": (401, b'{"error": "unknown_source"}', "IdentityEndpointUnauthorized"),
    "forbidden": (403, b'{"error": "access_denied"}', "IdentityEndpointForbidden"),
    "refused": (400, b'{"error": "bad_request_102"}', "IdentityEndpointRefused"),
    "intercepted": (403, b"<html><title>No</title>Blocked by policy</html>", "IdentityIntercepted"),
    "captive": (200, b"<html>Sign in</html>", "IdentityIntercepted"),
    "other cloud": (
        400,
        b'{"error": "x", "error_description": "AADSTS900382: Confidential Client is not supported '
        b'in Cross Cloud request."}',
        "AADSTS900382",
    ),
    "escapes": (400, b'{"error": "\\u001b[2Jx"}', "IdentityEndpointRefused"),
    "new code": (400, b'{"error": "x", "error_description": "AADSTS99: New."}', "AADSTS99"),
}


def test_check_tells_what_the_metadata_service_has_said(
    base_settings: dict[str, str], tmp_path: Path
) -> None:
    base = {name: base_settings[name] for name in base_settings if "IDENTITY_" not in name}
    with ExitStack() as stack:
        checks = {}
        for name, (status, body, _) in REFUSALS.items():
            pieces = lambda status=status, body=body: iter([refusal(status, body)])  # noqa: E731
            endpoint = stack.enter_context(Endpoint(pieces))
            checks[name] = Check(tmp_path, {**base, **metadata_service(endpoint)})
        for name, check in checks.items():
            status, body, code = REFUSALS[name]
            token = check.step("token")
            assert token["facts"]["code"] == code, name
            assert f"HTTP {status} from 127.0.0.1" in token["notes"][0]
            assert "no response" not in check.output
            assert "choose another IDENTITY_TYPE" not in check.output
            assert "\x1b" not in f"{token['notes']} {check.advice('token')}"
        assert "NO_PROXY=169.254.169.254" in checks["intercepted"].advice("token")
        assert "IDENTITY_ENDPOINT" in checks["captive"].advice("token")
        assert "HTTP 200 from 127.0.0.1: an HTML page" in checks["captive"].advice("token")
        assert "HTTP 403 from 127.0.0.1: an HTML page, No" in checks["intercepted"].advice("token")
        assert not [name for name, check in checks.items() if "<html>" in check.advice("token")]
        assert not [name for name, check in checks.items() if "Expecting value" in check.output]
        assert "AAD_AUTHORITY_HOST" in checks["other cloud"].advice("token")
        assert "https://login.microsoftonline.com/error?code=99" in checks["new code"].output


def test_check_tells_that_the_key_of_arcs_agent_is_not_there(
    base_settings: dict[str, str], tmp_path: Path
) -> None:
    challenge = b"WWW-Authenticate: Basic realm=/var/opt/azcmagent/tokens/absent.key"
    first = whole(b"", challenge).replace(b" 200 OK", b" 401 Unauthorized", 1)
    base = {name: base_settings[name] for name in base_settings if "IDENTITY_" not in name}
    with Endpoint(lambda: iter([first])) as endpoint:
        arc = {"IDENTITY_ENDPOINT": f"{endpoint.url}/token", "IMDS_ENDPOINT": endpoint.url}
        check = Check(tmp_path, {**base, **arc, "IDENTITY_TYPE": "systemassigned"})
        assert check.step("token")["facts"]["code"] == "ArcKeyMissing"
        assert "mount /var/opt/azcmagent/tokens" in check.advice("token")


def test_a_metadata_service_that_is_updated_is_asked_again(
    launch: Launch, target: Upstream
) -> None:
    with Endpoint(lambda: iter([refusal(404, b"")])) as endpoint:
        proxy = launch(
            ready=False,
            without=("IDENTITY_ENDPOINT", "IDENTITY_HEADER"),
            **metadata_service(endpoint),
        )
        error = proxy.wait_for_event(FAILED)["Error"]
        assert "IdentityEndpointUpdating" in error
        assert "no response" not in error
        expires = {"expires_in": "3600", "access_token": "the-token"}
        endpoint.pieces = lambda: iter([whole(json.dumps(expires).encode())])
        proxy.wait_ready()


# Time: what takes half a minute and more.


@pytest.fixture
def endpoints(authority: Authority) -> Iterator[Callable[..., Endpoint]]:
    with ExitStack() as stack:

        def listen(pieces: Pieces, *, tls: bool = False) -> Endpoint:
            context = authority.context() if tls else None
            return stack.enter_context(Endpoint(pieces, context))

        yield listen


DRIPPING_HEAD = b"HTTP/1.1 200 OK\r\nX: "
DRIPPING_BODY = HEAD + b"Content-Length: 500\r\n\r\n{"


def has_logged(proxy: ProxyProcess, text: str) -> bool:
    return text in proxy.log


@pytest.mark.slow
def test_endpoints_that_drip_are_given_up_and_asked_again(
    launch: Launch,
    target: Upstream,
    authority: Authority,
    endpoints: Callable[..., Endpoint],
    tmp_path: Path,
) -> None:
    """All at the same time, as each takes half a minute."""
    body, head = dripping(DRIPPING_BODY, 8), dripping(DRIPPING_HEAD, 3)
    app, imds, arc = endpoints(body), endpoints(head), endpoints(body)
    keys, fabric = endpoints(head, tls=True), endpoints(dripping(b"", 1000), tls=True)
    shell, entra, api_server = endpoints(head), endpoints(body, tls=True), endpoints(head, tls=True)
    service_account = tmp_path / "token"
    service_account.write_text("of-the-service-account")
    application = {
        "AAD_TENANT_ID": "11111111-2222-3333-4444-555555555555",
        "AAD_CLIENT_ID": "client",
    }
    homes: list[tuple[Endpoint, dict[str, str], tuple[str, ...], str]] = [
        (app, app_service(app), (), FAILED),
        (
            imds,
            {"AZURE_POD_IDENTITY_AUTHORITY_HOST": imds.url},
            APP_SERVICE,
            FAILED,
        ),
        (
            arc,
            {"IDENTITY_ENDPOINT": f"{arc.url}/t", "IMDS_ENDPOINT": arc.url},
            ("IDENTITY_HEADER",),
            FAILED,
        ),
        (
            fabric,
            {
                **app_service(fabric),
                "IDENTITY_SERVER_THUMBPRINT": fabric.thumbprint,
                "HTTPS_PROXY": "http://127.0.0.1:1",
            },
            (),
            FAILED,
        ),
        (shell, {"MSI_ENDPOINT": f"{shell.url}/token"}, APP_SERVICE, FAILED),
        (
            entra,
            {
                **application,
                "IDENTITY_TYPE": "aadapplication",
                "AAD_CLIENT_SECRET": "secret",
                "AAD_AUTHORITY_HOST": entra.url,
                "REQUESTS_CA_BUNDLE": str(authority.bundle),
            },
            (),
            FAILED,
        ),
        (
            api_server,
            {
                **application,
                "IDENTITY_TYPE": "workloadidentity",
                "AZURE_FEDERATED_TOKEN_FILE": str(service_account),
                "AZURE_KUBERNETES_TOKEN_PROXY": api_server.url,
                "AZURE_KUBERNETES_CA_FILE": str(authority.bundle),
                "HTTPS_PROXY": "http://127.0.0.1:1",
                "NO_PROXY": "localhost",
            },
            (),
            FAILED,
        ),
        (
            keys,
            {
                "INBOUND_JWKS_URL": f"{keys.url}/keys",
                "INBOUND_JWKS_CA_FILE": str(authority.bundle),
                "INBOUND_JWT_ISSUER": ISSUER,
                "INBOUND_JWT_AUDIENCE": CALLERS,
                "INBOUND_JWT_SUBJECTS": "**",
            },
            (),
            "Failed to fetch the keys of inbound tokens",
        ),
    ]
    nowhere = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1"}
    proxies = [
        launch(ready=False, without=without, **{**nowhere, **settings})
        for _, settings, without, _ in homes
    ]
    for proxy, (endpoint, _, _, failed) in zip(proxies, homes, strict=True):
        wait_until("it is given up", partial(has_logged, proxy, failed), deadline=60)
        assert "timed out" in proxy.wait_for_event(failed)["Error"]
        endpoint.wait_for_requests(2)
        assert proxy.get("/health").status == 200
        assert proxy.get("/ready").status == 503
        assert json.loads(proxy.get("/ready").body)["status"]


@pytest.mark.slow
def test_the_former_token_is_sent_while_the_endpoint_drips(
    launch: Launch, target: Upstream
) -> None:
    expires_on = int(time.time()) + 100
    with Endpoint(lambda: iter([token(expires_on)])) as endpoint:
        proxy = launch(**app_service(endpoint), AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE="99")
        endpoint.pieces = dripping(DRIPPING_BODY, 2)
        # Due 30 s after the first, given up 30 s later.
        wait_until("a refresh is given up", lambda: FAILED in proxy.log, deadline=90)
        event = proxy.wait_for_event(FAILED)
        assert event["level"] == "warning"
        assert "IdentityTimeout" in event["Error"]
        assert proxy.get("/x").status == 200
        endpoint.wait_for_requests(3)  # a refresh that drips, and another attempt
        endpoint.pieces = lambda: iter([token(int(time.time()) + HOUR)])
    assert target.only().one("Authorization") == "Bearer the-token"


# A thread that has ended all the same.

#: Raises in the refresher's thread once a file is there: a fault in authproxy, as it were.
BREAKS = """
import os
from authproxy.identity.refresher import Refresher

begin_due = Refresher._begin_due

def breaks(self):
    if os.path.exists({path!r}):
        raise ZeroDivisionError("a bug")
    return min(0.2, begin_due(self))

Refresher._begin_due = breaks
"""


def test_health_names_the_thread_that_has_ended(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    (tmp_path / "sitecustomize.py").write_text(BREAKS.format(path=str(broken)))
    proxy = launch(tracebacks=True, PYTHONPATH=f"{tmp_path}:{SOURCE}")
    assert proxy.get("/health").status == 200
    broken.touch()
    wait_until("/health tells", lambda: proxy.get("/health").status == 503)
    body = json.loads(proxy.get("/health").body)
    assert body["status"] == "a thread has ended: refresher"
    assert proxy.wait_for_event("The refresher ended by an unexpected error")
    assert proxy.get("/x").status == 200  # with the token that there is
