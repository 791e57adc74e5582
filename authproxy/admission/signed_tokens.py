"""Callers identified by a signed token, such as Kubernetes ServiceAccounts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authproxy.clock import Clock, SystemClock
from authproxy.errors import AdmissionUnavailable, CallerNotAllowed, Unauthorized
from authproxy.files.jwks import KeySource
from authproxy.http1.globs import Glob

if TYPE_CHECKING:
    from jwt import PyJWK

    from authproxy.files.jwks import Keys

#: How far the clocks of issuer and proxy may be apart, in seconds.
LEEWAY = 30

_REQUIRED_CLAIMS = ["exp", "iss", "aud", "sub"]

#: Longest key id; longer ones are refused unread.
_MAX_KEY_ID = 256

#: Tokens that are remembered as verified.
_MAX_SEEN = 1000

#: After which time a caller may ask again while there are no keys at all.
_RETRY_SECONDS = 5.0

#: The parts of a subject are separated by this, as in `system:serviceaccount:NAMESPACE:NAME`.
SEPARATOR = ":"


def invalid(why: str) -> Unauthorized:
    """Return the error for a token that is not accepted (RFC 6750 section 3.1)."""
    return Unauthorized(
        f"the token is not accepted: {why}",
        fields=[("WWW-Authenticate", 'Bearer error="invalid_token"')],
    )


@dataclass(frozen=True)
class _Seen:
    """A token that was verified: with which keys, how long it holds, and whose it is."""

    keys: Keys
    until: int
    subject: str


class TokenCallers:
    """Identifies callers by their tokens (JWT, RFC 7519), and decides which are admitted."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        subjects: Iterable[str],
        clock: Clock | None = None,
    ) -> None:
        # Here and not above: it loads cryptography, and few need it.
        import jwt

        self._jwt = jwt
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._subjects = [Glob(subject, SEPARATOR) for subject in subjects]
        self._clock: Clock = clock or SystemClock()
        #: By digest, the tokens that were verified: verification takes longer than all else.
        self._seen: dict[bytes, _Seen] = {}

    def identify(self, token: str) -> str:
        """Return whose token it is.

        Raises Unauthorized for one that is not valid, CallerNotAllowed for a
        caller that INBOUND_JWT_SUBJECTS does not name, AdmissionUnavailable where
        the key is not there yet.
        """
        keys = self._keys_now()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        seen = self._seen.get(digest)
        if seen is not None and seen.keys is keys and self._clock.wall() < seen.until:
            return seen.subject
        claims = self._claims(token, self._key(token, keys))
        subject = str(claims["sub"])
        if not any(glob.matches(subject) for glob in self._subjects):
            raise CallerNotAllowed(f"the caller {subject} is none of INBOUND_JWT_SUBJECTS")
        if len(self._seen) >= _MAX_SEEN:
            self._seen.clear()
        self._seen[digest] = _Seen(keys, int(claims["exp"]), subject)
        return subject

    def _keys_now(self) -> Keys:
        keys = self.keys.current()
        if keys is None:
            raise AdmissionUnavailable(
                "the keys of callers' tokens could not be had yet", retry_after=_RETRY_SECONDS
            )
        return keys

    def _key(self, token: str, keys: Keys) -> PyJWK:
        try:
            header = self._jwt.get_unverified_header(token)
        except self._jwt.InvalidTokenError:
            raise invalid("it is not one of those known here") from None
        key_id = header.get("kid")
        if not isinstance(key_id, str) or not 0 < len(key_id) <= _MAX_KEY_ID:
            raise invalid("it does not name its key")
        key = keys.get(key_id)
        if key is None:
            # Only for tokens that claim to be from our issuer: keys of others are never there.
            self._require_issuer(token)
            seconds = self.keys.look_for(key_id)
            key = self._keys_now().get(key_id)
            if key is not None:
                return key
            if seconds is None:
                raise invalid("its key is not known")
            raise AdmissionUnavailable("the token's key is not known yet", retry_after=seconds)
        return key

    def _require_issuer(self, token: str) -> None:
        try:
            claims = self._jwt.decode(token, options={"verify_signature": False})
        except self._jwt.InvalidTokenError:
            claims = {}
        if claims.get("iss") != self._issuer:
            raise invalid("it is from another issuer")

    def _claims(self, token: str, key: PyJWK) -> dict[str, Any]:
        errors = self._jwt
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token,
                key,
                # The algorithm of the key, not of the token (RFC 8725 section 3.1).
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": _REQUIRED_CLAIMS},
            )
        except errors.ExpiredSignatureError:
            raise invalid("it has expired") from None
        except errors.ImmatureSignatureError:
            raise invalid("it is not valid yet (compare both clocks)") from None
        except errors.InvalidAudienceError:
            raise invalid("it is for another audience") from None
        except errors.InvalidIssuerError:
            raise invalid("it is from another issuer") from None
        except errors.MissingRequiredClaimError as error:
            raise invalid(f"it has no claim {error.claim}") from None
        except errors.InvalidTokenError:
            raise invalid("its signature or its claims are wrong") from None
        return claims
