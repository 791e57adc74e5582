"""What stands in for Azure's access control before a store, and makes trouble."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import jwt

from tests.support import actions
from tests.support.prometheus import Store, ask
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Exchange, Upstream

#: By it a sender's requests are told from others, where several write to one gatekeeper.
SENDER = "X-Sender"

#: Of the store's response, what holds for its connection with the gatekeeper alone.
_NOT_PASSED_ON = {"connection", "content-encoding", "content-length", "transfer-encoding"}


@dataclass
class Gatekeeper:
    """What Azure has before its store: each request needs a valid token, and a role.

    Lets requests through to `store` that carry an unexpired token of `entra`
    for `audience`. While `trouble` is one of TROUBLES, each request meets that; the next
    requests of a sender meet those in `coming`, one each. A redirect leads to the gatekeeper's
    own URL, where whoever comes without a token is refused.
    """

    entra: StandInEntra
    audience: str
    store: Store
    upstream: Upstream
    trouble: str | None = None
    coming: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    tokens: list[str] = field(default_factory=list)
    #: How many requests passed, by sender; and met a trouble, by sender and trouble.
    passed: Counter[str] = field(default_factory=Counter)
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    without_token: int = 0

    def __post_init__(self) -> None:
        self.upstream.respond(self._judge)

    def times(self, trouble: str) -> int:
        """Return how many requests have met that trouble."""
        return sum(count for (_, each), count in self.met.items() if each == trouble)

    def _judge(self, exchange: Exchange) -> None:
        exchange.read_body()
        request = exchange.request
        scheme, _, token = (request.one("Authorization") or "").partition(" ")
        if scheme != "Bearer" and (self.times("307") or self.times("308")):
            self.without_token += 1  # the sender has followed it past the proxy
            exchange.send(actions.answer(401))
            return
        assert scheme == "Bearer", "a request without a bearer token"
        self._verify(token)
        sender = request.one(SENDER) or ""
        coming = self.coming[sender]
        trouble = coming.popleft() if coming else self.trouble
        if trouble is None:
            self._pass_on(exchange, sender)
        else:
            self.met[sender, trouble] += 1  # before: the sender may follow a redirect at once
            TROUBLES[trouble](exchange)

    def _verify(self, token: str) -> None:
        try:
            claims = self.entra.signing_key.verify(token)
        except jwt.InvalidTokenError as error:
            raise AssertionError(f"a request with a bad token: {error}") from None
        assert claims["aud"] == self.audience
        assert claims["nbf"] <= time.time() < claims["exp"], "a request with an expired token"
        if token not in self.tokens:
            self.tokens.append(token)

    def _pass_on(self, exchange: Exchange, sender: str) -> None:
        request = exchange.request
        reply = ask(
            self.store.port,
            request.method.decode(),
            request.target.decode(),
            headers={name: value for name, value in request.fields if name.lower() != "host"},
            body=request.body,
            tls=self.store.tls,
        )
        fields = [each for each in reply.headers.items() if each[0].lower() not in _NOT_PASSED_ON]
        self.passed[sender] += 1  # before: the sender may be looked at as soon as it has it
        exchange.send(actions.answer(reply.status, *fields, body=reply.body))


def _refuse(exchange: Exchange) -> None:
    said = {"error": {"code": "OperationFailed", "message": "The identity has no role."}}
    fields = ("Content-Type", "application/json")
    exchange.send(actions.answer("403 Forbidden", fields, body=json.dumps(said).encode()))


def _redirect(status: int) -> Callable[[Exchange], None]:
    def redirect(exchange: Exchange) -> None:
        location = f"{exchange.connection.upstream.url}{exchange.request.target.decode()}"
        exchange.send(actions.answer(status, ("Location", location)))

    return redirect


#: What a gatekeeper can do with a request in place of passing it to its store.
TROUBLES: dict[str, Callable[[Exchange], None]] = {
    "403": _refuse,
    "401": lambda exchange: exchange.send(actions.answer(401)),
    "307": _redirect(307),
    "308": _redirect(308),
    "reset": Exchange.reset,
}
