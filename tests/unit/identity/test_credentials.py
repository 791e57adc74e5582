"""Tokens from the real azure-identity, over sockets, from a stand-in Entra."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from authproxy.clock import Clock, SystemClock
from authproxy.demo.stand_ins.loopback import Response
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.identity.credentials import TokenFetcher
from authproxy.identity.lifetimes import FetchedToken
from authproxy.identity.refresher import Refresher
from authproxy.identity.rotation import RotatingCertificate
from authproxy.identity.tokens import TokenSource
from authproxy.tls import TLSContextCache
from tests.support.client_certificates import (
    ClientAuthority,
    ClientCertificate,
    client_authority,
    replace_file,
)
from tests.support.clock import FakeClock
from tests.support.fetching import fetcher, refused
from tests.support.identity import settings_for
from tests.support.stand_ins.applications import (
    Application,
    FederatedCredential,
    ServiceAccountIssuer,
)
from tests.support.stand_ins.entra import StandInEntra, asked_claims
from tests.support.stand_ins.faults import FaultyStandIn

AUDIENCE = "https://monitor.azure.com"
SECRET = "kept~under~wraps"
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity of the machine that runs the tests."""
    for name in os.environ:
        if name.startswith(("AZURE_", "AAD_", "IDENTITY_", "MSI_", "IMDS_")):
            monkeypatch.delenv(name)
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def module_entra(signing_key: SigningKey) -> Iterator[StandInEntra]:
    with StandInEntra(signing_key=signing_key) as entra:
        yield entra


@pytest.fixture(scope="module")
def bundle(module_entra: StandInEntra, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority of the stand-in: to load it again for each test is most of what they take."""
    return module_entra.authority.write_bundle(tmp_path_factory.mktemp("entra") / "ca.pem")


@pytest.fixture
def entra(
    module_entra: StandInEntra, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandInEntra]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    module_entra.requests.clear()
    module_entra.issued.clear()
    yield module_entra
    module_entra.recover()
    module_entra.lifetime, module_entra.refresh_in = 3600, None


@pytest.fixture
def managed(entra: StandInEntra, monkeypatch: pytest.MonkeyPatch) -> StandInEntra:
    """The stand-in, found by azure-identity as App Service's identity endpoint."""
    for name, value in entra.managed_identity_environment().items():
        monkeypatch.setenv(name, value)
    return entra


def application(entra: StandInEntra, **proof: Any) -> dict[str, Any]:
    """Register an application and return the settings that name it."""
    registered = entra.register(Application(**proof))
    return {
        "aad_client_id": registered.client_id,
        "aad_tenant_id": entra.tenant,
        "aad_authority_host": entra.authority_host,
    }


def with_secret(entra: StandInEntra) -> TokenFetcher:
    names = application(entra, secret=SECRET)
    return fetcher("aadapplication", aad_client_secret=SECRET, **names)


def token_calls(entra: FaultyStandIn) -> int:
    return sum(request.path.endswith("/token") for request in entra.requests)


# Each identity type.


def test_a_system_assigned_identity_gets_its_token(managed: StandInEntra) -> None:
    token = fetcher("systemassigned")(None)
    (issued,) = managed.issued
    assert token.value == issued.value
    assert token.expires_on == pytest.approx(issued.claims["exp"], abs=2)
    assert issued.claims["aud"] == AUDIENCE


@pytest.mark.parametrize("home", ["App Service", "virtual machine"])
@pytest.mark.parametrize("by", ["client_id", "resource_id", "object_id"])
def test_a_user_assigned_identity_is_chosen_by_any_of_its_ids(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch, by: str, home: str
) -> None:
    machine = home == "virtual machine"
    where = entra.machine_environment() if machine else entra.managed_identity_environment()
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    identity = entra.assign()
    token = fetcher("userassigned", **{f"aad_{by}": getattr(identity, by)})(None)
    assert token.value == entra.issued[-1].value
    assert entra.issued[-1].claims["appid"] == identity.client_id


def test_an_application_gets_its_token_with_a_secret(entra: StandInEntra) -> None:
    entra.refresh_in = 1200
    token = with_secret(entra)(None)
    (issued,) = entra.issued
    assert token.value == issued.value
    assert token.expires_on == pytest.approx(issued.claims["exp"], abs=2)
    assert token.refresh_on == pytest.approx(issued.claims["iat"] + 1200, abs=2)


@pytest.fixture(scope="module")
def issuer() -> ClientAuthority:
    return client_authority()


@pytest.fixture(scope="module")
def certificate(issuer: ClientAuthority) -> ClientCertificate:
    return issuer.issue()


@pytest.mark.parametrize(
    ("name", "form", "password"),
    [
        ("client.pem", ClientCertificate.pem, None),
        ("client.pfx", ClientCertificate.pfx, b"pass word"),
    ],
)
def test_an_application_gets_its_token_with_a_certificate(
    entra: StandInEntra,
    certificate: ClientCertificate,
    tmp_path: Path,
    name: str,
    form: Callable[[ClientCertificate, bytes | None], bytes],
    password: bytes | None,
) -> None:
    path = tmp_path / name
    path.write_bytes(form(certificate, password))
    fetch = fetcher(
        "aadapplication",
        aad_client_certificate_path=str(path),
        aad_client_certificate_password=password.decode() if password else None,
        **application(entra, certificates=(certificate.certificate,)),
    )
    assert fetch(None).value == entra.issued[-1].value


def test_the_certificates_chain_is_sent_for_applications_that_trust_its_issuer(
    entra: StandInEntra, issuer: ClientAuthority, certificate: ClientCertificate, tmp_path: Path
) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(certificate.pem())
    fetch = fetcher(
        "aadapplication",
        aad_client_certificate_path=str(path),
        **application(entra, trusted_issuer=issuer.root),
    )
    assert fetch(None).value == entra.issued[-1].value


@pytest.fixture(scope="module")
def cluster() -> ServiceAccountIssuer:
    """One for all: to make its key takes longer than most tests."""
    return ServiceAccountIssuer()


@pytest.fixture
def workload(
    entra: StandInEntra,
    cluster: ServiceAccountIssuer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> dict[str, Any]:
    """A pod as the webhook leaves it: a service account's token and where it lies."""
    subject = "system:serviceaccount:monitoring:authproxy"
    names = application(entra, federated=(FederatedCredential(cluster, subject),))
    path = tmp_path / "service-account-token"
    path.write_text(cluster.token(subject, now=time.time()))
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(path))
    return names


def test_a_workload_identity_gets_its_token(entra: StandInEntra, workload: dict[str, Any]) -> None:
    token = fetcher("workloadidentity", **workload)(None)
    assert token.value == entra.issued[-1].value
    assert entra.issued[-1].claims["appid"] == workload["aad_client_id"]


def test_the_default_identity_is_the_managed_one_where_there_is_one(managed: StandInEntra) -> None:
    token = fetcher("default")(None)
    assert token.value == managed.issued[-1].value


def test_the_default_identity_heeds_the_client_id(managed: StandInEntra) -> None:
    identity = managed.assign()
    fetcher("default", aad_client_id=identity.client_id)(None)
    assert managed.issued[-1].claims["appid"] == identity.client_id


def test_the_default_identity_is_the_environments_application_first(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = application(entra, secret=SECRET)
    monkeypatch.setenv("AZURE_CLIENT_ID", names["aad_client_id"])
    monkeypatch.setenv("AZURE_TENANT_ID", names["aad_tenant_id"])
    monkeypatch.setenv("AZURE_CLIENT_SECRET", SECRET)
    token = fetcher("default", **names)(None)
    assert token.value == entra.issued[-1].value


@pytest.fixture
def az(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Put an `az` on the PATH that runs these shell lines, with its arguments noted."""

    def install(lines: str) -> Path:
        folder, arguments = tmp_path / "bin", tmp_path / "arguments"
        folder.mkdir()
        script = folder / "az"
        script.write_text(f'#!/bin/sh\necho "$@" >> {arguments}\n{lines}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return arguments

    return install


@pytest.mark.process
def test_the_azure_cli_gives_its_users_token(az: Callable[[str], Path]) -> None:
    expires_on = int(time.time()) + 3600
    output = {"accessToken": "token-of-the-desk", "expires_on": expires_on}
    arguments = az(f"echo '{json.dumps(output)}'")
    token = fetcher("azurecli")(None)
    assert token == FetchedToken("token-of-the-desk", expires_on)
    assert f"--resource {AUDIENCE}" in arguments.read_text()


@pytest.mark.parametrize("token", ["", "two\nlines", "with blank", "\u00e9"])
def test_a_token_that_no_header_can_carry_is_none(az: Callable[[str], Path], token: str) -> None:
    az(f"printf '%s' '{json.dumps({'accessToken': token, 'expires_on': 1_900_000_000})}'")
    assert "header" in str(refused(fetcher("azurecli")))


# A refresh is a refresh.


@pytest.mark.parametrize("kind", ["managed identity", "secret", "workload identity"])
def test_each_fetch_brings_a_new_token_with_a_later_expiry(
    managed: StandInEntra, workload: dict[str, Any], kind: str
) -> None:
    fetch = {
        "managed identity": lambda: fetcher("systemassigned"),
        "secret": lambda: with_secret(managed),
        "workload identity": lambda: fetcher("workloadidentity", **workload),
    }[kind]()
    first = fetch(None)
    managed.lifetime = 5000
    second = fetch(None)
    assert second.value != first.value
    assert second.expires_on > first.expires_on
    assert token_calls(managed) == 2


CLAIMS = '{"access_token": {"nbf": {"essential": true, "value": "1800000000"}}}'


@pytest.mark.parametrize("kind", ["secret", "workload identity"])
def test_the_claims_of_a_challenge_and_our_capability_to_answer_it_reach_entra(
    entra: StandInEntra, workload: dict[str, Any], kind: str
) -> None:
    fetch = with_secret(entra) if kind == "secret" else fetcher("workloadidentity", **workload)
    fetch(None)
    assert asked_claims(entra.requests[-1])["access_token"]["xms_cc"] == {"values": ["CP1"]}
    fetch(CLAIMS)
    asked = asked_claims(entra.requests[-1])["access_token"]
    assert asked["nbf"] == {"essential": True, "value": "1800000000"}
    assert asked["xms_cc"] == {"values": ["CP1"]}


def test_a_replaced_secret_file_is_used_from_the_next_fetch_on(
    entra: StandInEntra, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text("first")
    names = application(entra, secret="first")
    fetch = fetcher("aadapplication", aad_client_secret_file=str(path), **names)
    fetch(None)
    entra.register(Application(client_id=names["aad_client_id"], secret="second"))
    refused(fetch)
    path.write_text("second\n")
    assert fetch(None).value == entra.issued[-1].value


def test_a_secret_file_that_is_gone_is_named(entra: StandInEntra, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    names = application(entra, secret=SECRET)
    fetch = fetcher("aadapplication", aad_client_secret_file=str(path), **names)
    assert str(path) in str(refused(fetch))


# Rotation of the certificate.


def test_a_key_in_a_file_of_its_own_is_used_and_replaced_with_its_certificate(
    entra: StandInEntra, issuer: ClientAuthority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = issuer.issue("old.example.com"), issuer.issue("new.example.com")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def write(path: Path, of: ClientCertificate) -> None:
        pem = of.pem(b"pass word")
        start = pem.index(b"-----BEGIN CERTIFICATE")
        replace_file(path, pem[start:] if path == certificate else pem[:start])

    write(certificate, old)
    write(key, old)
    fetch = fetcher(
        "aadapplication",
        aad_client_certificate_path=str(certificate),
        aad_client_certificate_key_path=str(key),
        aad_client_certificate_password="pass word",
        **application(entra, certificates=(old.certificate, new.certificate)),
    )
    with caplog.at_level(logging.INFO):
        fetch(None)
        write(certificate, new)  # its key is not there yet
        fetch(None)
        fetch(None)
        write(key, new)
        fetch(None)
    used = [jwt.get_unverified_header(r.form["client_assertion"]) for r in entra.requests if r.form]
    assert [header["x5c"][0] for header in used] == [
        b64encode(of.certificate.public_bytes(Encoding.DER)).decode() for of in (old, old, old, new)
    ]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert ["does not belong" in r.__dict__["fields"]["Error"] for r in errors] == [True]


class Rotation:
    """An application whose certificate file changes under a running fetcher."""

    def __init__(self, entra: StandInEntra, issuer: ClientAuthority, path: Path) -> None:
        self.entra, self.path = entra, path
        self.old, self.new = issuer.issue("old.example.com"), issuer.issue("new.example.com")
        registered = (self.old.certificate, self.new.certificate)
        path.write_bytes(self.old.pem())
        self.fetch = fetcher(
            "aadapplication",
            aad_client_certificate_path=str(path),
            **application(entra, certificates=registered),
        )

    def certificate_used(self) -> str:
        """Fetch; return the leaf of the chain that the assertion carried."""
        self.fetch(None)
        assertion = self.entra.requests[-1].form["client_assertion"]
        header = jwt.get_unverified_header(assertion)
        return str(header["x5c"][0])


def leaf(certificate: ClientCertificate) -> str:
    return b64encode(certificate.certificate.public_bytes(Encoding.DER)).decode()


@pytest.fixture
def rotation(entra: StandInEntra, issuer: ClientAuthority, tmp_path: Path) -> Rotation:
    return Rotation(entra, issuer, tmp_path / "client.pem")


def test_a_rotated_certificate_is_used_from_the_next_fetch_on_and_logged(
    rotation: Rotation, caplog: pytest.LogCaptureFixture
) -> None:
    assert rotation.certificate_used() == leaf(rotation.old)
    replace_file(rotation.path, rotation.new.pem())
    with caplog.at_level(logging.INFO, "authproxy"):
        assert rotation.certificate_used() == leaf(rotation.new)
        assert rotation.certificate_used() == leaf(rotation.new)
    (record,) = [r for r in caplog.records if r.name == "authproxy.identity.rotation"]
    fields = record.__dict__["fields"]
    assert record.getMessage() == "Client certificate in use"
    assert fields["Subject"].startswith("CN=new.example.com")
    not_after = rotation.new.certificate.not_valid_after_utc
    assert fields["ExpiresOn"] == f"{not_after:%Y-%m-%dT%H:%M:%SZ}"


BROKEN: dict[str, Callable[[ClientCertificate, ClientCertificate], bytes | None]] = {
    "missing": lambda old, new: None,
    "empty": lambda old, new: b"",
    "half written": lambda old, new: new.pem()[:900],
    "without a key": lambda old, new: new.certificates_pem(),
    "encrypted, without a password": lambda old, new: new.pem(b"other"),
    "key and certificate of two": lambda old, new: (
        new.pem().split(b"-----BEGIN CERTIFICATE")[0] + old.certificates_pem()
    ),
    "expired": lambda old, new: client_authority().issue("late.example.com", days=-0.5).pem(),
    "not valid yet": lambda old, new: (
        client_authority().issue("early.example.com", starts_in_days=1).pem()
    ),
}


def rotating_certificate(
    path: Path, first: ClientCertificate, clock: Clock | None = None
) -> RotatingCertificate:
    path.write_bytes(first.pem())
    settings = settings_for("aadapplication", aad_client_certificate_path=str(path))
    return RotatingCertificate(settings, clock or SystemClock())


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_new_certificate_keeps_the_old_one_and_says_so_once(
    issuer: ClientAuthority, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = issuer.issue("old.example.com"), issuer.issue("new.example.com")
    path = tmp_path / "client.pem"
    rotating = rotating_certificate(path, old)
    first = rotating.current()
    data = BROKEN[fault](old, new)
    if data is None:
        path.unlink()
    else:
        replace_file(path, data)
    for _ in range(2):
        assert rotating.current() is first
    (record,) = [r for r in caplog.records if r.name == "authproxy.identity.rotation"]
    assert record.levelno == logging.ERROR
    assert "previous one stays in use" in record.getMessage()
    assert record.__dict__["fields"]["Path"] == str(path)
    replace_file(path, new.pem())
    assert rotating.current().subject.startswith("CN=new.example.com")


def test_a_second_broken_file_is_told_again(
    certificate: ClientCertificate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "client.pem"
    rotating = rotating_certificate(path, certificate)
    first = rotating.current()
    for data in (b"nonsense", b""):
        replace_file(path, data)
        for _ in range(2):
            assert rotating.current() is first
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 2


def test_a_certificate_that_was_never_good_is_an_error_that_names_setting_and_file(
    entra: StandInEntra, tmp_path: Path
) -> None:
    path = tmp_path / "client.pem"
    names = application(entra)
    fetch = fetcher("aadapplication", aad_client_certificate_path=str(path), **names)
    error = str(refused(fetch))
    assert f"AAD_CLIENT_CERTIFICATE_PATH={path}" in error
    assert "no such file" in error


def test_a_certificate_that_expires_within_thirty_days_is_warned_of_once_a_day(
    issuer: ClientAuthority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(wall=time.time())
    rotating = rotating_certificate(tmp_path / "client.pem", issuer.issue(days=32.5), clock)

    def warnings() -> int:
        return len([r for r in caplog.records if r.levelno == logging.WARNING])

    rotating.current()
    assert warnings() == 0
    clock.advance(3 * 24 * 3600)
    for _ in range(4):
        rotating.current()
        clock.advance(6 * 3600)
    assert warnings() == 1
    rotating.current()
    assert warnings() == 2


# What goes wrong.


def kinds(entra: StandInEntra, workload: dict[str, Any]) -> dict[str, TokenFetcher]:
    return {
        "managed identity": fetcher("systemassigned"),
        "default": fetcher("default"),
        "secret": with_secret(entra),
        "workload identity": fetcher("workloadidentity", **workload),
    }


KINDS = ["managed identity", "default", "secret", "workload identity"]


@pytest.mark.parametrize("kind", KINDS)
def test_being_throttled_costs_one_call_and_says_how_long_to_wait(
    managed: StandInEntra, workload: dict[str, Any], kind: str
) -> None:
    fetch = kinds(managed, workload)[kind]
    managed.fail_with(429, {"error": "busy"}, {"Retry-After": "17"}, path="/token")
    error = refused(fetch)
    assert error.retry_after == 17
    assert error.explanation is not None
    assert error.explanation.code == "IdentityThrottled"
    assert token_calls(managed) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_endpoint_costs_one_call(
    managed: StandInEntra, workload: dict[str, Any], kind: str
) -> None:
    fetch = kinds(managed, workload)[kind]
    managed.fail_with(500, {"error": "server_error"}, path="/token")
    error = refused(fetch)
    assert error.retry_after is None
    assert error.explanation is not None
    assert error.explanation.code == "IdentityEndpointFailing"
    assert token_calls(managed) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_not_json_is_no_token_and_no_crash(
    managed: StandInEntra, workload: dict[str, Any], kind: str
) -> None:
    fetch = kinds(managed, workload)[kind]
    managed.garbage()
    refused(fetch)
    managed.recover()
    assert fetch(None).value == managed.issued[-1].value


@pytest.mark.parametrize("kind", ["managed identity", "secret", "workload identity"])
def test_json_that_is_no_token_answer_is_no_token_and_no_crash(
    managed: StandInEntra, workload: dict[str, Any], kind: str
) -> None:
    fetch = kinds(managed, workload)[kind]
    for body in ("[]", "null", '"text"', "{}", '{"access_token": 1}', ""):
        managed.fail_with(200, body, {"Content-Type": "application/json"}, path="/token")
        refused(fetch)


@pytest.fixture
def source(managed: StandInEntra) -> Iterator[TokenSource]:
    refresher = Refresher()
    made = TokenSource(fetcher("systemassigned"), refresher, percentage=10)
    refresher.start()
    yield made
    made.stop()
    refresher.stop()


def test_a_hanging_entra_does_not_hold_up_the_end(
    managed: StandInEntra, source: TokenSource
) -> None:
    managed.hang()
    before = threading.enumerate()  # those of another test may end meanwhile
    source.start()
    managed.wait_for_requests(1, PATIENCE)
    fetching = [each for each in threading.enumerate() if each.name == "fetch"]
    fetching = [each for each in fetching if each not in before]
    source.stop()
    assert all(thread.is_alive() for thread in fetching), "stop() has waited for the fetch"
    managed.recover()
    for thread in fetching:
        thread.join(PATIENCE)


def test_a_token_source_recovers_from_an_outage_of_the_real_thing(
    managed: StandInEntra, source: TokenSource
) -> None:
    managed.fail_with(503, times=1)
    source.start()
    with source._changed:
        assert source._changed.wait_for(lambda: source.ready, PATIENCE)
    assert source.current().value == managed.issued[-1].value


def test_a_wrong_secret_is_explained_with_entras_message_and_without_the_secret(
    entra: StandInEntra,
) -> None:
    names = application(entra, secret="the right one")
    error = refused(fetcher("aadapplication", aad_client_secret=SECRET, **names))
    assert error.explanation is not None
    assert error.explanation.code == "AADSTS7000215"
    assert "AADSTS7000215" in error.detail
    assert "Trace ID" in error.detail
    assert error.detail.count("AADSTS7000215") == 1
    assert error.detail.endswith("[HTTP 401 from 127.0.0.1]")
    assert str(error).startswith("The client secret is wrong")
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"aad_tenant_id": "11111111-2222-3333-4444-555555555555"}, "AADSTS90002"),
        ({"aad_client_id": "11111111-2222-3333-4444-555555555555"}, "AADSTS700016"),
        ({"audience": "https://elsewhere.example.com"}, "AADSTS500011"),
    ],
)
def test_what_entra_does_not_know_is_explained(
    entra: StandInEntra, change: dict[str, str], code: str
) -> None:
    names = application(entra, secret=SECRET)
    given = {"aad_client_secret": SECRET, **names, **change}
    error = refused(fetcher("aadapplication", **given))
    assert error.explanation is not None
    assert error.explanation.code == code


def test_an_unregistered_certificate_is_explained(
    entra: StandInEntra, certificate: ClientCertificate, tmp_path: Path
) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(certificate.pem())
    names = application(entra)
    error = refused(fetcher("aadapplication", aad_client_certificate_path=str(path), **names))
    assert error.explanation is not None
    assert error.explanation.code == "AADSTS700027"
    assert entra.requests[-1].form["client_assertion"] not in str(error)


def test_a_service_account_without_federation_is_explained(
    entra: StandInEntra, workload: dict[str, Any]
) -> None:
    entra.register(Application(client_id=workload["aad_client_id"]))
    error = refused(fetcher("workloadidentity", **workload))
    assert error.explanation is not None
    assert error.explanation.code.startswith("AADSTS7002")


def test_a_missing_service_account_token_is_named(
    workload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token")
    assert "/nowhere/token" in str(refused(fetcher("workloadidentity", **workload)))


def test_an_identity_that_does_not_exist_is_explained(managed: StandInEntra) -> None:
    missing = "11111111-2222-3333-4444-555555555555"
    error = refused(fetcher("userassigned", aad_client_id=missing))
    assert error.explanation is not None
    assert error.explanation.code == "IdentityNotFound"
    assert "AAD_CLIENT_ID" in error.explanation.hint


def test_an_untrusted_authority_is_explained(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    error = refused(with_secret(entra))
    assert error.explanation is not None
    assert error.explanation.code == "AuthorityNotTrusted"
    assert entra.issued == []


def test_an_authority_may_be_trusted_by_ssl_cert_file(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.environ["REQUESTS_CA_BUNDLE"])
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert with_secret(entra)(None).value == entra.issued[-1].value


def test_a_replaced_bundle_is_trusted_from_the_next_fetch_on(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = Path(os.environ["REQUESTS_CA_BUNDLE"]).read_bytes()
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    fetch = with_secret(entra)
    for _ in range(2):
        explanation = refused(fetch).explanation
        assert explanation is not None
        assert explanation.code == "AuthorityNotTrusted"
    replace_file(bundle, right)
    assert fetch(None).value == entra.issued[-1].value


def test_the_authorities_are_loaded_once() -> None:
    kept = TLSContextCache()
    assert kept.current() is kept.current()


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("https://nowhere.invalid", "AuthorityNotResolved"),
        ("https://127.0.0.1:1", "IdentityUnreachable"),
    ],
)
def test_an_authority_that_cannot_be_reached_is_explained(
    entra: StandInEntra, host: str, code: str
) -> None:
    names = {**application(entra, secret=SECRET), "aad_authority_host": host}
    error = refused(fetcher("aadapplication", aad_client_secret=SECRET, **names))
    assert error.explanation is not None
    assert error.explanation.code == code


def test_a_missing_azure_cli_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(fetcher("azurecli"))
    assert error.explanation is not None
    assert error.explanation.code == "AzureCliNotFound"


@pytest.mark.process
def test_a_signed_out_azure_cli_is_explained(az: Callable[[str], Path]) -> None:
    az("echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1")
    error = refused(fetcher("azurecli"))
    assert error.explanation is not None
    assert error.explanation.code == "AzureCliSignedOut"


# The metadata service of a virtual machine (IMDS).


@pytest.fixture
def imds(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStandIn]:
    service = FaultyStandIn()
    token = {"access_token": "of-the-machine", "expires_in": "3599", "resource": AUDIENCE}
    listener = service.listen(lambda request: Response.of_json(200, token))
    with service:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", listener.url)
        yield service


def test_a_virtual_machines_identity_gets_its_token(imds: FaultyStandIn) -> None:
    assert fetcher("systemassigned")(None).value == "of-the-machine"


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "retry_after"),
    [
        (404, "", {}, "IdentityEndpointUpdating", None),
        (410, {"error": "gone"}, {}, "IdentityEndpointUpdating", None),
        (401, {"error": "unknown_source"}, {}, "IdentityEndpointUnauthorized", None),
        (403, {"error": "access_denied"}, {}, "IdentityEndpointForbidden", None),
        (400, {"error": "bad_request_102"}, {}, "IdentityEndpointRefused", None),
        (403, "<html>Blocked</html>", {}, "IdentityIntercepted", None),
        (200, "<html>Sign in</html>", {}, "IdentityIntercepted", None),
        (200, {"error": "none"}, {}, "IdentityResponseUnusable", None),
        (429, {"error": "slow down"}, {"Retry-After": "5"}, "IdentityThrottled", 5),
        (500, {"error": "unknown"}, {}, "IdentityEndpointFailing", None),
        (503, "<html>", {}, "IdentityEndpointFailing", None),
        (
            400,
            {"error": "invalid_request", "error_description": "Identity not found"},
            {},
            "IdentityNotFound",
            None,
        ),
        (
            400,
            {
                "error": "invalid_request",
                "error_description": "Multiple user assigned identities exist, please specify "
                "the clientId / resourceId of the identity in the token request",
            },
            {},
            "IdentityAmbiguous",
            None,
        ),
    ],
)
def test_what_the_metadata_service_answers_is_explained_after_one_call(
    imds: FaultyStandIn,
    status: int,
    body: object,
    headers: dict[str, str],
    code: str,
    retry_after: float | None,
) -> None:
    imds.fail_with(status, body, headers)
    error = refused(fetcher("systemassigned"))
    assert error.explanation is not None
    assert error.explanation.code == code
    assert error.retry_after == retry_after
    assert "no response" not in str(error)
    assert f"HTTP {status} from 127.0.0.1" in error.detail
    assert len(imds.requests) == 1


def test_a_machine_without_metadata_service_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    error = refused(fetcher("systemassigned"))
    assert error.explanation is not None
    assert error.explanation.code == "NoIdentityEndpoint"


def test_where_no_default_identity_works_the_mend_is_to_choose_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(fetcher("default"))
    assert error.explanation is not None
    assert error.explanation.code == "NoDefaultIdentity"
    assert "Azure CLI not found" in error.detail


# What must not leak, or get in the way.


def test_a_netrc_file_is_not_read(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password private\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with_secret(entra)(None)
    assert not [request for request in entra.requests if request.headers["Authorization"]]


def test_a_managed_identity_endpoint_is_never_reached_through_a_proxy(
    managed: StandInEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetcher("systemassigned")(None).value == managed.issued[-1].value


def test_entra_is_reached_through_the_environments_proxy(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert "proxy" in str(refused(with_secret(entra))).lower()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert with_secret(entra)(None).value == entra.issued[-1].value


def test_all_proxy_leads_entra_no_other_way_than_the_target(
    entra: StandInEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    assert with_secret(entra)(None).value == entra.issued[-1].value


@pytest.mark.parametrize("kind", KINDS)
def test_no_log_line_of_any_level_shows_token_secret_or_assertion(
    managed: StandInEntra,
    workload: dict[str, Any],
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fetch = kinds(managed, workload)[kind]
    with caplog.at_level(logging.DEBUG):
        fetch(None)
        managed.fail_with(400, {"error": "invalid_client"}, path="/token")
        refused(fetch)
    said = "\n".join(f"{r.getMessage()} {r.__dict__}" for r in caplog.records)
    secret = {SECRET, os.environ["IDENTITY_HEADER"], managed.issued[0].value}
    secret |= {r.form["client_assertion"] for r in managed.requests if "client_assertion" in r.form}
    assert not [value for value in secret if value in said]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_quotes_no_token_and_no_secret(
    managed: StandInEntra, workload: dict[str, Any], kind: str
) -> None:
    token = managed.issue(AUDIENCE, "client", "object").value
    echo = f"{token} {SECRET} {os.environ['IDENTITY_HEADER']}"
    managed.fail_with(
        400, {"error": "bad", "error_description": echo, "message": echo}, path="/token"
    )
    error = refused(kinds(managed, workload)[kind])
    for text in (str(error), error.detail, error.summary):
        assert token not in text
        assert os.environ["IDENTITY_HEADER"] not in text
        assert kind != "secret" or SECRET not in text


def test_an_endless_error_is_cut(managed: StandInEntra) -> None:
    managed.fail_with(400, {"statusCode": 400, "message": "x" * 1_000_000})
    assert len(str(refused(fetcher("systemassigned")))) < 3000
