"""Whatever a target sends beyond or beside its response, no other client gets any of it.

All cases are on their way together, from clients of HTTP/1.1 and of 1.0, each
followed by good requests on its own connection and on others. Each has a route
of its own: a target that was caught is not trusted with kept connections any
more, and that is to help no case but the one that it was caught in.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.hostile.responses import EXCESS, Misframed, Seen, misframed_responses
from tests.support.hostile.volley import echo
from tests.support.process import ProxyProcess, wait_until
from tests.support.routes import to, write_routes
from tests.support.tcp import unacknowledged_from
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import Client, Response, Truncated, WireError, message

CASES = list(product(misframed_responses(), ("1.1", "1.0")))
IDS = [f"{case.name}-{version}" for case, version in CASES]

#: What comes on an idle connection, and behind which response.
LATE = {
    "response": EXCESS,
    "responses": EXCESS * 3,
    "line-end": b"\r\n",
    "nul": b"\0",
    "interim": actions.head("100 Continue"),
    "half-a-head": b"HTTP/1.1 200 OK\r\n",
}
FIRST = {
    "length": actions.answer(200, body=b"good"),
    "chunked": actions.head(200, "Transfer-Encoding: chunked") + b"4\r\ngood\r\n0\r\n\r\n",
    "204": actions.head(204),
}
LATE_IDS = [f"{late}-after-{first}" for late, first in product(LATE, FIRST)]

#: Clients at a time.
CLIENTS = 8


@dataclass
class Outcome:
    """What a client saw, and what it and others got for the good requests after that."""

    seen: Seen | None = None
    answer: Response | None = None
    problems: list[str] = field(default_factory=list)


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(set(IDS)) == len(IDS)


@pytest.fixture(scope="module")
def routed(
    launch_for_module: Launch, shared_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> ProxyProcess:
    """A proxy with a route for each case, all to the same target."""
    paths = [*(f"/case-{number}" for number in range(len(CASES))), *(f"/{id}" for id in LATE_IDS)]
    routes = [to(shared_upstream, path=path) for path in paths]
    file = write_routes(tmp_path_factory.mktemp("hostile") / "settings.yaml", routes)
    return launch_for_module(without=("TARGET_HOST",), AUTHPROXY_CONFIG=str(file))


@pytest.fixture(scope="module")
def outcomes(routed: ProxyProcess, shared_upstream: Upstream) -> list[Outcome]:
    def answer(exchange: Exchange) -> None:
        found = re.match(rb"/case-(\d+)/hostile$", exchange.request.target)
        handler = CASES[int(found[1])][0].handler if found else echo
        handler(exchange)

    shared_upstream.reset()
    shared_upstream.respond(answer)
    mark = routed.mark()
    with ThreadPoolExecutor(CLIENTS) as pool:
        all_of_them = list(pool.map(lambda n: _ask(routed, n), range(len(CASES))))
    shared_upstream.reset()
    assert "Traceback" not in "\n".join(routed.log.split("\n")[mark:])
    return all_of_them


def _ask(proxy: ProxyProcess, number: int) -> Outcome:
    case, version = CASES[number]
    outcome = Outcome()
    try:
        with proxy.connect() as client:
            _ask_for_the_case(client, case, version, number, outcome)
            if not (outcome.seen and outcome.seen.cut):
                _ask_once_more(client, f"/case-{number}/same", may_be_closed=True)
        for more in range(2):
            with proxy.connect() as client:
                _ask_once_more(client, f"/case-{number}/other-{more}", may_be_closed=False)
    except (WireError, OSError) as error:
        outcome.problems.append(f"{type(error).__name__}: {error}")
    return outcome


def _ask_for_the_case(
    client: Client, case: Misframed, version: str, number: int, outcome: Outcome
) -> None:
    keep = ["Connection: keep-alive"] if version == "1.0" else []
    start = f"{case.method} /case-{number}/hostile HTTP/{version}"
    client.send(message(start, *keep, body=case.sends))
    outcome.answer = client.receive_head()
    body = b""
    cut = False
    try:
        for piece in client.body_of(outcome.answer, case.method):
            body += piece
    except (Truncated, ConnectionError):
        cut = True
    outcome.seen = Seen(outcome.answer.status, body, cut)


def _ask_once_more(client: Client, target: str, *, may_be_closed: bool) -> None:
    client.offer(message(f"GET {target}"))
    try:
        answer = client.receive()
    except (Truncated, ConnectionError):
        if may_be_closed and not client.stream.buffer:
            return
        raise
    if (answer.status, answer.one("X-Echo")) != (200, f"GET {target}"):
        raise WireError(f"not the answer to {target}: {answer.head!r} {answer.body!r}")


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_a_misframed_answer_is_one_answer_or_none(outcomes: list[Outcome], number: int) -> None:
    outcome, due = outcomes[number], CASES[number][0].seen
    assert outcome.problems == []
    assert outcome.answer is not None
    assert outcome.seen is not None
    assert outcome.answer.all("X-Smuggled") == []
    assert outcome.answer.interim == []
    assert (outcome.seen.status, outcome.seen.cut) == (due.status, due.cut)
    if due.status != 502:
        assert outcome.seen.body == due.body


@pytest.mark.parametrize("id", LATE_IDS)
def test_what_comes_long_after_a_response_is_given_to_nobody(
    routed: ProxyProcess, target: Upstream, id: str
) -> None:
    late, _, first = id.partition("-after-")
    target.on("/first", actions.raw(FIRST[first]))
    target.respond(echo)
    assert routed.get(f"/{id}/first").status in (200, 204)
    target.send_on_idle(LATE[late])
    wait_until("it has arrived", lambda: not unacknowledged_from(target.port))
    for number in range(2):
        second = f"/{id}/second-{number}"
        assert routed.get(second).one("X-Echo") == f"GET {second}"
