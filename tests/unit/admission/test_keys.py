"""The keys of callers' tokens: which can be used, how they are fetched, and when."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from authproxy.admission.jwks_endpoint import (
    MAX_UNKNOWN_KEYS,
    REFRESH_SECONDS,
    UNKNOWN_KEY_SECONDS,
    Endpoint,
    EndpointKeys,
    KeysError,
)
from authproxy.admission.signed_tokens import TokenCallers
from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.errors import RequestError
from authproxy.files.jwks import FileKeys, parse_jwks
from authproxy.identity.refresher import Refresher
from tests.support import actions
from tests.support.authority import Authority
from tests.support.callers import (
    AUDIENCE,
    ISSUER,
    Cluster,
    EllipticKey,
    claims,
    key_set,
    write_keys,
)
from tests.support.clock import FakeClock
from tests.support.examples import examples
from tests.support.planted import left
from tests.support.quoting import basic
from tests.support.signing import jwks_of
from tests.support.upstream import Handler, Upstream

KEY, ELLIPTIC = SigningKey(), EllipticKey()
RSA_ENTRY = jwks_of(KEY)["keys"][0]

# -- what a key set may hold -------------------------------------------------------------


def test_public_keys_for_signatures_are_known_by_their_ids() -> None:
    keys = parse_jwks(json.dumps(key_set(KEY, ELLIPTIC)).encode())
    algorithms = {key_id: key.algorithm_name for key_id, key in keys.items()}
    assert algorithms == {KEY.key_id: "RS256", "elliptic": "ES256"}


def rsa_entry(bits: int) -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    return {**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": "other", "alg": "RS256"}


UNUSABLE: dict[str, Any] = {
    "symmetric": {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ", "kid": "other", "alg": "HS256"},
    "symmetric algorithm": {**RSA_ENTRY, "kid": "other", "alg": "HS256"},
    "no algorithm at all": {**RSA_ENTRY, "kid": "other", "alg": "none"},
    "for encryption": {**RSA_ENTRY, "kid": "other", "use": "enc"},
    "without an id": {name: value for name, value in RSA_ENTRY.items() if name != "kid"},
    "an id that is no text": {**RSA_ENTRY, "kid": 5},
    "with its private part": {**RSA_ENTRY, "kid": "other", "d": "AQAB"},
    "another curve": {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "other"},
    "damaged": {**RSA_ENTRY, "kid": "other", "n": "!"},
    "without numbers": {"kty": "RSA", "kid": "other"},
    "numbers of another kind": {**RSA_ENTRY, "kid": "other", "n": 5, "e": []},
    "of no kind": {"kid": "other"},
    "too short": rsa_entry(1024),
    "no object": "key",
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_keys_that_cannot_be_used_are_left_out(kind: str) -> None:
    entries = [UNUSABLE[kind], RSA_ENTRY]
    assert set(parse_jwks(json.dumps({"keys": entries}).encode())) == {KEY.key_id}
    with pytest.raises(ValueError, match="no key that can be used"):
        parse_jwks(json.dumps({"keys": entries[:1]}).encode())


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"[" * 100_000]
)
def test_what_is_no_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it "):
        parse_jwks(data)


# -- fetching ----------------------------------------------------------------------------


@contextmanager
def serving(
    answer: Response, tls: ssl.SSLContext
) -> Iterator[tuple[LoopbackServer, list[Request]]]:
    requests: list[Request] = []

    def record(request: Request) -> Response:
        requests.append(request)
        return answer

    server = LoopbackServer(record, tls=tls)
    server.start()
    try:
        yield server, requests
    finally:
        server.stop()


def problem_of(endpoint: Endpoint) -> str:
    with pytest.raises(KeysError) as caught:
        endpoint()
    return str(caught.value)


def test_the_endpoint_is_asked_with_the_token_as_it_is_now(
    authority: Authority, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    with Cluster(authority.context(), token="the-second") as cluster:
        endpoint = Endpoint(cluster.url, ca_file=str(authority.bundle), token_file=str(token))
        assert "INBOUND_JWKS_TOKEN_FILE" in problem_of(endpoint)
        token.write_text("the-first\n")
        assert "responded 401: it wants a token" in problem_of(endpoint)
        token.write_text("the-second\n")
        assert set(endpoint()) == {cluster.keys[0].key_id}


SERVICE_ACCOUNT_TOKEN = "kubernetes-gives-out-a-token-such-as-this"


@pytest.mark.parametrize(
    "respond",
    [
        actions.then_close(f"{basic(SERVICE_ACCOUNT_TOKEN)}\r\n\r\n".encode()),
        actions.raw(
            actions.answer(
                200,
                body=json.dumps(
                    {"keys": [{**RSA_ENTRY, "kid": basic(SERVICE_ACCOUNT_TOKEN)}]}
                ).encode(),
            )
        ),
    ],
    ids=["instead of a status line", "as the id of a key"],
)
def test_an_endpoint_that_quotes_the_token_is_not_quoted(
    authority: Authority, tmp_path: Path, respond: Handler
) -> None:
    (tmp_path / "token").write_text(SERVICE_ACCOUNT_TOKEN)
    upstream = Upstream(authority.context())
    try:
        upstream.respond(respond)
        file = str(tmp_path / "token")
        problem = problem_of(Endpoint(upstream.url, ca_file=str(authority.bundle), token_file=file))
    finally:
        upstream.close()
    assert left(SERVICE_ACCOUNT_TOKEN, problem) == set()


def test_only_the_ca_file_is_trusted(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    with Cluster(other.context()) as cluster:
        assert "certificate verify failed" in problem_of(
            Endpoint(cluster.url, ca_file=str(authority.bundle))
        )
        assert cluster.requests == []
        # Without one, what the rest of the program trusts.
        assert "certificate verify failed" in problem_of(Endpoint(cluster.url))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.bundle))
        assert Endpoint(cluster.url)()


def test_the_token_follows_no_redirect(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("the-pods-own")
    tls = authority.context()
    with serving(Response.of_json(200, key_set(KEY)), tls) as (elsewhere, requests):
        redirect = Response(302, headers={"Location": f"{elsewhere.url}/keys"})
        with serving(redirect, tls) as (server, _):
            endpoint = Endpoint(
                server.url, ca_file=str(authority.bundle), token_file=str(tmp_path / "token")
            )
            assert "responded 302" in problem_of(endpoint)
    assert requests == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Response(500), "responded 500"),
        (Response(200, b"<html>"), "not JSON"),
        (Response.of_json(200, {"keys": []}), "no key"),
        (Response(200, b"x" * (1024 * 1024 + 1)), "larger than 1024 KiB"),
    ],
)
def test_answers_without_keys_are_errors(
    authority: Authority, answer: Response, problem: str
) -> None:
    with serving(answer, authority.context()) as (server, _):
        assert problem in problem_of(Endpoint(server.url, ca_file=str(authority.bundle)))


def test_an_endpoint_that_is_not_there_is_an_error(authority: Authority) -> None:
    with serving(Response(200), authority.context()) as (server, _):
        url = server.url
    assert "refused" in problem_of(Endpoint(url, ca_file=str(authority.bundle)))


# -- when ---------------------------------------------------------------------------------


class Source:
    """An endpoint's keys on a clock moved by hand; `published` may be an error."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.published: list[SigningKey | EllipticKey] | None = [KEY]
        self.fetches = 0
        self.keys = EndpointKeys(
            self._fetch, Refresher(self.clock), clock=self.clock, random=Random(1)
        )

    def _fetch(self) -> Any:
        self.fetches += 1
        if self.published is None:
            raise KeysError("out of order")
        return parse_jwks(json.dumps(key_set(*self.published)).encode())

    def after(self, seconds: float) -> int:
        """Let time pass and the refresher look; return how many fetches there were."""
        before = self.fetches
        self.clock.advance(seconds)
        if self.keys.seconds_until_due() <= 0 and (attempt := self.keys.begin()):
            attempt.run()
        return self.fetches - before


@pytest.fixture
def source() -> Source:
    return Source()


def test_keys_are_fetched_at_once_and_anew_after_some_minutes(source: Source) -> None:
    assert source.keys.current() is None
    assert source.after(0) == 1
    assert set(source.keys.current() or ()) == {KEY.key_id}
    assert source.after(REFRESH_SECONDS * 0.7) == 0
    assert source.after(REFRESH_SECONDS * 0.6) == 1


def test_an_outage_keeps_the_keys_and_is_tried_again_with_growing_pauses(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authproxy")
    source.after(0)
    source.published = None
    assert source.after(2 * REFRESH_SECONDS) == 1
    tries = sum(source.after(1) for _ in range(600))
    assert 8 <= tries <= 40  # a minute apart at most, and never every second
    assert set(source.keys.current() or ()) == {KEY.key_id}
    source.published = [KEY]
    assert source.after(60) == 1
    told = [record.message for record in caplog.records]
    outage = "Failed to fetch the keys of inbound tokens, the old stay in use"
    assert told == [
        "Keys of inbound tokens fetched",
        *([outage] * (tries + 1)),
        "Keys of inbound tokens fetched",
    ]


def test_an_unknown_key_is_looked_for_once_in_a_while_and_then_settled(source: Source) -> None:
    source.after(0)
    assert source.keys.look_for("new") == UNKNOWN_KEY_SECONDS
    assert source.after(UNKNOWN_KEY_SECONDS / 2) == 0
    assert source.keys.look_for("new") == 1
    assert source.after(UNKNOWN_KEY_SECONDS / 2) == 1
    assert source.keys.look_for("new") is None
    # Settled, yet asked for again: another API server may answer next time.
    assert source.after(UNKNOWN_KEY_SECONDS) == 1
    assert source.after(UNKNOWN_KEY_SECONDS) == 0


def test_a_new_key_is_known_after_the_fetch_and_forgotten_as_unknown(
    source: Source, other_key: SigningKey
) -> None:
    source.after(0)
    assert source.keys.look_for(other_key.key_id)
    source.published = [KEY, other_key]
    source.after(UNKNOWN_KEY_SECONDS)
    assert set(source.keys.current() or ()) == {KEY.key_id, other_key.key_id}
    source.published = [KEY]
    source.after(2 * REFRESH_SECONDS)
    assert source.keys.look_for(other_key.key_id) is not None


def test_an_unknown_key_is_not_settled_while_nothing_can_be_fetched(source: Source) -> None:
    source.after(0)
    source.published = None
    for _ in range(5):
        assert source.keys.look_for("new") is not None
        source.after(UNKNOWN_KEY_SECONDS)


def test_made_up_keys_cost_one_fetch_at_a_time_and_bounded_memory(source: Source) -> None:
    source.after(0)
    for number in range(3 * MAX_UNKNOWN_KEYS):
        source.keys.look_for(f"made-up-{number}")
        assert source.after(0) == 0
    assert len(source.keys._unknown) <= MAX_UNKNOWN_KEYS
    assert source.after(UNKNOWN_KEY_SECONDS) == 1


def test_nothing_is_fetched_after_the_end(source: Source) -> None:
    source.keys.stop()
    assert source.after(0) == 0


# -- remembering ------------------------------------------------------------------------------


def test_a_verified_token_is_remembered_until_it_expires_or_the_keys_change(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.after(0)
    callers = TokenCallers(
        source.keys, issuer=ISSUER, audience=AUDIENCE, subjects=["**"], clock=source.clock
    )
    verified: list[str] = []
    decode = jwt.decode

    def counted(token: str, *args: Any, **kwargs: Any) -> Any:
        verified.append(token)
        return decode(token, *args, **kwargs)

    monkeypatch.setattr(jwt, "decode", counted)
    content = claims(exp=int(source.clock.wall() + 2 * REFRESH_SECONDS))
    token = KEY.sign(content)
    for _ in range(3):
        assert callers.identify(token) == content["sub"]
    assert len(verified) == 1
    with pytest.raises(RequestError):
        callers.identify(token[:-2] + "AA")

    source.after(2 * REFRESH_SECONDS)
    verified.clear()
    for _ in range(3):
        callers.identify(token)
    # Anew with keys that were fetched anew, and, when it has expired by the
    # clock that is moved here, each time.
    assert len(verified) == 3
    source.published = [ELLIPTIC]
    source.after(2 * REFRESH_SECONDS)
    with pytest.raises(RequestError):
        callers.identify(token)


# -- any token ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> TokenCallers:
    keys = FileKeys(str(write_keys(tmp_path_factory.mktemp("keys") / "keys.json", KEY, ELLIPTIC)))
    return TokenCallers(keys, issuer=ISSUER, audience=AUDIENCE, subjects=["**"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["RS256", "ES256", "HS256", "none", "PS512"]) | JSON,
        "kid": st.sampled_from([KEY.key_id, "elliptic", "unknown"]) | JSON,
        "crit": JSON,
        "b64": JSON,
        "typ": JSON,
    },
)
CLAIMS = st.dictionaries(st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti"]), JSON)


def encoded(content: Any) -> str:
    return jwt.utils.base64url_encode(json.dumps(content).encode()).decode()


ENTRIES = st.fixed_dictionaries(
    {"kty": st.sampled_from(["RSA", "EC", "OKP", "oct"]) | JSON, "kid": st.just("k") | JSON},
    optional={
        name: st.sampled_from(["RS256", "P-256", "Ed25519", "AQAB", RSA_ENTRY["n"]]) | JSON
        for name in ("alg", "crv", "x", "y", "n", "e", "k", "use", "d", "p")
    },
)


@examples(0.5)
@given(st.lists(ENTRIES, max_size=3))
def test_any_key_set_is_read_or_refused(entries: list[Any]) -> None:
    try:
        assert parse_jwks(json.dumps({"keys": entries}).encode())
    except ValueError:
        pass  # most of them


@examples(0.5)
@given(st.builds(lambda h, c, s: f"{encoded(h)}.{encoded(c)}.{s}", HEADERS, CLAIMS, st.text("Aa_")))
def test_no_unsigned_token_does_anything_but_be_refused(callers: TokenCallers, token: str) -> None:
    with pytest.raises(RequestError):
        callers.identify(token)


@given(st.text(st.characters(max_codepoint=255)) | st.text("eyJ.{}=-_"))
def test_no_text_does_either(callers: TokenCallers, token: str) -> None:
    with pytest.raises(RequestError):
        callers.identify(token)


@examples(0.5)
@given(CLAIMS)
def test_no_signed_claims_do_but_ours(callers: TokenCallers, changes: dict[str, Any]) -> None:
    content = {**claims(), **changes}
    data, headers = json.dumps(content).encode(), {"kid": ELLIPTIC.key_id}
    token = jwt.PyJWS().encode(data, ELLIPTIC.private, algorithm="ES256", headers=headers)
    try:
        assert callers.identify(token) == content["sub"]
    except RequestError:
        assert changes
