"""A cluster whose ServiceAccounts call the proxy: real keys, real tokens, a real endpoint."""

from __future__ import annotations

import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response
from authproxy.demo.stand_ins.signing import SigningKey
from tests.support.client_certificates import replace_file
from tests.support.signing import jwks_of

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "authproxy"
PROMETHEUS = "system:serviceaccount:monitoring:prometheus"


class EllipticKey:
    """A P-256 key pair, as `SigningKey` is an RSA one."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.key_id = "elliptic"

    def jwks(self) -> dict[str, Any]:
        key = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"keys": [{**key, "kid": self.key_id, "use": "sig"}]}

    def sign(self, claims: dict[str, Any]) -> str:
        headers = {"kid": self.key_id}
        return jwt.encode(claims, self.private, algorithm="ES256", headers=headers)


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token, changed; None leaves one out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": [AUDIENCE], "sub": PROMETHEUS, "iat": now, "nbf": now}
    changed = {**good, "exp": now + 600, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def key_set(*keys: SigningKey | EllipticKey) -> dict[str, Any]:
    """Return the JSON Web Key Set of some keys."""
    sets = (key.jwks() if isinstance(key, EllipticKey) else jwks_of(key) for key in keys)
    return {"keys": [entry for each in sets for entry in each["keys"]]}


def write_keys(path: Path, *keys: SigningKey | EllipticKey) -> Path:
    """Replace a file of keys, in one step: the proxy may be reading it."""
    replace_file(path, json.dumps(key_set(*keys)).encode())
    return path


class Cluster:
    """Publishes keys over TLS as an API server does, to whoever has its token.

    `stop` and `start` are an outage and its end.
    """

    PATH = "/openid/v1/jwks"

    def __init__(self, tls: ssl.SSLContext, *, token: str | None = None) -> None:
        self.keys: list[SigningKey | EllipticKey] = [SigningKey()]
        self.answer: Response | None = None
        self._token = token
        self._changed = threading.Condition()
        self.requests: list[Request] = []
        self.server = LoopbackServer(self._answer, tls=tls)

    @property
    def url(self) -> str:
        return f"{self.server.url}{self.PATH}"

    @property
    def settings(self) -> dict[str, str]:
        """What has a proxy let this cluster's Prometheus in."""
        return {
            "INBOUND_JWKS_URL": self.url,
            "INBOUND_JWT_ISSUER": ISSUER,
            "INBOUND_JWT_AUDIENCE": AUDIENCE,
            "INBOUND_JWT_SUBJECTS": f"{PROMETHEUS},system:serviceaccount:team-*:agent",
        }

    def token(self, **changes: Any) -> str:
        """Return a token as the newest key signs it."""
        return self.keys[-1].sign(claims(**changes))

    def _answer(self, request: Request) -> Response:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        if self.answer is not None:
            return self.answer
        if request.target != self.PATH:
            return Response(404)
        given = request.headers["Authorization"]
        if self._token is not None and given != f"Bearer {self._token}":
            return Response(401)
        return Response.of_json(200, key_set(*self.keys))

    def __enter__(self) -> Cluster:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
