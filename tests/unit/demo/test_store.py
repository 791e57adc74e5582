"""The stand-in store: who may come in, what it takes and what it answers."""

from __future__ import annotations

import base64
import json
import re
import threading
import time

import pytest
import requests

from authproxy.demo.stand_ins.directory import METRICS_INGESTION, METRICS_QUERY
from authproxy.demo.stand_ins.remote_write import HEADERS, Sample, encode
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.demo.stand_ins.store import QUERY_PATH, WRITE_PATH
from tests.support.stand_ins.entra import StandInEntra
from tests.support.stand_ins.store import StandInStore

UP = Sample.of("up", 1, 1_700_000_000_000, job="a")

#: Where a real workspace takes remote writes.
INGESTION_ENDPOINT = (
    "/dataCollectionRules/dcr-00000000000000000000000000000000"
    "/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24"
)


@pytest.fixture
def authorized(http: requests.Session, entra: StandInEntra) -> requests.Session:
    """The client, with a valid token."""
    token = entra.issue(METRICS_INGESTION, "client", "object")
    http.headers["Authorization"] = f"Bearer {token.value}"
    return http


def write(
    http: requests.Session, store: StandInStore, path: str = WRITE_PATH, body: bytes | None = None
) -> requests.Response:
    data = encode([UP]) if body is None else body
    return http.post(store.url + path, data=data, headers=dict(HEADERS), timeout=20)


def query(http: requests.Session, store: StandInStore, **parameters: str) -> requests.Response:
    return http.get(store.url + QUERY_PATH, params=parameters, timeout=20)


# -- Who may come in -----------------------------------------------------------


@pytest.mark.parametrize("audience", [METRICS_INGESTION, f"{METRICS_QUERY}/"])
def test_a_valid_token_is_let_in(
    entra: StandInEntra, store: StandInStore, http: requests.Session, audience: str
) -> None:
    token = entra.issue(audience, "client", "object").value
    http.headers["Authorization"] = f"bearer {token}"
    assert query(http, store, query="up").status_code == 200


@pytest.mark.parametrize("path", [WRITE_PATH, QUERY_PATH, "/"])
def test_nothing_is_open_without_a_token(
    store: StandInStore, http: requests.Session, path: str
) -> None:
    answer = http.get(store.url + path, timeout=20)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("audience", "audience"),
        ("expired", "lifetime"),
        ("early", "lifetime"),
        ("impostor", "signature"),
        ("changed", "signature"),
        ("unsigned", "signature"),
        ("basic", "No bearer token"),
        ("empty", "No bearer token"),
    ],
)
def test_a_wrong_token_is_refused_with_the_reason(
    entra: StandInEntra,
    store: StandInStore,
    http: requests.Session,
    other_key: SigningKey,
    fault: str,
    message: str,
) -> None:
    valid = entra.issue(METRICS_INGESTION, "client", "object")
    head, claims, signature = valid.value.split(".")
    other = base64.urlsafe_b64encode(json.dumps({**valid.claims, "oid": "root"}).encode())
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    http.headers["Authorization"] = {
        "audience": f"Bearer {entra.issue('https://other.example.com', 'c', 'o').value}",
        "expired": f"Bearer {entra.issue(METRICS_INGESTION, 'c', 'o', lifetime=-1).value}",
        "early": f"Bearer {entra.issue(METRICS_INGESTION, 'c', 'o', nbf=9999999999).value}",
        "impostor": f"Bearer {other_key.sign(valid.claims)}",
        "changed": f"Bearer {head}.{other.decode().rstrip('=')}.{signature}",
        "unsigned": f"Bearer {unsigned}.{claims}.",
        "basic": "Basic dXNlcjpwYXNz",
        "empty": "Bearer ",
    }[fault]
    answer = write(http, store)
    assert answer.status_code == 401
    assert message in answer.json()["error"]["message"]
    assert not store.samples


def test_only_the_audiences_asked_for_count(
    entra: StandInEntra, authorized: requests.Session, store: StandInStore
) -> None:
    store.audiences = (METRICS_QUERY,)
    assert query(authorized, store, query="up").status_code == 401


def test_revoked_tokens_meet_a_claims_challenge_and_new_ones_pass(
    entra: StandInEntra, authorized: requests.Session, store: StandInStore
) -> None:
    assert query(authorized, store, query="up").status_code == 200
    store.revoke_tokens()
    refused = query(authorized, store, query="up")
    assert refused.status_code == 401
    challenge = refused.headers["WWW-Authenticate"]
    assert 'error="insufficient_claims"' in challenge
    found = re.search(r'claims="([^"]+)"', challenge)
    assert found is not None
    assert json.loads(base64.b64decode(found[1]))["access_token"]["nbf"]["essential"] is True
    fresh = entra.issue(METRICS_INGESTION, "client", "object").value
    authorized.headers["Authorization"] = f"Bearer {fresh}"
    assert query(authorized, store, query="up").status_code == 200


# -- Remote write --------------------------------------------------------------


@pytest.mark.parametrize("path", [WRITE_PATH, INGESTION_ENDPOINT])
def test_a_remote_write_is_kept(
    authorized: requests.Session, store: StandInStore, path: str
) -> None:
    assert write(authorized, store, path).status_code == 204
    assert store.samples == [UP]


def test_junk_is_refused_and_not_kept(authorized: requests.Session, store: StandInStore) -> None:
    answer = write(authorized, store, body=b"junk")
    assert answer.status_code == 400
    assert "snappy" in answer.text
    assert not store.samples


@pytest.mark.parametrize("missing", ["Content-Type", "Content-Encoding"])
def test_a_write_has_to_say_what_it_is(
    authorized: requests.Session, store: StandInStore, missing: str
) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    answer = authorized.post(store.url + WRITE_PATH, data=encode([UP]), headers=headers, timeout=20)
    assert answer.status_code == 415
    assert missing in answer.text


def test_a_refusal_lasts_as_often_as_ordered(
    authorized: requests.Session, store: StandInStore
) -> None:
    store.refuse(403, times=2)
    assert [write(authorized, store).status_code for _ in range(3)] == [403, 403, 204]
    assert len(store.samples) == 1
    assert len(store.requests) == 3


def test_waiting_ends_when_the_samples_have_come(
    authorized: requests.Session, store: StandInStore
) -> None:
    thread = threading.Thread(target=write, args=(authorized, store))
    thread.start()
    assert store.wait_for_samples(1) == [UP]
    thread.join()
    with pytest.raises(TimeoutError, match="1 of 2 samples"):
        store.wait_for_samples(2, timeout=0.01)


# -- Queries -------------------------------------------------------------------


def test_a_query_answers_in_the_form_of_prometheus(
    authorized: requests.Session, store: StandInStore
) -> None:
    write(authorized, store)
    assert query(authorized, store, query="up", time="1700000001").json() == {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [{"metric": {"__name__": "up", "job": "a"}, "value": [1700000001.0, "1"]}],
        },
    }


def test_a_query_may_be_a_form(authorized: requests.Session, store: StandInStore) -> None:
    write(authorized, store)
    answer = authorized.post(store.url + QUERY_PATH, data={"query": "up"}, timeout=20)
    assert len(answer.json()["data"]["result"]) == 1


def test_without_a_time_it_is_now(authorized: requests.Session, store: StandInStore) -> None:
    before = time.time()
    value = query(authorized, store, query="vector(1)").json()["data"]["result"][0]["value"]
    assert before <= value[0] <= time.time()
    assert value[1] == "1"


def test_the_latest_sample_of_each_series_up_to_the_time_counts(
    authorized: requests.Session, store: StandInStore
) -> None:
    values = [("up", 1, 1000, "a"), ("up", 2, 2000, "b"), ("up", 3.5, 3000, "a")]
    sent = [Sample.of(name, value, at, job=job) for name, value, at, job in values]
    write(authorized, store, body=encode([sent[2], sent[0], sent[1], Sample.of("down", 4, 1000)]))
    for at, found in (("2", {"1", "2"}), ("3", {"3.5", "2"}), ("0.5", set())):
        result = query(authorized, store, query="up", time=at).json()["data"]["result"]
        assert {series["value"][1] for series in result} == found


@pytest.mark.parametrize("parameters", [{}, {"query": "sum(up)"}, {"query": "up", "time": "noon"}])
def test_a_query_that_is_not_understood_is_bad_data(
    authorized: requests.Session, store: StandInStore, parameters: dict[str, str]
) -> None:
    answer = query(authorized, store, **parameters)
    assert answer.status_code == 400
    assert answer.json()["errorType"] == "bad_data"


def test_other_paths_lead_nowhere(authorized: requests.Session, store: StandInStore) -> None:
    assert authorized.get(store.url + "/other", timeout=20).status_code == 404
