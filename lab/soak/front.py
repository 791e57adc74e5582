"""What Azure has before its store, with faults: tokens are judged, samples noted."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from random import Random

import jwt

from authproxy.demo.stand_ins.remote_write import NotRemoteWrite, decode
from lab.soak.ledger import Ledger
from lab.soak.schedule import Fault
from tests.support import actions
from tests.support.prometheus import Prometheus, Reply, ask
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Exchange, Upstream

#: Tells of which settings the proxy sends; a reload changes it.
GENERATION = "X-Soak-Generation"

#: How long a stalled response is held back at the most, in seconds.
STALL = 8.0

_REFUSALS = {
    "429 of the target": ("429 Too Many Requests", "Retry-After: 1"),
    "503 of the target": ("503 Service Unavailable", "Retry-After: 1"),
    "401 of the target": ("401 Unauthorized", "WWW-Authenticate: Bearer"),
    "403 of the target": ("403 Forbidden", "Content-Type: application/json"),
}


class Front:
    """Listens where the proxy's target is; passes on to `store` what carries a good token."""

    def __init__(
        self,
        entra: StandInEntra,
        audience: str,
        store: Prometheus,
        tls: ssl.SSLContext,
        store_tls: ssl.SSLContext,
        seed: int,
    ) -> None:
        self.ledger = Ledger()
        self.tokens: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        #: What must never happen, in words.
        self.wrongs: list[str] = []
        self.generations: set[str] = set()
        self.fault: Fault | None = None
        self._over = threading.Event()
        self._random = Random(seed)
        self._entra, self._audience = entra, audience
        self._store, self._store_tls = store, store_tls
        self._tls = tls
        self._upstream: Upstream | None = None
        self.host, self.port = "127.0.0.1", 0

    # -- where it listens ------------------------------------------------------

    def open(self) -> None:
        """Listen at `host`; on the same port as before, if there was one."""
        self._upstream = Upstream(self._tls, host=self.host, port=self.port)
        self._upstream.respond(self._serve)
        self.port = self._upstream.port

    def close(self) -> None:
        """Stop listening, and end every connection as a crash would."""
        if self._upstream is None:
            return
        self._over.set()
        upstream, self._upstream = self._upstream, None
        upstream.close()
        self.wrongs += upstream.faults

    # -- its faults ------------------------------------------------------------

    def begin(self, fault: Fault) -> None:
        self._over = threading.Event()
        self.fault = fault

    def end(self) -> None:
        self.fault = None
        self._over.set()

    # -- one request -----------------------------------------------------------

    def _serve(self, exchange: Exchange) -> None:
        request = exchange.request
        body = exchange.read_body()
        # The records of twenty minutes would be large.
        request.body = b""
        if (upstream := exchange.connection.upstream).requests:
            upstream.requests.clear()
        self._judge(exchange)
        fault, over = self.fault, self._over
        if fault is None or self._random.random() > fault.share:
            self._respond(exchange, self._pass_on(exchange, body))
            return
        self.struck[fault.kind] += 1
        if fault.kind in _REFUSALS:
            status, line = _REFUSALS[fault.kind]
            exchange.send(actions.answer(status, line, body=b'{"error": "on order"}'))
        elif fault.kind == "reset before the response":
            exchange.reset()
        elif fault.kind == "response lost after storing":
            self._pass_on(exchange, body)
            exchange.reset()
        elif fault.kind == "response cut short":
            self._pass_on(exchange, body)
            exchange.send(actions.head("200 OK", "Content-Length: 1000"), b'{"status":"succ')
            exchange.cut()
        elif fault.kind == "target stalled":
            over.wait(STALL)
            exchange.cut()
        elif fault.kind == "target slow":
            over.wait(self._random.uniform(0.2, 1.5))
            self._respond(exchange, self._pass_on(exchange, body))
        else:
            raise AssertionError(f"not a fault of responses: {fault.kind}")

    def _judge(self, exchange: Exchange) -> None:
        scheme, _, token = (exchange.request.one("Authorization") or "").partition(" ")
        try:
            claims = self._entra.signing_key.verify(token)
        except jwt.InvalidTokenError as error:
            self.wrongs.append(f"a request came with {scheme or 'no credential'}: {error}")
            return
        if claims["aud"] != self._audience or not claims["nbf"] <= time.time() < claims["exp"]:
            self.wrongs.append(f"a request came with a token that is not good: {claims}")
        self.tokens.add(token)
        self.generations.add(exchange.request.one(GENERATION) or "")

    def _pass_on(self, exchange: Exchange, body: bytes) -> Reply | None:
        """Return the store's response, None if it is down; note what it acknowledged."""
        request = exchange.request
        writes = request.target.startswith(b"/api/v1/write")
        try:
            samples = decode(body) if writes else []
        except NotRemoteWrite as error:
            self.wrongs.append(f"a write came that is none: {error}")
            return None
        kept = {name: value for name, value in request.fields if name.lower() != "host"}
        try:
            reply = ask(
                self._store.port,
                request.method.decode(),
                request.target.decode(),
                headers=kept,
                body=body,
                tls=self._store_tls,
            )
        except OSError:
            return None
        self.requests["writes" if writes else "queries"] += 1
        if writes and reply.status // 100 == 2:
            self.ledger.add(samples)
        elif reply.status // 100 != 2 and reply.status != 503:
            self.wrongs.append(f"the store responded {reply.status}: {reply.body[:200]!r}")
        return reply

    def _respond(self, exchange: Exchange, reply: Reply | None) -> None:
        if reply is None:
            exchange.send(actions.answer("503 Service Unavailable", body=b"the store is down"))
        elif reply.status == 204:
            exchange.send(actions.head("204 No Content"))
        else:
            line = "Content-Type: application/json"
            exchange.send(actions.answer(reply.status, line, body=reply.body))
