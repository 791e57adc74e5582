"""What of a stand-in's key only tests need: its publication, and other keys' signatures."""

from __future__ import annotations

from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from authproxy.demo.stand_ins.signing import ALGORITHM, SigningKey


def jwks_of(key: SigningKey) -> dict[str, Any]:
    """Return the JSON Web Key Set (RFC 7517) with the public key."""
    published = RSAAlgorithm.to_jwk(key.public_key, as_dict=True)
    return {"keys": [{**published, "kid": key.key_id, "use": "sig", "alg": ALGORITHM}]}


def verify_signature(token: str, key: rsa.RSAPublicKey, *algorithms: str) -> dict[str, Any]:
    """Return the claims of a token signed with `key`, leaving their judgement to the caller.

    Raises jwt.InvalidTokenError.
    """
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=list(algorithms),
        options={
            "verify_aud": False,
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
        },
    )
    return claims
