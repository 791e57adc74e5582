"""With which token a request is sent, and when it is sent again."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.errors import (
    AuthenticationTokenNotFound,
    ClientDisconnected,
    TargetProtocolError,
    TargetUnreachable,
)
from authproxy.http1.urls import TargetURL
from authproxy.upstream.request import OutboundRequest, RequestBody
from authproxy.upstream.session import TargetSession
from authproxy.upstream.target import RECENT_TOKENS, Exchange, Target, challenged_claims
from tests.support import actions
from tests.support.process import free_port
from tests.support.upstream import Upstream

CLAIMS = json.dumps({"access_token": {"nbf": {"essential": True, "value": "1"}}})


@dataclass(frozen=True)
class Token:
    value: str


class Tokens:
    """Token-1, and at each renewal the next, as long as there are."""

    def __init__(self, renewals: int) -> None:
        self._token: Token | None = Token("token-1")
        self._renewals = renewals
        self.asked: list[tuple[str, str | None]] = []

    def current(self) -> Token:
        if self._token is None:
            raise AuthenticationTokenNotFound("no valid token")
        return self._token

    def renew(self, rejected: Token, claims: str | None, timeout: float) -> Token | None:
        self.asked.append((rejected.value, claims))
        if not self._renewals:
            return None
        self._renewals -= 1
        self._token = Token(f"token-{len(self.asked) + 1}")
        return self._token

    def expire(self) -> None:
        self._token = None


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def session(upstream: Upstream) -> Iterator[TargetSession]:
    url = TargetURL.parse(upstream.url, allow_http=True)
    with TargetSession(url, pool_size=1, connect_timeout=5, read_timeout=5) as session:
        yield session


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(renewals=1)


@pytest.fixture
def target(session: TargetSession, tokens: Tokens) -> Target:
    return Target(session, tokens)


def request(method: str = "PUT") -> OutboundRequest:
    body = RequestBody(BytesIO(b"body"), 4)
    return OutboundRequest(method, "/x", [("Host", "target.test")], body)


def ask(target: Target, method: str = "PUT") -> tuple[Exchange, bytes]:
    exchange = target.send(request(method))
    return exchange, b"".join(exchange.response.body())


def sent(upstream: Upstream) -> list[tuple[str | None, bytes]]:
    """Return the token and body of each request that reached the target whole."""
    return [(each.one("Authorization"), each.body) for each in upstream.requests if each.complete]


def test_a_request_carries_the_current_token(target: Target, upstream: Upstream) -> None:
    exchange, body = ask(target)
    assert (exchange.response.status, body, exchange.attempts) == (200, b"ok", 1)
    assert sent(upstream) == [("Bearer token-1", b"body")]
    assert exchange.tokens[-1] == "token-1"


def test_without_a_valid_token_nothing_is_sent(
    target: Target, tokens: Tokens, upstream: Upstream
) -> None:
    tokens.expire()
    with pytest.raises(AuthenticationTokenNotFound):
        target.send(request())
    assert upstream.accepted == 0


def test_after_a_401_the_request_is_sent_again_with_a_fresh_token(
    target: Target, tokens: Tokens, upstream: Upstream
) -> None:
    upstream.script(actions.raw(actions.answer(401, body=b"no")))
    exchange, body = ask(target)
    assert (exchange.response.status, body, exchange.attempts) == (200, b"ok", 2)
    assert sent(upstream) == [("Bearer token-1", b"body"), ("Bearer token-2", b"body")]
    assert tokens.asked == [("token-1", None)]


def test_the_claims_of_the_challenge_are_asked_for(
    target: Target, tokens: Tokens, upstream: Upstream
) -> None:
    encoded = b64encode(CLAIMS.encode()).decode()
    challenge = f'Bearer error="insufficient_claims", claims="{encoded}"'
    upstream.script(actions.raw(actions.answer(401, f"WWW-Authenticate: {challenge}")))
    ask(target)
    assert tokens.asked == [("token-1", CLAIMS)]


def test_a_second_401_is_the_response(target: Target, tokens: Tokens, upstream: Upstream) -> None:
    upstream.respond(actions.answer(401, body=b"no"))
    exchange, body = ask(target)
    assert (exchange.response.status, body, exchange.attempts) == (401, b"no", 2)
    assert len(tokens.asked) == 1


def test_a_401_is_the_response_where_no_fresh_token_is_to_be_had(
    session: TargetSession, upstream: Upstream
) -> None:
    upstream.respond(actions.answer(401, body=b"no"))
    exchange, body = ask(Target(session, Tokens(renewals=0)))
    assert (exchange.response.status, body, exchange.attempts) == (401, b"no", 1)


def test_a_request_lost_with_a_pooled_connection_is_sent_again_on_a_new_one(
    target: Target, upstream: Upstream
) -> None:
    ask(target)
    upstream.script(lambda exchange: exchange.cut())
    exchange, _ = ask(target)
    assert (exchange.response.status, exchange.attempts) == (200, 2)
    assert upstream.accepted == 2


def test_one_that_may_not_be_sent_twice_is_not(target: Target, upstream: Upstream) -> None:
    ask(target)
    upstream.script(lambda exchange: exchange.cut())
    with pytest.raises(TargetProtocolError, match="POST is not sent again"):
        ask(target, "POST")
    assert upstream.accepted == 1


def test_a_request_lost_with_a_new_connection_is_not_sent_again(
    target: Target, upstream: Upstream
) -> None:
    upstream.respond(lambda exchange: exchange.cut())
    with pytest.raises(TargetProtocolError):
        target.send(request())
    assert upstream.accepted == 1


def test_a_request_lost_twice_is_not_sent_a_third_time(target: Target, upstream: Upstream) -> None:
    ask(target)
    upstream.respond(lambda exchange: exchange.cut())
    with pytest.raises(TargetProtocolError):
        target.send(request())
    assert upstream.accepted == 2


def test_a_target_that_cannot_be_reached_is_said_to_be_so(tokens: Tokens) -> None:
    url = TargetURL.parse(f"http://127.0.0.1:{free_port()}", allow_http=True)
    with (
        TargetSession(url, pool_size=1, connect_timeout=5, read_timeout=5) as session,
        pytest.raises(TargetUnreachable),
    ):
        Target(session, tokens).send(request())


def test_a_client_that_leaves_ends_the_exchange_and_nothing_is_sent_again(
    target: Target, upstream: Upstream
) -> None:
    ask(target)  # there is a pooled connection
    leaving = request()
    upstream.respond(lambda exchange: leaving.cancellation.cancel())
    with pytest.raises(ClientDisconnected):
        target.send(leaving)
    assert upstream.accepted == 1


def test_the_tokens_that_a_target_may_quote_are_bounded(
    session: TargetSession, upstream: Upstream
) -> None:
    upstream.respond(actions.answer(401))
    target = Target(session, Tokens(renewals=10))
    for _ in range(10):
        exchange, _ = ask(target)
    assert len(set(exchange.tokens)) == RECENT_TOKENS
    assert exchange.tokens[-1] == "token-11"
    assert "token-" not in repr(exchange)


@given(st.text(), st.sampled_from([b64encode, urlsafe_b64encode]), st.booleans())
def test_claims_are_read_in_both_alphabets_with_padding_or_without(
    claims: str, encode: type, padded: bool
) -> None:
    encoded = encode(claims.encode()).decode()
    shown = encoded if padded else encoded.rstrip("=")
    challenge = f'Bearer realm="", error="insufficient_claims", claims="{shown}"'
    assert challenged_claims(challenge) == (claims or None)


@given(st.text() | st.from_regex(r'error="insufficient_claims", claims="[A-Za-z0-9+/=_-]*"'))
def test_no_challenge_raises(challenge: str) -> None:
    challenged_claims(challenge)


def test_claims_without_the_error_that_goes_with_them_do_not_count() -> None:
    encoded = b64encode(CLAIMS.encode()).decode()
    assert challenged_claims(f'Bearer error="invalid_token", claims="{encoded}"') is None
    assert challenged_claims(None) is None
