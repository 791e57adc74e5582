"""The publication of a stand-in's key."""

from __future__ import annotations

from typing import Any

from jwt.algorithms import RSAAlgorithm

from authproxy.demo.stand_ins.signing import ALGORITHM, SigningKey


def jwks_of(key: SigningKey) -> dict[str, Any]:
    """Return the JSON Web Key Set (RFC 7517) with the public key."""
    published = RSAAlgorithm.to_jwk(key.public_key, as_dict=True)
    return {"keys": [{**published, "kid": key.key_id, "use": "sig", "alg": ALGORITHM}]}
