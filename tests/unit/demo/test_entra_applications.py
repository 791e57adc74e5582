"""The stand-in's v2.0 endpoints, asked by the real azure-identity and by hand."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
import trustme
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    WorkloadIdentityCredential,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authproxy.demo.stand_ins.signing import SigningKey
from tests.support.signing import jwks_of
from tests.support.stand_ins.applications import (
    Application,
    FederatedCredential,
    ServiceAccountIssuer,
)
from tests.support.stand_ins.entra import StandInEntra, asked_claims

RESOURCE = "https://monitor.azure.com"
SCOPE = f"{RESOURCE}/.default"
SECRET = "well~kept"
SUBJECT = "system:serviceaccount:monitoring:authproxy"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Client:
    """Makes the credentials of one application, trusting the stand-in's CA."""

    def __init__(self, entra: StandInEntra, ca_file: Path, stack: ExitStack) -> None:
        self._entra = entra
        self._stack = stack
        self._options: dict[str, Any] = {
            "authority": entra.authority_host,
            "disable_instance_discovery": True,
            "connection_verify": str(ca_file),
            "retry_total": 0,
        }

    def secret(self, client_id: str, secret: str = SECRET, tenant: str = "") -> Any:
        return self._stack.enter_context(
            ClientSecretCredential(tenant or self._entra.tenant, client_id, secret, **self._options)
        )

    def certificate(self, client_id: str, pem: bytes, *, chain: bool) -> Any:
        return self._stack.enter_context(
            CertificateCredential(
                self._entra.tenant,
                client_id,
                certificate_data=pem,
                send_certificate_chain=chain,
                **self._options,
            )
        )

    def workload(self, client_id: str, token_file: Path) -> Any:
        return self._stack.enter_context(
            WorkloadIdentityCredential(
                tenant_id=self._entra.tenant,
                client_id=client_id,
                token_file_path=str(token_file),
                **self._options,
            )
        )


@pytest.fixture
def client(entra: StandInEntra, ca_file: Path) -> Iterator[Client]:
    with ExitStack() as stack:
        yield Client(entra, ca_file, stack)


@pytest.fixture(scope="module")
def company() -> trustme.CA:
    return trustme.CA()


class KeyPair:
    """A client certificate with its RSA key, issued by `company`."""

    def __init__(self, company: trustme.CA) -> None:
        leaf = company.issue_cert(common_name="authproxy", key_type=trustme.KeyType.RSA)
        self.pem = leaf.private_key_and_cert_chain_pem.bytes()
        self.certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        self.key = load_pem_private_key(leaf.private_key_pem.bytes(), None)


@pytest.fixture(scope="module")
def key_pair(company: trustme.CA) -> KeyPair:
    return KeyPair(company)


@pytest.fixture(scope="module")
def other_key_pair(company: trustme.CA) -> KeyPair:
    return KeyPair(company)


@pytest.fixture(scope="module")
def cluster() -> ServiceAccountIssuer:
    return ServiceAccountIssuer()


def ask(entra: StandInEntra, http: requests.Session, **form: str) -> requests.Response:
    """Send a token request with this form; `tenant` goes into the path."""
    tenant = form.pop("tenant", entra.tenant)
    return http.post(
        f"{entra.authority_host}/{tenant}/oauth2/v2.0/token",
        data={"grant_type": "client_credentials", "scope": SCOPE, **form},
        timeout=20,
    )


# -- Who gets a token ----------------------------------------------------------


def test_a_secret_buys_a_token(entra: StandInEntra, client: Client) -> None:
    application = entra.register(Application(secret=SECRET))
    token = client.secret(application.client_id).get_token(SCOPE)
    claims = entra.signing_key.verify(token.token)
    assert claims["aud"] == RESOURCE
    assert claims["appid"] == application.client_id
    assert claims["oid"] == application.object_id
    assert claims["appidacr"] == "1"


def test_the_application_environment_is_all_that_a_client_needs(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    application = entra.register(Application(secret=SECRET))
    environment = entra.application_environment(application, tmp_path / "bundle.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", environment["REQUESTS_CA_BUNDLE"])
    with ClientSecretCredential(
        environment["AAD_TENANT_ID"],
        environment["AAD_CLIENT_ID"],
        SECRET,
        authority=environment["AAD_AUTHORITY_HOST"],
        disable_instance_discovery=True,
    ) as credential:
        assert credential.get_token(SCOPE).token == entra.issued[0].value


@pytest.mark.parametrize("chain", [False, True])
def test_a_registered_certificate_buys_a_token(
    entra: StandInEntra, client: Client, key_pair: KeyPair, chain: bool
) -> None:
    application = entra.register(Application(certificates=(key_pair.certificate,)))
    client.certificate(application.client_id, key_pair.pem, chain=chain).get_token(SCOPE)
    assert entra.issued[0].claims["appidacr"] == "2"
    assertion = entra.requests[-1].form["client_assertion"]
    assert ("x5c" in jwt.get_unverified_header(assertion)) == chain


def test_a_certificate_of_a_trusted_issuer_needs_its_chain(
    entra: StandInEntra, client: Client, key_pair: KeyPair, company: trustme.CA
) -> None:
    issuer = x509.load_pem_x509_certificate(company.cert_pem.bytes())
    application = entra.register(Application(trusted_issuer=issuer))
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
        client.certificate(application.client_id, key_pair.pem, chain=False).get_token(SCOPE)
    client.certificate(application.client_id, key_pair.pem, chain=True).get_token(SCOPE)
    assert len(entra.issued) == 1


def test_a_certificate_of_another_issuer_is_refused(
    entra: StandInEntra, client: Client, company: trustme.CA
) -> None:
    issuer = x509.load_pem_x509_certificate(company.cert_pem.bytes())
    application = entra.register(Application(trusted_issuer=issuer))
    stranger = KeyPair(trustme.CA())
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
        client.certificate(application.client_id, stranger.pem, chain=True).get_token(SCOPE)


def test_a_service_account_token_buys_a_token(
    entra: StandInEntra, client: Client, cluster: ServiceAccountIssuer, tmp_path: Path
) -> None:
    application = entra.register(Application(federated=(FederatedCredential(cluster, SUBJECT),)))
    token_file = tmp_path / "token"
    token_file.write_text(cluster.token(SUBJECT, now=time.time()))
    client.workload(application.client_id, token_file).get_token(SCOPE)
    assert entra.issued[0].claims["appid"] == application.client_id


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"subject": "system:serviceaccount:monitoring:other"}, 70021),
        ({"audience": "api://other"}, 70021),
        ({"lifetime": -10}, 700024),
    ],
)
def test_a_service_account_token_that_does_not_fit_is_refused(
    entra: StandInEntra,
    client: Client,
    cluster: ServiceAccountIssuer,
    tmp_path: Path,
    claims: dict[str, Any],
    code: int,
) -> None:
    application = entra.register(Application(federated=(FederatedCredential(cluster, SUBJECT),)))
    token_file = tmp_path / "token"
    token_file.write_text(cluster.token(**{"subject": SUBJECT, "now": time.time(), **claims}))
    with pytest.raises(ClientAuthenticationError, match=rf"AADSTS{code}:"):
        client.workload(application.client_id, token_file).get_token(SCOPE)


def test_a_service_account_token_of_an_impostor_is_refused(
    entra: StandInEntra,
    client: Client,
    cluster: ServiceAccountIssuer,
    other_key: SigningKey,
    tmp_path: Path,
) -> None:
    application = entra.register(Application(federated=(FederatedCredential(cluster, SUBJECT),)))
    token_file = tmp_path / "token"
    impostor = ServiceAccountIssuer(signing_key=other_key)
    token_file.write_text(impostor.token(SUBJECT, now=time.time()))
    with pytest.raises(ClientAuthenticationError, match="AADSTS50027:"):
        client.workload(application.client_id, token_file).get_token(SCOPE)


# -- Who gets none -------------------------------------------------------------


def test_a_wrong_secret_is_refused(entra: StandInEntra, client: Client) -> None:
    application = entra.register(Application(secret=SECRET))
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215: Invalid client secret"):
        client.secret(application.client_id, "wrong").get_token(SCOPE)


def test_an_unknown_application_is_refused(client: Client) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS700016: Application with ident"):
        client.secret("5e3e1d0f-0000-4000-8000-000000000000").get_token(SCOPE)


def test_an_unknown_resource_is_refused(entra: StandInEntra, client: Client) -> None:
    application = entra.register(Application(secret=SECRET))
    with pytest.raises(ClientAuthenticationError, match="AADSTS500011: The resource principal"):
        client.secret(application.client_id).get_token("https://unknown.example.com/.default")


def test_an_unknown_tenant_has_no_configuration(entra: StandInEntra, client: Client) -> None:
    with pytest.raises(ClientAuthenticationError, match="Unable to get authority configuration"):
        client.secret("any", tenant="5e3e1d0f-0000-4000-8000-000000000000").get_token(SCOPE)


@pytest.mark.parametrize(
    ("form", "status", "error", "code"),
    [
        ({"tenant": "nowhere"}, 400, "invalid_request", 90002),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"client_id": "nobody"}, 400, "unauthorized_client", 700016),
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": ""}, 401, "invalid_client", 7000215),
        ({"scope": RESOURCE}, 400, "invalid_scope", 1002012),
        ({"scope": "https://unknown.example.com/.default"}, 400, "invalid_resource", 500011),
    ],
)
def test_a_refusal_has_the_form_of_the_real_one(
    entra: StandInEntra,
    http: requests.Session,
    form: dict[str, str],
    status: int,
    error: str,
    code: int,
) -> None:
    application = entra.register(Application(secret=SECRET))
    answer = ask(
        entra, http, **{"client_id": application.client_id, "client_secret": SECRET, **form}
    )
    content = answer.json()
    assert answer.status_code == status
    assert content["error"] == error
    assert content["error_codes"] == [code]
    description = content["error_description"]
    assert description.startswith(f"AADSTS{code}: ")
    for key in ("trace_id", "correlation_id", "timestamp"):
        assert content[key] in description
    assert content["error_uri"].endswith(f"={code}")
    assert not entra.issued


def test_without_secret_and_assertion_there_is_nothing_to_check(
    entra: StandInEntra, http: requests.Session
) -> None:
    application = entra.register(Application(secret=SECRET))
    answer = ask(entra, http, client_id=application.client_id)
    assert (answer.status_code, answer.json()["error_codes"]) == (401, [7000216])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"aud": "https://login.example.com/other"}, 700023),
        ({"sub": "somebody"}, 700021),
        ({"exp": 1}, 700024),
        ({"nbf": 9999999999}, 700024),
    ],
)
def test_the_claims_of_an_assertion_count(
    entra: StandInEntra,
    http: requests.Session,
    key_pair: KeyPair,
    change: dict[str, Any],
    code: int | None,
) -> None:
    application = entra.register(Application(certificates=(key_pair.certificate,)))
    answer = assert_with(entra, http, application, key_pair, key_pair, **change)
    assert answer.json().get("error_codes") == (None if code is None else [code])
    assert answer.status_code == (200 if code is None else 401)


def test_an_assertion_signed_with_another_key_is_refused(
    entra: StandInEntra, http: requests.Session, key_pair: KeyPair, other_key_pair: KeyPair
) -> None:
    application = entra.register(Application(certificates=(key_pair.certificate,)))
    answer = assert_with(entra, http, application, key_pair, other_key_pair)
    assert answer.json()["error_codes"] == [700027]
    assert "use of the key to verify the signature failed" in answer.json()["error_description"]


@pytest.mark.parametrize("assertion", ["junk", "a.b.c", "e30.W10.e30"])
def test_an_assertion_that_is_no_token_is_refused(
    entra: StandInEntra, http: requests.Session, assertion: str
) -> None:
    application = entra.register(Application(secret=SECRET))
    answer = ask(
        entra,
        http,
        client_id=application.client_id,
        client_assertion_type=JWT_BEARER,
        client_assertion=assertion,
    )
    assert answer.json()["error_codes"] == [50027]


def assert_with(
    entra: StandInEntra,
    http: requests.Session,
    application: Application,
    named: KeyPair,
    signer: KeyPair,
    **change: Any,
) -> requests.Response:
    """Ask with an assertion that names one certificate and is signed with another's key."""
    now = int(time.time())
    claims = {
        "aud": f"{entra.authority_host}/{entra.tenant}/oauth2/v2.0/token",
        "iss": application.client_id,
        "sub": application.client_id,
        "nbf": now,
        "exp": now + 600,
        **change,
    }
    thumbprint = named.certificate.fingerprint(hashes.SHA256())
    header = {"x5t#S256": base64.urlsafe_b64encode(thumbprint).decode().rstrip("=")}
    assertion = jwt.encode(claims, signer.key, algorithm="PS256", headers=header)  # type: ignore[arg-type]
    return ask(
        entra,
        http,
        client_id=application.client_id,
        client_assertion_type=JWT_BEARER,
        client_assertion=assertion,
    )


# -- What else the token endpoint does -----------------------------------------


def test_capabilities_asked_for_show_in_the_token(entra: StandInEntra, client: Client) -> None:
    application = entra.register(Application(secret=SECRET))
    client.secret(application.client_id).get_token(SCOPE, enable_cae=True)
    assert entra.issued[0].claims["xms_cc"] == ["CP1"]


def test_the_claims_of_a_challenge_arrive_decoded(entra: StandInEntra, client: Client) -> None:
    application = entra.register(Application(secret=SECRET))
    demanded = {"access_token": {"nbf": {"essential": True, "value": "1700000000"}}}
    client.secret(application.client_id).get_token(SCOPE, claims=json.dumps(demanded))
    request = entra.requests[-1]
    assert asked_claims(request)["access_token"]["nbf"] == demanded["access_token"]["nbf"]


def test_refresh_in_is_told_where_it_is_set(entra: StandInEntra, http: requests.Session) -> None:
    application = entra.register(Application(secret=SECRET))
    entra.lifetime, entra.refresh_in = 7200, 1800
    answer = ask(entra, http, client_id=application.client_id, client_secret=SECRET).json()
    assert answer["refresh_in"] == 1800
    assert 7190 <= answer["expires_in"] <= 7200


def test_discovery_leads_to_the_endpoints(entra: StandInEntra, http: requests.Session) -> None:
    base = f"{entra.authority_host}/{entra.tenant}"
    content = http.get(f"{base}/v2.0/.well-known/openid-configuration", timeout=20).json()
    assert content["token_endpoint"] == f"{base}/oauth2/v2.0/token"
    assert http.get(content["jwks_uri"], timeout=20).json() == jwks_of(entra.signing_key)
    assert http.get(f"{base}/elsewhere", timeout=20).status_code == 404
