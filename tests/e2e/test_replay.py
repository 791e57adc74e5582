"""When a request is sent to the target again: once, or never."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.expect import assert_failure_logged, assert_own_error
from tests.support.identity import application_settings, identity_settings
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess
from tests.support.stand_ins.entra import StandInEntra, asked_claims
from tests.support.upstream import Exchange, Handler, Recorded, Upstream
from tests.support.wire import Response, message


@pytest.fixture(scope="module")
def shared_proxy(launch_for_module: Launch) -> ProxyProcess:
    """One that keeps one connection: of several, the one that has rested longest is used next."""
    return launch_for_module(TARGET_POOL_SIZE="1")


BODY = bytes(range(256)) * 10
POST = message("POST /x", "X-A: b", body=BODY)
#: What may be sent twice: here as remote write.
VERSION = "X-Prometheus-Remote-Write-Version: 0.1.0"
WRITE = message("POST /x", VERSION, body=BODY)
FINE = actions.answer(200, body=b"fine")


def same_request(first: Recorded, second: Recorded) -> bool:
    """Whether two requests are the same but for the token."""

    def without_token(request: Recorded) -> list[tuple[str, str]]:
        return [each for each in request.fields if each[0].lower() != "authorization"]

    return (first.method, first.target, first.body, without_token(first)) == (
        second.method,
        second.target,
        second.body,
        without_token(second),
    )


# -- (a) a pooled connection that turned out dead ----------------------------------


def test_an_idle_connection_that_the_target_closed_is_not_used(
    proxy: ProxyProcess, target: Upstream
) -> None:
    assert proxy.get("/first").status == 200
    target.close_idle()
    assert proxy.ask(POST).status == 200
    requests = target.wait_for_requests(2)
    assert [request.target for request in requests] == [b"/first", b"/x"]
    assert (requests[1].body, requests[1].ordinal) == (BODY, 1)


@pytest.mark.parametrize(
    "die",
    [
        actions.then_close(),
        actions.then_cut(),
        actions.then_reset(),
        actions.close_before_body,
    ],
    ids=["closed", "cut", "reset", "closed-on-the-head"],
)
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_a_request_lost_with_a_pooled_connection_is_sent_again_once(
    proxy: ProxyProcess, target: Upstream, die: Handler, size: int
) -> None:
    """The race: the target gives up the idle connection just as the request goes out."""
    target.close_idle()
    target.respond(actions.only_on_reused(die, actions.raw(FINE)))
    assert proxy.get("/first").body == b"fine"
    body = b"b" * size
    response = proxy.ask(message("PUT /x", body=body))
    assert (response.status, response.body) == (200, b"fine")
    target.wait_for("the whole request", lambda: target.requests[-1].complete)
    assert [(request.target, request.ordinal) for request in target.requests] == [
        (b"/first", 1),
        (b"/x", 2),
        (b"/x", 1),
    ]
    assert target.requests[-1].body == body
    assert target.requests[-1].one("Content-Length") == str(size)


def test_a_request_lost_twice_is_not_sent_a_third_time(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.close_idle()
    target.script(actions.raw(FINE))
    target.respond(actions.then_close())
    assert proxy.get("/first").status == 200
    assert_own_error(proxy.ask(WRITE), 502, "TargetProtocolError")
    assert [request.ordinal for request in target.requests] == [1, 2, 1]


@pytest.mark.parametrize("method", ["POST", "PATCH", "INVENTED"])
@pytest.mark.parametrize(
    "die",
    [actions.then_close(), actions.then_cut(), actions.then_reset()],
    ids=["closed", "cut", "reset"],
)
def test_what_may_not_be_sent_twice_is_lost_with_a_pooled_connection(
    proxy: ProxyProcess, target: Upstream, die: Handler, method: str
) -> None:
    """The target may have processed it: only the client knows whether that does harm."""
    target.close_idle()
    target.respond(actions.only_on_reused(die, actions.raw(FINE)))
    assert proxy.get("/first").body == b"fine"
    mark = proxy.mark()
    response = proxy.ask(message(f"{method} /x", body=BODY))
    assert_own_error(response, 502, "TargetProtocolError")
    line = assert_failure_logged(proxy, mark, response)
    assert f"{method} is not sent again" in line["Error"]
    assert (line["Method"], line["Request"]) == (method, f"{target.url}/x")
    assert [request.ordinal for request in target.requests] == [1, 2]
    assert proxy.ask(POST).body == b"fine"  # the next goes out on a new connection


def test_what_had_not_been_wholly_sent_is_sent_again_whatever_it_is(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.close_idle()
    target.respond(actions.only_on_reused(actions.close_before_body, actions.raw(FINE)))
    assert proxy.get("/first").body == b"fine"
    body = b"b" * 20_000_000  # more than the kernel keeps
    assert proxy.ask(message("POST /x", body=body)).body == b"fine"
    target.wait_for("the whole request", lambda: target.requests[-1].complete)
    assert [request.ordinal for request in target.requests] == [1, 2, 1]
    assert target.requests[-1].body == body


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("DELETE /x", "X-A: b"),
        ("POST /x", VERSION),
        ("POST /prefix/api/v1/query_range?x=y", "Content-Type: application/x-www-form-urlencoded"),
    ],
    ids=["idempotent", "remote-write", "query"],
)
def test_what_may_be_sent_twice_is_sent_again(
    proxy: ProxyProcess, target: Upstream, line: str, field: str
) -> None:
    target.close_idle()
    target.respond(actions.only_on_reused(actions.then_close(), actions.raw(FINE)))
    assert proxy.get("/first").body == b"fine"
    assert proxy.ask(message(line, field, body=BODY)).body == b"fine"
    assert [request.ordinal for request in target.requests] == [1, 2, 1]


def test_with_several_dead_connections_the_request_still_gets_through(
    proxy: ProxyProcess, target: Upstream
) -> None:
    """The second attempt takes a new connection, not the next dead one of the pool."""
    target.close_idle()
    gate = target.gate()
    together = 4
    target.respond(actions.raw(gate, FINE))
    clients = [proxy.connect() for _ in range(together)]
    for client in clients:
        client.send(message("GET /together"))
    target.wait_for_requests(together)
    gate.open()
    for client in clients:
        assert client.receive().status == 200
        client.close()
    target.respond(actions.only_on_reused(actions.then_close(), actions.raw(FINE)))
    assert proxy.ask(WRITE).body == b"fine"
    assert len(target.requests) == together + 2


@pytest.mark.parametrize(
    "die",
    [actions.then_close(), actions.then_cut(), actions.then_reset()],
    ids=["fin", "cut", "rst"],
)
def test_a_request_lost_with_a_fresh_connection_is_not_sent_again(
    proxy: ProxyProcess, target: Upstream, die: Handler
) -> None:
    target.close_idle()
    target.respond(die)
    assert_own_error(proxy.ask(POST), 502, "TargetProtocolError")
    assert len(target.requests) == 1


@pytest.mark.parametrize(
    "first_bytes", [b"H", b"HTTP/1.1 200 OK\r\n", actions.head("103 Early Hints")]
)
def test_a_request_that_was_answered_at_all_is_not_sent_again(
    proxy: ProxyProcess, target: Upstream, first_bytes: bytes
) -> None:
    target.close_idle()
    target.respond(actions.only_on_reused(actions.then_close(first_bytes), actions.raw(FINE)))
    assert proxy.get("/first").status == 200
    assert_own_error(proxy.ask(POST), 502, "TargetProtocolError")
    assert [request.ordinal for request in target.requests] == [1, 2]


@pytest.mark.parametrize("status", [400, 403, 408, 409, 425, 429, 500, 502, 503, 504])
def test_no_other_answer_makes_the_proxy_send_again(
    proxy: ProxyProcess, target: Upstream, status: int
) -> None:
    target.respond(actions.answer(status, ("Retry-After", "0"), body=b"no"))
    assert proxy.ask(POST).status == status
    assert len(target.requests) == 1


def test_a_second_attempt_shows_in_the_log(proxy: ProxyProcess, target: Upstream) -> None:
    target.close_idle()
    target.respond(actions.only_on_reused(actions.then_close(), actions.raw(FINE)))
    assert proxy.get("/first").status == 200
    assert proxy.ask(message("PUT /twice-for-the-log", body=BODY)).status == 200
    line = proxy.wait_for_line("Successfully sent request.*/twice-for-the-log")
    assert parse_line(line)["Attempts"] == "2"


# -- (b) 401, then a fresh token ---------------------------------------------------------


@pytest.fixture
def renewing(launch: Launch, entra: StandInEntra) -> ProxyProcess:
    """A proxy with an identity endpoint of its own: a renewal changes its state."""
    return launch(TARGET_POOL_SIZE="1", **identity_settings(entra))


def refuse(*tokens: str, challenge: str = 'Bearer error="invalid_token"') -> Handler:
    """Answer 401 to these tokens and 200 to others."""
    no = actions.answer(401, ("WWW-Authenticate", challenge), body=b"who are you?")
    return actions.by_authorization(dict.fromkeys(tokens, no), FINE)


def test_a_401_is_followed_by_the_same_request_with_a_fresh_token(
    renewing: ProxyProcess, target: Upstream, entra: StandInEntra
) -> None:
    target.respond(refuse(entra.issued[0].value))
    response = renewing.ask(POST)
    assert (response.status, response.body) == (200, b"fine")
    first, second = target.wait_for_requests(2)
    assert same_request(first, second)
    assert first.one("Authorization") == f"Bearer {entra.issued[0].value}"
    assert second.one("Authorization") == f"Bearer {entra.issued[1].value}"
    assert len(target.requests) == len(entra.issued) == 2
    assert renewing.get("/later").status == 200
    assert target.requests[-1].one("Authorization") == f"Bearer {entra.issued[1].value}"


def test_a_second_401_is_the_clients(
    renewing: ProxyProcess, target: Upstream, entra: StandInEntra
) -> None:
    target.respond(actions.answer(401, ("WWW-Authenticate", "Bearer"), body=b"who are you?"))
    response = renewing.ask(POST)
    assert (response.status, response.body) == (401, b"who are you?")
    assert response.one("WWW-Authenticate") == "Bearer"
    assert len(target.requests) == len(entra.issued) == 2


def test_a_401_without_a_fresh_token_is_the_clients(
    renewing: ProxyProcess, target: Upstream, entra: StandInEntra
) -> None:
    entra.fail_with(500)
    target.respond(actions.answer(401, ("WWW-Authenticate", "Bearer"), body=b"who are you?"))
    response = renewing.ask(POST)
    assert (response.status, response.body) == (401, b"who are you?")
    assert len(target.requests) == 1


def test_a_large_401_gives_way_to_the_answer(
    renewing: ProxyProcess, target: Upstream, entra: StandInEntra
) -> None:
    target.script(actions.raw(actions.answer(401, body=b"n" * 1_000_000)))
    target.respond(FINE)
    assert renewing.ask(POST).body == b"fine"
    assert len(target.requests) == 2


def test_a_401_whose_body_never_ends_does_not_hold_the_request_up(
    renewing: ProxyProcess, target: Upstream
) -> None:
    unending = actions.head(401, "Content-Length: 100") + b"who"
    target.script(actions.stall(target.gate(), unending))
    target.respond(FINE)
    assert renewing.ask(POST).body == b"fine"


def test_many_401_at_once_make_one_fetch(
    renewing: ProxyProcess, target: Upstream, entra: StandInEntra
) -> None:
    gate = target.gate()
    together = 8
    no = actions.answer(401, body=b"who are you?")
    old = entra.issued[0].value

    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.one("Authorization") == f"Bearer {old}":
            gate.wait()
            exchange.send(no)
        else:
            exchange.send(FINE)

    target.respond(handle)
    answers: list[Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(renewing.ask(POST))) for _ in range(together)
    ]
    for thread in threads:
        thread.start()
    target.wait_for_requests(together)
    gate.open()
    for thread in threads:
        thread.join()
    assert [each.status for each in answers] == [200] * together
    assert len(target.requests) == 2 * together
    assert len(entra.issued) == 2


CLAIMS = {"access_token": {"nbf": {"essential": True, "value": "1700000000"}}}


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])
def test_the_claims_of_a_challenge_reach_entra(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path, padded: bool
) -> None:
    proxy = launch(TARGET_POOL_SIZE="1", **application_settings(entra, tmp_path))
    claims = base64.b64encode(json.dumps(CLAIMS).encode()).decode()
    challenge = (
        'Bearer realm="", authorization_uri="https://login.example/authorize", '
        f'error="insufficient_claims", claims="{claims if padded else claims.rstrip("=")}"'
    )
    target.respond(refuse(entra.issued[0].value, challenge=challenge))
    assert proxy.ask(POST).body == b"fine"
    first, second = [request for request in entra.requests if request.path.endswith("/token")]
    assert "nbf" not in json.dumps(asked_claims(first))
    assert asked_claims(second)["access_token"]["nbf"] == CLAIMS["access_token"]["nbf"]


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer error="insufficient_claims", claims="%%%"',
        'Bearer error="insufficient_claims", claims=""',
        'Bearer error="insufficient_claims", claims="' + "A" * 20_001 + '"',
        'Bearer error="insufficient_claims", claims="////"',
        "Bearer \xff\xfe, Negotiate",
    ],
    ids=["not-base64", "empty", "huge", "not-utf-8", "not-ascii"],
)
def test_a_broken_challenge_is_an_ordinary_401(
    renewing: ProxyProcess, target: Upstream, entra: StandInEntra, challenge: str
) -> None:
    target.respond(refuse(entra.issued[0].value, challenge=challenge))
    assert renewing.ask(POST).status in (200, 401)
    assert renewing.get("/next").status in (200, 401)


def test_a_replay_after_a_dead_connection_and_a_401_makes_two_attempts_in_all(
    renewing: ProxyProcess, target: Upstream, entra: StandInEntra
) -> None:
    target.close_idle()
    no = actions.answer(401, body=b"who are you?")
    target.script(actions.raw(FINE), actions.then_close())
    assert renewing.get("/first").status == 200
    target.respond(no)
    assert renewing.ask(message("PUT /x", body=BODY)).status == 401
    assert len(target.requests) == 3
