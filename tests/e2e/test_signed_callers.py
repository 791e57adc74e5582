"""Callers that prove who they are by a signed token, as Kubernetes ServiceAccounts do."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authproxy.demo.stand_ins.signing import SigningKey
from tests.conftest import Launch
from tests.support.authority import Authority
from tests.support.callers import (
    AUDIENCE,
    ISSUER,
    PROMETHEUS,
    Cluster,
    EllipticKey,
    claims,
    write_keys,
)
from tests.support.expect import assert_own_error
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess, wait_until
from tests.support.signing import jwks_of
from tests.support.upstream import Upstream
from tests.support.wire import Response, message


@pytest.fixture(scope="module")
def cluster(authority: Authority) -> Iterator[Cluster]:
    with Cluster(authority.context(), token="the-pods-own-token") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def module_proxy(
    cluster: Cluster,
    authority: Authority,
    launch_for_module: Launch,
    tmp_path_factory: pytest.TempPathFactory,
) -> ProxyProcess:
    folder = tmp_path_factory.mktemp("serviceaccount")
    (folder / "token").write_text("the-pods-own-token\n")
    (folder / "tokens").write_text("a-token-of-the-file\n")
    cluster.keys.insert(0, EllipticKey())
    return launch_for_module(
        **cluster.settings,
        INBOUND_JWKS_CA_FILE=str(authority.bundle),
        INBOUND_JWKS_TOKEN_FILE=str(folder / "token"),
        INBOUND_TOKEN_FILE=str(folder / "tokens"),
    )


@pytest.fixture
def guarded(module_proxy: ProxyProcess, target: Upstream) -> ProxyProcess:
    assert module_proxy.running
    return module_proxy


def ask(proxy: ProxyProcess, token: str, target: str = "/x") -> Response:
    return proxy.get(target, f"Authorization: Bearer {token}")


def assert_invalid(response: Response) -> str:
    said = assert_own_error(response, 401, "Unauthorized")
    assert response.one("WWW-Authenticate") == 'Bearer error="invalid_token"'
    return said


# -- who comes in ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sub": "system:serviceaccount:team-a:agent"},
        {"aud": AUDIENCE},
        {"aud": ["another", AUDIENCE]},
        {"nbf": None, "iat": None},
        {"kubernetes.io": {"namespace": "monitoring"}},
    ],
)
def test_a_caller_on_the_list_comes_in_and_is_named_in_the_log(
    guarded: ProxyProcess, target: Upstream, cluster: Cluster, changes: dict[str, Any]
) -> None:
    token = cluster.token(**changes)
    mark = guarded.mark()
    assert ask(guarded, token).status == 200
    line = guarded.wait_for_event("Successfully sent request", after=mark)
    assert line["Caller"] == changes.get("sub", PROMETHEUS)
    assert token.encode() not in target.only().head
    assert token not in guarded.log


def test_a_signed_token_may_come_in_the_other_field_and_with_a_body(
    guarded: ProxyProcess, target: Upstream, cluster: Cluster
) -> None:
    mark = guarded.mark()
    raw = message("POST /x", f"X-Authproxy-Token: {cluster.token()}", body=b"content")
    assert guarded.ask(raw).status == 200
    assert target.only().body == b"content"
    assert guarded.wait_for_event("Successfully", after=mark)["Caller"] == PROMETHEUS


def test_elliptic_keys_are_known_too(
    guarded: ProxyProcess, target: Upstream, cluster: Cluster
) -> None:
    assert ask(guarded, cluster.keys[0].sign(claims())).status == 200


def test_either_kind_of_token_is_enough(
    guarded: ProxyProcess, target: Upstream, cluster: Cluster
) -> None:
    assert ask(guarded, "a-token-of-the-file").status == 200
    both = ("Authorization: Bearer nobody-knows-this-one", f"X-Authproxy-Token: {cluster.token()}")
    assert guarded.get("/x", *both).status == 200
    assert_invalid(ask(guarded, "nobody-knows-this-one"))


@pytest.mark.parametrize(
    "subject",
    [
        "system:serviceaccount:monitoring:grafana",
        "system:serviceaccount:team-a:agent:more",
        "system:serviceaccount:team-a:b:agent",
        f"{PROMETHEUS}-2",
        f"x{PROMETHEUS}",
        "system:serviceaccount",
        "",
    ],
)
def test_a_caller_who_is_not_on_the_list_gets_403(
    guarded: ProxyProcess, target: Upstream, cluster: Cluster, subject: str
) -> None:
    mark = guarded.mark()
    assert_own_error(ask(guarded, cluster.token(sub=subject)), 403, "CallerNotAllowed")
    assert target.requests == []
    line = guarded.wait_for_line("CallerNotAllowed", after=mark)
    assert subject in parse_line(line)["Error"]


# -- who does not ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": int(time.time()) - 120}, "has expired"),
        ({"nbf": int(time.time()) + 86_400}, "not valid yet"),
        ({"iat": int(time.time()) + 86_400}, "not valid yet"),
        ({"aud": ["another"]}, "for another audience"),
        ({"aud": "authproxy-2"}, "for another audience"),
        ({"aud": []}, "no claim aud"),
        ({"iss": "https://other.example.com"}, "from another issuer"),
        ({"iss": [ISSUER]}, "from another issuer"),
        ({"iss": ISSUER + "/"}, "from another issuer"),
        ({"sub": 5}, "its claims are wrong"),
        ({"exp": "tomorrow"}, "its claims are wrong"),
        *(({name: None}, f"no claim {name}") for name in ("exp", "iss", "aud", "sub")),
    ],
)
def test_a_token_with_wrong_claims_gets_401_with_the_reason(
    guarded: ProxyProcess, target: Upstream, cluster: Cluster, changes: dict[str, Any], why: str
) -> None:
    key = cluster.keys[-1]
    assert isinstance(key, SigningKey)
    content = {**claims(), **changes}
    content = {name: value for name, value in content.items() if value is not None}
    token = jwt.PyJWS().encode(  # the JWT encoder would refuse some of them itself
        json.dumps(content).encode(),
        key._key,
        algorithm="RS256",
        headers={"kid": key.key_id, "typ": "JWT"},
    )
    assert why in assert_invalid(ask(guarded, token))
    assert target.requests == []


def segment(content: object) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(cluster: Cluster) -> dict[str, str]:
    """Return tokens that nobody who holds the private key has signed."""
    key = cluster.keys[-1]
    assert isinstance(key, SigningKey)
    good = key.sign(claims())
    head, body, signature = good.split(".")
    pem = key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    kid = {"kid": key.key_id}
    stranger = SigningKey()
    header = {"alg": "RS256", "typ": "JWT", **kid}
    to_sign = f"{segment({**header, 'alg': 'HS256'})}.{body}"
    by_hmac = segment(hmac.digest(pem, to_sign.encode(), "sha256"))
    jwk = jwks_of(stranger)["keys"][0]
    own_key = jwt.encode(claims(), stranger._key, algorithm="RS256", headers={**kid, "jwk": jwk})
    elsewhere = {**kid, "jku": "https://evil.example.com/jwks", "x5u": "https://evil.example.com"}
    return {
        "another's key under our id": jwt.encode(
            claims(), stranger._key, algorithm="RS256", headers=kid
        ),
        "a key of its own": own_key,
        "a key elsewhere": jwt.encode(
            claims(), stranger._key, algorithm="RS256", headers=elsewhere
        ),
        "no algorithm": f"{segment({**header, 'alg': 'none'})}.{body}.",
        "no algorithm, signed": f"{segment({**header, 'alg': 'none'})}.{body}.{signature}",
        "hmac with the public key": f"{to_sign}.{by_hmac}",
        "another algorithm of the key": jwt.encode(
            claims(), key._key, algorithm="RS512", headers=kid
        ),
        "the other key's algorithm": f"{segment({**header, 'alg': 'ES256'})}.{body}.{signature}",
        "other claims": f"{head}.{segment(claims(sub='system:serviceaccount:a:b'))}.{signature}",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.x",
        "no key id": jwt.encode(claims(), key._key, algorithm="RS256"),
        "an empty key id": jwt.encode(claims(), key._key, algorithm="RS256", headers={"kid": ""}),
        "a key id of no text": f"{segment({**header, 'kid': 5})}.{body}.{signature}",
        "a key id beyond measure": f"{segment({**header, 'kid': 'k' * 300})}.{body}.{signature}",
        "a critical extension": jwt.encode(
            claims(), key._key, algorithm="RS256", headers={**kid, "crit": ["x"], "x": 1}
        ),
        "a header of another kind": f"{segment([1])}.{body}.{signature}",
        "a header without end": f"{segment(b'[' * 20_000)}.{body}.{signature}",
        "claims without end": f"{head}.{segment(b'[' * 20_000)}.{signature}",
        "an algorithm of another kind": f"{segment({**header, 'alg': {}})}.{body}.{signature}",
        "no base64": f"{head}.!!!!.{signature}",
        "dots": "...",
        "a dot": ".",
        "bytes": "\xff.\xff.\xff",
    }


NAMES = [
    *("another's key under our id", "a key of its own", "a key elsewhere", "no algorithm"),
    *("no algorithm, signed", "hmac with the public key", "another algorithm of the key"),
    *("the other key's algorithm", "other claims", "no signature", "two parts", "four parts"),
    *("no key id", "an empty key id", "a key id of no text", "a key id beyond measure"),
    *("a critical extension", "a header of another kind", "a header without end"),
    *("claims without end", "an algorithm of another kind", "no base64", "dots", "a dot", "bytes"),
]


@pytest.fixture(scope="module")
def forgeries(cluster: Cluster, module_proxy: ProxyProcess) -> dict[str, str]:
    found = forged(cluster)
    assert sorted(found) == sorted(NAMES)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_token_gets_401(
    guarded: ProxyProcess, target: Upstream, forgeries: dict[str, str], name: str
) -> None:
    assert_invalid(ask(guarded, forgeries[name]))
    raw = message("POST /x", f"Authorization: Bearer {forgeries[name]}", body=b"content")
    assert_invalid(guarded.ask(raw))
    assert target.requests == []
    assert guarded.get("/health").status == 200


def test_an_unknown_key_of_another_issuer_asks_nobody(
    guarded: ProxyProcess, target: Upstream, cluster: Cluster
) -> None:
    for _ in range(3):
        token = SigningKey().sign(claims(iss="https://other.example.com"))
        assert "from another issuer" in assert_invalid(ask(guarded, token))


# -- where the keys come from --------------------------------------------------------------


def test_the_endpoint_gets_the_pods_token_and_nothing_of_a_callers(
    guarded: ProxyProcess, target: Upstream, cluster: Cluster
) -> None:
    assert ask(guarded, cluster.token()).status == 200
    for request in cluster.requests:
        assert request.headers["Authorization"] == "Bearer the-pods-own-token"
        assert (request.method, request.target) == ("GET", Cluster.PATH)
    assert "the-pods-own-token" not in guarded.log


def becomes(status: int, ask_once: Callable[[], Response]) -> None:
    wait_until(f"the answer is {status}", lambda: ask_once().status == status)


def test_new_keys_are_found_and_an_outage_is_survived(
    launch: Launch, target: Upstream, authority: Authority
) -> None:
    with Cluster(authority.context()) as cluster:
        cluster.server.stop()
        proxy = launch(ready=False, **cluster.settings, INBOUND_JWKS_CA_FILE=str(authority.bundle))
        # An outage from the start: nobody can be told from anybody.
        old = cluster.token()
        said = assert_own_error(ask(proxy, old), 503, "AdmissionUnavailable")
        assert "keys" in said
        assert proxy.get("/ready").status == 503
        assert proxy.get("/health").status == 200
        proxy.wait_for_event("Failed to fetch the keys of inbound tokens, none are known yet")
        cluster.server.start()
        proxy.wait_ready()
        assert ask(proxy, old).status == 200
        proxy.wait_for_event("Keys of inbound tokens fetched")

        # A new key while the endpoint is out of order: old tokens go on working.
        cluster.server.stop()
        cluster.keys = [cluster.keys[0], SigningKey()]
        new = cluster.token()
        response = ask(proxy, new)
        assert_own_error(response, 503, "AdmissionUnavailable")
        assert 1 <= int(response.one("Retry-After") or 0) <= 5
        proxy.wait_for_event("Failed to fetch the keys of inbound tokens, the old stay in use")
        assert ask(proxy, new).status == 503
        assert ask(proxy, old).status == 200
        assert proxy.get("/ready").status == 200

        # The end of the outage; and the old key is withdrawn.
        cluster.keys = cluster.keys[1:]
        cluster.server.start()
        becomes(200, lambda: ask(proxy, new))
        becomes(401, lambda: ask(proxy, old))
        for token in (old, new):
            assert token not in proxy.log


def test_keys_come_from_a_file_and_are_read_anew(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    first, second = SigningKey(), SigningKey()
    path = write_keys(tmp_path / "keys.json", first)
    proxy = launch(
        INBOUND_JWKS_FILE=str(path),
        INBOUND_JWT_ISSUER=ISSUER,
        INBOUND_JWT_AUDIENCE=AUDIENCE,
        INBOUND_JWT_SUBJECTS="system:serviceaccount:**",
    )
    assert ask(proxy, first.sign(claims())).status == 200
    assert_invalid(ask(proxy, second.sign(claims())))
    write_keys(path, second)
    assert ask(proxy, second.sign(claims())).status == 200  # at once
    becomes(401, lambda: ask(proxy, first.sign(claims())))
    assert ask(proxy, second.sign(claims())).status == 200
