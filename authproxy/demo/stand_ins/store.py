"""A stand-in metrics store: remote write and instant queries, for a valid token.

It stands for an Azure Monitor workspace: TLS, a bearer token with the right
audience on every request, Prometheus's own interfaces behind.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt

from authproxy.demo.stand_ins.certificates import EphemeralAuthority
from authproxy.demo.stand_ins.directory import METRICS_INGESTION, METRICS_QUERY
from authproxy.demo.stand_ins.loopback import Answer, Request
from authproxy.demo.stand_ins.promql import BadQuery, Constant, format_value, parse
from authproxy.demo.stand_ins.remote_write import NotRemoteWrite, Sample, decode
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.demo.stand_ins.stand_in import StandIn

WRITE_PATH = "/api/v1/write"
QUERY_PATH = "/api/v1/query"
BUILD_INFO_PATH = "/api/v1/status/buildinfo"

#: Where a real workspace takes remote writes; the store takes them at any
#: path that ends like it.
INGESTION_ENDPOINT = (
    "/dataCollectionRules/dcr-00000000000000000000000000000000"
    "/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24"
)


class StandInStore(StandIn):
    """A store on one loopback port, chosen by the system unless given.

    What tests turn, at any time: `audiences` (which `aud` counts; real Azure
    has one for ingestion and one for queries), `refuse`, `revoke_tokens`, and
    the faults of StandIn. What they read: `samples`, in order of arrival, and
    `requests`, refused ones included.
    """

    def __init__(
        self,
        signing_key: SigningKey,
        *,
        port: int = 0,
        authority: EphemeralAuthority | None = None,
        audiences: tuple[str, ...] = (METRICS_INGESTION, METRICS_QUERY),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.audiences = audiences
        self.samples: list[Sample] = []
        self.authority = authority or EphemeralAuthority()
        self._signing_key = signing_key
        self._clock = clock
        self._came = threading.Condition()
        self._tokens_seen: set[str] = set()
        self._tokens_revoked: frozenset[str] = frozenset()
        self._listener = self.listen(self._answer, port=port, tls=self.authority.server_context())

    @property
    def url(self) -> str:
        """The base URL, as TARGET_HOST has it."""
        return self._listener.url

    def refuse(self, status: int = 403, *, times: int | None = None) -> None:
        """Refuse requests, whatever their token, as Azure does before a role is assigned."""
        message = (
            "The authentication token provided does not have access to ingest data for the "
            "data collection rule."
        )
        self.fail_with(
            status, {"error": {"code": "OperationFailed", "message": message}}, times=times
        )

    def revoke_tokens(self) -> None:
        """Refuse all tokens seen so far with a claims challenge.

        This is what continuous access evaluation (CAE) does to a client.
        """
        self._tokens_revoked = frozenset(self._tokens_seen)

    def wait_for_samples(self, count: int, timeout: float = 30) -> list[Sample]:
        """Wait until `count` samples have come and return them. Raises TimeoutError."""
        with self._came:
            if not self._came.wait_for(lambda: len(self.samples) >= count, timeout):
                raise TimeoutError(f"{len(self.samples)} of {count} samples within {timeout} s")
            return list(self.samples)

    def _answer(self, request: Request) -> Answer:
        refused = self._check_token(request.headers.get("Authorization", ""))
        if refused is not None:
            return refused
        if request.path.endswith(WRITE_PATH):
            return self._write(request)
        if request.path.endswith(QUERY_PATH):
            return self._query(request)
        if request.path.endswith(BUILD_INFO_PATH):
            return _success({"version": "2.50.0", "application": "authproxy demo"})
        return _failure(404, "not_found", f"there is nothing at {request.path}")

    def _check_token(self, authorization: str) -> Answer | None:
        """Return the refusal that a request with this Authorization deserves, if any."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return _unauthorized("No bearer token was sent.")
        try:
            claims = self._signing_key.verify(token)
        except jwt.InvalidTokenError:
            return _unauthorized("The signature of the token is not valid.", "invalid_token")
        self._tokens_seen.add(claims["uti"])
        if str(claims["aud"]).rstrip("/") not in self.audiences:
            return _unauthorized("The audience of the token is not valid.", "invalid_token")
        if not claims["nbf"] <= self._clock() < claims["exp"]:
            return _unauthorized("The lifetime of the token is over.", "invalid_token")
        if claims["uti"] in self._tokens_revoked:
            return self._claims_challenge()
        return None

    def _claims_challenge(self) -> Answer:
        demanded = {"access_token": {"nbf": {"essential": True, "value": str(int(self._clock()))}}}
        claims = base64.b64encode(json.dumps(demanded).encode()).decode()
        return _unauthorized(
            "The token was revoked.", "insufficient_claims", f', claims="{claims}"'
        )

    def _write(self, request: Request) -> Answer:
        if request.method != "POST":
            return Answer(405, headers={"Allow": "POST"})
        if request.headers.get_content_type() != "application/x-protobuf":
            return Answer(415, b"expected Content-Type: application/x-protobuf\n")
        if request.headers.get("Content-Encoding", "").lower() != "snappy":
            return Answer(415, b"expected Content-Encoding: snappy\n")
        try:
            samples = decode(request.body)
        except NotRemoteWrite as error:
            return Answer(400, f"{error}\n".encode(), {"Content-Type": "text/plain"})
        with self._came:
            self.samples.extend(samples)
            self._came.notify_all()
        return Answer(204)

    def _query(self, request: Request) -> Answer:
        parameters = {**request.query, **request.form}
        try:
            query = parse(parameters.get("query", ""))
            at = float(parameters.get("time") or self._clock())
        except ValueError as error:
            kind = "query" if isinstance(error, BadQuery) else "parameter"
            return _failure(400, "bad_data", f"invalid {kind}: {error}")
        if isinstance(query, Constant):
            value = [at, format_value(query.value)]
            if query.scalar:
                return _success({"resultType": "scalar", "result": value})
            return _success({"resultType": "vector", "result": [{"metric": {}, "value": value}]})
        with self._came:
            latest = query.latest(self.samples, at)
        result = [
            {"metric": dict(sample.labels), "value": [at, format_value(sample.value)]}
            for sample in latest
        ]
        return _success({"resultType": "vector", "result": result})


def _success(data: dict[str, Any]) -> Answer:
    return Answer.of_json(200, {"status": "success", "data": data})


def _failure(status: int, kind: str, message: str) -> Answer:
    return Answer.of_json(status, {"status": "error", "errorType": kind, "error": message})


def _unauthorized(message: str, error: str | None = None, more: str = "") -> Answer:
    """Return 401 with a challenge (RFC 6750 section 3)."""
    challenge = (
        'Bearer authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize"'
    )
    if error is not None:
        challenge += f', error="{error}", error_description="{message}"{more}'
    return Answer.of_json(
        401,
        {"error": {"code": "InvalidAuthenticationToken", "message": message}},
        {"WWW-Authenticate": challenge},
    )
