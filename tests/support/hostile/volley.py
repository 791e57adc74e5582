"""Sends many cases at a time, each on a connection of its own, and notes what comes back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

from tests.support import actions
from tests.support.hostile.case import Case
from tests.support.hostile.oracle import FOLLOW_UP, Prediction, predict
from tests.support.upstream import Exchange, Recorded
from tests.support.wire import DEADLINE, Address, Client, Response, WireError

#: Connections at a time: more than the machine has processors, fewer than the proxy has threads.
CONNECTIONS = 12

#: Up to this length cases come byte by byte; longer ones in so many pieces.
_SHORT = 1500
_PIECES = 50

#: How much of a target comes back.
ECHO_BYTES = 1000

#: What a driver makes of `-CASE-`.
MARK = re.compile("-([0-9]{4})-")


@dataclass
class Shot:
    """One case on its way, with its number in its bytes."""

    case: Case
    number: int

    @property
    def raw(self) -> bytes:
        return self._marked(self.case.raw)

    @property
    def follow_up(self) -> bytes:
        return self._marked(FOLLOW_UP)

    def _marked(self, raw: bytes) -> bytes:
        return raw.replace(b"-CASE-", b"-%04d-" % self.number)

    @cached_property
    def prediction(self) -> Prediction:
        """What is to become of the case and the request after it."""
        if self.case.exceeds_a_limit:
            statuses = self.case.expected.statuses
            return Prediction([(b"GET", status) for status in statuses], [], True, False)
        return predict(self.raw + self.follow_up)

    def responses_before_the_follow_up(self) -> int:
        """Return how many responses the case alone is due."""
        return 1 if self.case.exceeds_a_limit else len(predict(self.raw).responses)


@dataclass
class Outcome:
    """What came of a case: the responses, and what was wrong with them."""

    shot: Shot
    responses: list[Response] = field(default_factory=list)
    problem: str | None = None
    recorded: list[Recorded] = field(default_factory=list)

    def receive_all(self, client: Client) -> None:
        """Receive the responses that are due and did not come yet; raises WireError."""
        self.receive(client, len(self.shot.prediction.responses))

    def receive(self, client: Client, count: int) -> None:
        """Receive responses up to this count."""
        prediction = self.shot.prediction
        for method, _ in prediction.responses[len(self.responses) : count]:
            response = client.receive_head()
            self.responses.append(response)
            is_last = len(self.responses) == len(prediction.responses)
            if is_last and prediction.closes and method != b"HEAD":
                # The refusal of a HEAD has no body, wherever it was found wrong.
                response.body = b"".join(client.stream.to_end())
                if response.body and len(response.body) != response.framing:
                    raise WireError(f"more than one response: {response.body!r}")
            else:
                response.body = b"".join(client.body_of(response, method))


#: Sends a case and a good request after it, and receives the responses.
Delivery = Callable[[Client, Outcome], None]


def at_once(client: Client, outcome: Outcome) -> None:
    """Send the case and the request after it in one go."""
    client.offer(outcome.shot.raw + outcome.shot.follow_up)
    outcome.receive_all(client)


def dripped(client: Client, outcome: Outcome) -> None:
    """Send them byte by byte."""
    raw = outcome.shot.raw + outcome.shot.follow_up
    size = 1 if len(raw) <= _SHORT else len(raw) // _PIECES
    for at in range(0, len(raw), size):
        client.offer(raw[at : at + size])
    outcome.receive_all(client)


def in_turn(client: Client, outcome: Outcome) -> None:
    """Send the case, wait for what is due, and only then send the request after it."""
    client.offer(outcome.shot.raw)
    outcome.receive(client, outcome.shot.responses_before_the_follow_up())
    client.offer(outcome.shot.follow_up)
    outcome.receive_all(client)


def fire(address: Address, cases: Sequence[Case], deliver: Delivery) -> list[Outcome]:
    """Send each case, many at a time; return what came of them, in their order."""
    outcomes = [Outcome(Shot(case, number)) for number, case in enumerate(cases)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda outcome: _fire_one(address, outcome, deliver), outcomes))
    return outcomes


def _fire_one(address: Address, outcome: Outcome, deliver: Delivery) -> None:
    try:
        with Client(address, timeout=DEADLINE / 2) as client:
            deliver(client, outcome)
            if outcome.shot.prediction.waits:
                client.finish_sending()
            if not client.is_closed_by_peer():
                outcome.problem = f"more came: {client.stream.buffer[:300]!r}"
    except (WireError, OSError) as error:
        outcome.problem = f"{type(error).__name__}: {error}"


def attribute(outcomes: Sequence[Outcome], requests: Iterable[Recorded]) -> list[Recorded]:
    """Give each request that arrived to the case that it came from; return those of none."""
    astray = []
    for request in requests:
        number = number_in(request)
        if number is None or number >= len(outcomes):
            astray.append(request)
        else:
            outcomes[number].recorded.append(request)
    return astray


def number_in(request: Recorded) -> int | None:
    """Return the number that a request carries in its target, a field or its body."""
    fields = "\n".join(value for name, value in request.fields if name != "Authorization")
    places = (request.target.decode("latin-1"), fields, request.body.decode("latin-1"))
    found = next(filter(None, map(MARK.search, places)), None)
    return int(found[1]) if found else None


def echoed(method: bytes, target: bytes) -> str:
    """Return what `echo` says of a request."""
    return (method + b" " + target)[:ECHO_BYTES].decode("latin-1")


def echo(exchange: Exchange) -> None:
    """Respond with the method and the target that arrived."""
    exchange.read_body()
    said = echoed(exchange.request.method, exchange.request.target)
    exchange.send(actions.head(200, ("X-Echo", said), f"Content-Length: {len(said)}"))
    if exchange.request.method != b"HEAD":
        exchange.send(said)
