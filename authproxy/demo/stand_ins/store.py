"""A stand-in metrics store: remote write and instant queries, for a valid token.

It stands for an Azure Monitor workspace: TLS, a bearer token with the right
audience on every request, Prometheus's own interfaces behind.
"""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import jwt

from authproxy.demo.stand_ins.certificates import EphemeralCertificate
from authproxy.demo.stand_ins.directory import METRICS_INGESTION, METRICS_QUERY
from authproxy.demo.stand_ins.loopback import Request, Response
from authproxy.demo.stand_ins.remote_write import NotRemoteWrite, Sample, decode
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.demo.stand_ins.stand_in import StandIn

#: How paths end: a real workspace has more in front of that of remote writes.
WRITE_PATH = "/api/v1/write"
QUERY_PATH = "/api/v1/query"

#: All that a query may be here: the name of a metric, or a constant such as vector(1).
_QUERY = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|vector\((?P<constant>[0-9]+)\)")

#: What Azure Monitor says where a role is missing.
NO_ACCESS = {
    "error": {
        "code": "OperationFailed",
        "message": "The authentication token provided does not have access to ingest data for "
        "the data collection rule.",
    }
}


class MetricsStore(StandIn):
    """A store on one loopback port, chosen by the system unless given.

    `audiences` says which `aud` counts (real Azure has one for ingestion and one
    for queries); `samples` has what was written, in order of arrival. While
    `takes_writes` is false, writes are refused as without a role.
    """

    def __init__(
        self,
        signing_key: SigningKey,
        *,
        port: int = 0,
        authority: EphemeralCertificate | None = None,
    ) -> None:
        super().__init__()
        self.audiences: tuple[str, ...] = (METRICS_INGESTION, METRICS_QUERY)
        self.samples: list[Sample] = []
        self.takes_writes = True
        self.authority = authority or EphemeralCertificate()
        self._signing_key = signing_key
        self._came = threading.Condition()
        self._listener = self.listen(self._respond, port=port, tls=self.authority.server_context())

    @property
    def url(self) -> str:
        """The base URL, as TARGET_HOST has it."""
        return self._listener.url

    def _respond(self, request: Request) -> Response:
        refused = self._check_token(request.headers.get("Authorization", ""))
        if refused is not None:
            return refused
        if request.path.endswith(WRITE_PATH):
            return self._write(request)
        if request.path.endswith(QUERY_PATH):
            return self._query(request)
        return Response(404, f"there is nothing at {request.path}\n".encode())

    def _check_token(self, authorization: str) -> Response | None:
        """Return the refusal that a request with this Authorization deserves, if any."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return unauthorized("No bearer token was sent.")
        try:
            claims = self._signing_key.verify(token)
        except jwt.InvalidTokenError:
            return unauthorized("The signature of the token is not valid.", "invalid_token")
        if str(claims["aud"]).rstrip("/") not in self.audiences:
            return unauthorized("The audience of the token is not valid.", "invalid_token")
        if not claims["nbf"] <= time.time() < claims["exp"]:
            return unauthorized("The lifetime of the token is over.", "invalid_token")
        return None

    def _write(self, request: Request) -> Response:
        if not self.takes_writes:
            return Response.of_json(403, NO_ACCESS)
        if request.method != "POST":
            return Response(405, headers={"Allow": "POST"})
        if request.headers.get_content_type() != "application/x-protobuf":
            return Response(415, b"expected Content-Type: application/x-protobuf\n")
        if request.headers.get("Content-Encoding", "").lower() != "snappy":
            return Response(415, b"expected Content-Encoding: snappy\n")
        try:
            samples = decode(request.body)
        except NotRemoteWrite as error:
            return Response(400, f"{error}\n".encode(), {"Content-Type": "text/plain"})
        with self._came:
            self.samples.extend(samples)
            self._came.notify_all()
        return Response(204)

    def _query(self, request: Request) -> Response:
        parameters = {**request.query, **request.form}
        query = _QUERY.fullmatch(parameters.get("query", ""))
        if query is None:
            return _failure("only a metric's name and vector(1) are understood here")
        try:
            at = float(parameters.get("time") or time.time())
        except ValueError as error:
            return _failure(f"invalid parameter: {error}")
        if query["constant"]:
            return _vector({"metric": {}, "value": [at, query["constant"]]})
        with self._came:
            latest = {
                sample.labels: sample
                for sample in sorted(self.samples, key=lambda each: each.timestamp)
                if sample.name == query["name"] and sample.timestamp <= at * 1000
            }
        return _vector(
            *(
                # As Prometheus prints whole numbers.
                {"metric": dict(labels), "value": [at, str(sample.value).removesuffix(".0")]}
                for labels, sample in latest.items()
            )
        )


def _vector(*series: dict[str, Any]) -> Response:
    data = {"resultType": "vector", "result": series}
    return Response.of_json(200, {"status": "success", "data": data})


def _failure(message: str) -> Response:
    content = {"status": "error", "errorType": "bad_data", "error": message}
    return Response.of_json(400, content)


def unauthorized(message: str, error: str | None = None, more: str = "") -> Response:
    """Return 401 with a challenge (RFC 6750 section 3)."""
    challenge = (
        'Bearer authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize"'
    )
    if error is not None:
        challenge += f', error="{error}", error_description="{message}"{more}'
    return Response.of_json(
        401,
        {"error": {"code": "InvalidAuthenticationToken", "message": message}},
        {"WWW-Authenticate": challenge},
    )
