"""A stand-in metrics store that refuses and revokes on order."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from authproxy.demo.stand_ins.loopback import Response
from authproxy.demo.stand_ins.remote_write import Sample
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.demo.stand_ins.store import NO_ACCESS, MetricsStore, unauthorized
from tests.support.stand_ins.faults import FaultyStandIn


class StandInStore(FaultyStandIn, MetricsStore):
    """A store; `requests` has the refused ones as well."""

    def __init__(self, signing_key: SigningKey, **options: Any) -> None:
        """`options` are those of MetricsStore."""
        super().__init__(signing_key=signing_key, **options)
        self._accepted: set[str] = set()
        self._revoked: frozenset[str] = frozenset()

    def refuse(self, status: int = 403, *, times: int | None = None) -> None:
        """Refuse requests, whatever their token, as Azure does before a role is assigned."""
        self.fail_with(status, NO_ACCESS, times=times)

    def revoke_tokens(self) -> None:
        """Refuse all tokens accepted so far with a claims challenge.

        This is what continuous access evaluation (CAE) does to a client.
        """
        self._revoked = frozenset(self._accepted)

    def wait_for_samples(self, count: int, timeout: float = 30) -> list[Sample]:
        """Wait until `count` samples have come and return them. Raises TimeoutError."""
        with self._came:
            if not self._came.wait_for(lambda: len(self.samples) >= count, timeout):
                raise TimeoutError(f"{len(self.samples)} of {count} samples within {timeout} s")
            return list(self.samples)

    def _check_token(self, authorization: str) -> Response | None:
        refused = super()._check_token(authorization)
        if refused is None and authorization in self._revoked:
            return self._claims_challenge()
        if refused is None:
            self._accepted.add(authorization)
        return refused

    def _claims_challenge(self) -> Response:
        demanded = {"access_token": {"nbf": {"essential": True, "value": str(int(time.time()))}}}
        claims = base64.b64encode(json.dumps(demanded).encode()).decode()
        return unauthorized("The token was revoked.", "insufficient_claims", f', claims="{claims}"')
