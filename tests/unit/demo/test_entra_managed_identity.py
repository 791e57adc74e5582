"""The stand-in's managed identity endpoint, asked by the real azure-identity."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import jwt
import pytest
import requests
from azure.core.exceptions import AzureError, HttpResponseError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential

from tests.support.stand_ins.entra import StandInEntra

RESOURCE = "https://monitor.azure.com"
SCOPE = f"{RESOURCE}/.default"

NewCredential = Callable[..., ManagedIdentityCredential]


@pytest.fixture
def credential(entra: StandInEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewCredential]:
    """Make credentials that find the stand-in by its environment, and do not retry."""
    for name, value in entra.managed_identity_environment().items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            ManagedIdentityCredential(retry_total=0, **options)
        )


def ask(entra: StandInEntra, http: requests.Session, **query: str) -> requests.Response:
    return http.get(
        entra.identity_endpoint,
        params={"api-version": "2019-08-01", "resource": RESOURCE, **query},
        headers={"X-IDENTITY-HEADER": entra.managed_identity_environment()["IDENTITY_HEADER"]},
        timeout=20,
    )


def test_a_token_is_a_signed_jwt_that_names_its_bearer(
    entra: StandInEntra, credential: NewCredential, http: requests.Session
) -> None:
    token = credential().get_token(SCOPE)
    keys = http.get(f"{entra.authority_host}/{entra.tenant}/discovery/v2.0/keys", timeout=20)
    key = jwt.PyJWKSet.from_dict(keys.json())[jwt.get_unverified_header(token.token)["kid"]]
    claims = jwt.decode(token.token, key, algorithms=["RS256"], audience=RESOURCE)
    assert entra.system_assigned is not None
    assert claims["appid"] == entra.system_assigned.client_id
    assert claims["oid"] == claims["sub"] == entra.system_assigned.object_id
    assert claims["tid"] == entra.tenant
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(token.expires_on - claims["exp"]) <= 2


def test_no_two_tokens_are_the_same(entra: StandInEntra, credential: NewCredential) -> None:
    first, second = (credential().get_token(SCOPE).token for _ in range(2))
    assert first != second
    assert [issued.value for issued in entra.issued] == [first, second]


def test_the_lifetime_can_change_at_any_time(
    entra: StandInEntra, credential: NewCredential
) -> None:
    credential().get_token(SCOPE)
    entra.lifetime = 90
    credential().get_token(SCOPE)
    assert [one.claims["exp"] - one.claims["iat"] for one in entra.issued] == [3600, 90]


def test_a_user_assigned_identity_gets_a_token_of_its_own(
    entra: StandInEntra, credential: NewCredential
) -> None:
    identity = entra.assign()
    credential(client_id=identity.client_id).get_token(SCOPE)
    assert entra.issued[-1].claims["appid"] == identity.client_id


def test_an_identity_that_was_not_assigned_is_unavailable(credential: NewCredential) -> None:
    with pytest.raises(CredentialUnavailableError, match="No User Assigned or Delegated"):
        credential(client_id="5e3e1d0f-0000-4000-8000-000000000000").get_token(SCOPE)


def test_a_machine_without_a_system_assigned_identity_is_refused(
    entra: StandInEntra, credential: NewCredential
) -> None:
    entra.system_assigned = None
    with pytest.raises(CredentialUnavailableError, match="400, Unable to load"):
        credential().get_token(SCOPE)


def test_whoever_does_not_know_the_header_is_refused(
    entra: StandInEntra, http: requests.Session
) -> None:
    answer = http.get(
        entra.identity_endpoint,
        params={"api-version": "2019-08-01", "resource": RESOURCE},
        headers={"X-IDENTITY-HEADER": "guessed"},
        timeout=20,
    )
    assert answer.status_code == 401
    assert answer.json()["statusCode"] == 401
    assert not entra.issued


def test_an_unknown_resource_gets_no_token(entra: StandInEntra, http: requests.Session) -> None:
    assert ask(entra, http, resource="https://unknown.example.com").status_code == 500
    assert not entra.issued


def test_the_answer_has_the_form_of_app_service(
    entra: StandInEntra, http: requests.Session
) -> None:
    content = ask(entra, http).json()
    assert entra.system_assigned is not None
    assert content == {
        "access_token": entra.issued[0].value,
        "expires_on": str(entra.issued[0].claims["exp"]),
        "resource": RESOURCE,
        "token_type": "Bearer",
        "client_id": entra.system_assigned.client_id,
    }


# -- Faults on order -----------------------------------------------------------


def test_a_fault_lasts_as_often_as_ordered(entra: StandInEntra, http: requests.Session) -> None:
    entra.fail_with(429, {"statusCode": 429}, {"Retry-After": "7"}, times=2)
    answers = [ask(entra, http) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "7"


def test_a_fault_without_a_number_lasts_until_recovery(
    entra: StandInEntra, credential: NewCredential
) -> None:
    entra.fail_with(503, "down for maintenance")
    for _ in range(3):
        with pytest.raises((HttpResponseError, AzureError, ValueError)):
            credential().get_token(SCOPE)
    entra.recover()
    assert credential().get_token(SCOPE).token == entra.issued[0].value


def test_a_fault_concerns_only_its_path(entra: StandInEntra, http: requests.Session) -> None:
    entra.fail_with(500, path="/oauth2/")
    assert ask(entra, http).status_code == 200


def test_garbage_is_a_page_where_json_should_be(
    entra: StandInEntra, http: requests.Session
) -> None:
    entra.garbage(times=1)
    answer = ask(entra, http)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    assert ask(entra, http).json()["access_token"]


def test_a_hanging_request_is_answered_on_recovery(
    entra: StandInEntra, http: requests.Session
) -> None:
    entra.hang()
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(ask(entra, http)))
    thread.start()
    try:
        (request,) = entra.wait_for_requests(1)
        assert request.query["resource"] == RESOURCE
        assert not answers
    finally:
        entra.recover()
        thread.join()
    assert answers[0].status_code == 200


def test_stopping_ends_hanging_requests(entra: StandInEntra, http: requests.Session) -> None:
    entra.hang()
    errors: list[requests.RequestException] = []

    def fail() -> None:
        try:
            ask(entra, http)
        except requests.ConnectionError as error:
            errors.append(error)

    thread = threading.Thread(target=fail)
    thread.start()
    entra.wait_for_requests(1)
    entra.stop()
    thread.join()
    assert errors


def test_an_outage_is_a_stop_and_a_start(entra: StandInEntra, http: requests.Session) -> None:
    entra.stop()
    with pytest.raises(requests.ConnectionError):
        ask(entra, http)
    entra.start()
    assert ask(entra, http).status_code == 200


def test_waiting_for_requests_that_never_come_ends(entra: StandInEntra) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        entra.wait_for_requests(1, timeout=0.01)
