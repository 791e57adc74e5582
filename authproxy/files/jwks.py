"""Public keys that callers' tokens are signed with: a JSON Web Key Set (RFC 7517)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from authproxy.files.watched_file import WatchedFile

if TYPE_CHECKING:
    from jwt import PyJWK

    #: Keys by their id.
    Keys = Mapping[str, PyJWK]

#: Algorithms with public keys. Never HMAC, for which the published key would be the secret.
ALGORITHMS = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)


def parse_jwks(data: bytes) -> Keys:
    """Return the keys of a set that can be used, by id.

    Left out are keys without an id, for other uses than signatures, of other
    algorithms, with a private part, and too short ones. Raises ValueError,
    also where none is left.
    """
    # Here and not above: it loads cryptography, and few need it.
    from jwt import PyJWK, PyJWTError

    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is not a JSON Web Key Set: an object with a list of keys")
    keys: dict[str, PyJWK] = {}
    for entry in listed:
        if not isinstance(entry, dict) or "d" in entry or entry.get("use", "sig") != "sig":
            continue
        key_id = entry.get("kid")
        if not isinstance(key_id, str) or not key_id or entry.get("alg") not in (None, *ALGORITHMS):
            continue
        try:
            key = PyJWK(entry)
        # Whatever is in an entry: it is not one that can be used.
        except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            continue
        if key.algorithm_name in ALGORITHMS and not key.Algorithm.check_key_length(key.key):
            keys.setdefault(key_id, key)
    if not keys:
        raise ValueError("it holds no key that can be used: public, with a `kid`, for signatures")
    return keys


class KeySource(Protocol):
    """Where the keys come from."""

    def current(self) -> Keys | None:
        """Return the keys in force, at once; None where there never were any."""

    def look_for(self, key_id: str) -> float | None:
        """Ask for a key that is not there.

        It may be there at once then. If not: returns the seconds after which it
        may be, None where there is no such key.
        """

    def start(self) -> None:
        """Begin to get keys; harmless when repeated, from any thread."""

    def stop(self) -> None:
        """Get no more."""

    @property
    def alive(self) -> bool:
        """Whether new keys are noticed: False where a bug has ended a thread of this source's."""


class FileKeys(WatchedFile["Keys"]):
    """The keys of INBOUND_JWKS_FILE, read anew when it changes; a `KeySource`."""

    def __init__(self, path: str) -> None:
        super().__init__(
            "INBOUND_JWKS_FILE",
            path,
            parse_jwks,
            both=lambda older, newer: {**older, **newer},
            what="keys of inbound tokens",
        )

    def look_for(self, key_id: str) -> float | None:
        self.renewed()
        return None
