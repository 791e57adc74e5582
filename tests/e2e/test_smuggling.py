"""Nobody gets a second request, or another's response, by what parsers disagree about.

Every case is sent as it is to the real proxy, with a good request after it:
in one go and byte by byte before a target that records, and one after the
other before a real nginx. The cases of a delivery are on their way together;
then each has a test of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.conftest import Launch
from tests.support.hostile.case import Case
from tests.support.hostile.connections import connection_cases
from tests.support.hostile.framing import framing_cases
from tests.support.hostile.grammar import generated_case
from tests.support.hostile.heads import head_cases
from tests.support.hostile.oracle import FOLLOW_UP, Sent, predict
from tests.support.hostile.reading import End, read
from tests.support.hostile.volley import (
    MARK,
    Delivery,
    Outcome,
    at_once,
    attribute,
    dripped,
    echo,
    echoed,
    fire,
    in_turn,
)
from tests.support.nginx import Nginx, Seen
from tests.support.process import ProxyProcess, wait_until
from tests.support.prometheus import ServerAuthority
from tests.support.upstream import Recorded, Upstream

TABLE = [*framing_cases(), *head_cases(), *connection_cases()]
CASES = [*TABLE, *map(generated_case, range(200))]

#: What `make soak` adds: as many cases as a mark has numbers, several times.
SOAK = [range(10_000 * n, 10_000 * (n + 1)) for n in range(1, 4)]

#: All cases of a delivery go out in the set-up of the first test.
every_case = pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def shared_proxy(launch_for_module: Launch) -> ProxyProcess:
    """One of its own: so many refusals take the lines that the next ones would have in the log."""
    return launch_for_module()


# -- what is expected ----------------------------------------------------------------


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_strict_reading_says_of_every_case_what_its_author_says() -> None:
    for case in TABLE:
        if not case.exceeds_a_limit:  # of which the reading knows nothing
            prediction = predict(case.raw + FOLLOW_UP)
            follows = not (case.expected.closes or prediction.waits)
            assert prediction.summary() == (
                case.expected.and_one_more() if follows else case.expected
            )


# -- what is seen --------------------------------------------------------------------


@dataclass
class Volley:
    """All cases in one delivery, and what came of them."""

    outcomes: list[Outcome]
    astray: list[Recorded]
    authority: str
    seen: list[Seen]

    def check_responses(self, outcome: Outcome) -> None:
        """Each is that to the request in its place, and then the connection ends."""
        assert outcome.problem is None, outcome.problem
        due = [status for _, status in outcome.shot.prediction.responses]
        assert [_without_distinction(response.status) for response in outcome.responses] == due
        sent = iter(outcome.shot.prediction.sent)
        for response in outcome.responses:
            if response.status == 200:
                request = next(sent)
                assert response.one("X-Echo") == echoed(request.method, request.target)

    def check_recorded(self, request: Recorded) -> None:
        """It is one well-formed request with one framing, and the proxy's own fields."""
        again = read(request.head + request.body)
        assert (len(again.requests), again.end) == (1, End.CLEAN), request.head
        assert request.version == b"HTTP/1.1"
        assert request.one("Host") == self.authority
        assert (request.one("Authorization") or "").startswith("Bearer ey")
        assert request.one("Content-Length") in (None, str(len(request.body)))
        assert not request.names & {"transfer-encoding", "te", "trailer", "keep-alive"}
        # Of our own making: what the client's Connection said has ended at the proxy.
        upgrade = request.one("Connection"), request.one("Upgrade")
        assert upgrade in ((None, None), ("Upgrade", "websocket"))
        assert b"inbound" not in request.head


def _without_distinction(status: int) -> int:
    """Return 400 for 501: an unknown transfer coding is refused like all else."""
    return 400 if status == 501 else status


def fired(
    proxy: ProxyProcess, upstream: Upstream, cases: Sequence[Case], deliver: Delivery
) -> Volley:
    """Send the cases, and return what came of them."""
    upstream.reset()
    upstream.respond(echo)
    mark = proxy.mark()
    outcomes = fire(proxy.address, cases, deliver)
    astray = attribute(outcomes, upstream.requests)
    assert upstream.faults == []
    upstream.reset()
    assert "Traceback" not in "\n".join(proxy.log.split("\n")[mark:])
    return Volley(outcomes, astray, upstream.authority, [])


@pytest.fixture(scope="module")
def recorded(shared_proxy: ProxyProcess, shared_upstream: Upstream) -> list[Volley]:
    """All cases, once in one go and once byte by byte."""
    return [fired(shared_proxy, shared_upstream, CASES, way) for way in (at_once, dripped)]


def check_before_the_recorder(volley: Volley, outcome: Outcome) -> None:
    volley.check_responses(outcome)
    for request in outcome.recorded:
        volley.check_recorded(request)
    arrived = [Sent(each.method, each.target, each.body) for each in outcome.recorded]
    assert arrived == outcome.shot.prediction.sent


@every_case
def test_the_target_gets_what_was_asked_and_nothing_else(
    recorded: list[Volley], number: int
) -> None:
    for volley in recorded:
        check_before_the_recorder(volley, volley.outcomes[number])


def test_nothing_of_unknown_origin_reaches_the_target(recorded: list[Volley]) -> None:
    assert [volley.astray for volley in recorded] == [[], []]


# -- before nginx --------------------------------------------------------------------


@dataclass
class BeforeNginx:
    """A proxy, the nginx that is its target, and what records what nginx sends on."""

    proxy: ProxyProcess
    nginx: Nginx
    recorder: Upstream

    def fired(self, cases: Sequence[Case]) -> Volley:
        already = len(self.nginx.seen())
        volley = fired(self.proxy, self.recorder, cases, in_turn)
        volley.authority = self.nginx.authority
        due = sum(len(outcome.shot.prediction.sent) for outcome in volley.outcomes)
        wait_until("nginx has written its log", lambda: len(self.nginx.seen()) >= already + due)
        volley.seen = self.nginx.seen()[already:]
        return volley


@pytest.fixture(scope="module")
def before_nginx(
    tmp_path_factory: pytest.TempPathFactory, launch_for_module: Launch
) -> Iterator[BeforeNginx]:
    folder = tmp_path_factory.mktemp("nginx")
    authority = ServerAuthority(folder)
    recorder = Upstream()
    try:
        with Nginx(folder, authority.files("localhost"), recorder.authority) as nginx:
            proxy = launch_for_module(
                TARGET_HOST=nginx.authority, TARGET_CA_FILE=str(authority.bundle)
            )
            yield BeforeNginx(proxy, nginx, recorder)
    finally:
        recorder.close()


@pytest.fixture(scope="module")
def understood(before_nginx: BeforeNginx) -> Volley:
    return before_nginx.fired(CASES)


def check_before_nginx(volley: Volley, outcome: Outcome) -> None:
    """nginx understands what was asked, or refuses it, and sees nothing else."""
    due = outcome.shot.prediction
    assert outcome.problem is None, outcome.problem
    assert len(outcome.responses) == len(due.responses)
    arrived = [Sent(each.method, each.target, each.body) for each in outcome.recorded]
    sent = iter(due.sent)
    for response, (_, status) in zip(outcome.responses, due.responses, strict=True):
        if status != 200:
            assert _without_distinction(response.status) == status
            continue
        request = next(sent)
        if response.all("X-Echo"):
            assert response.one("X-Echo") == echoed(request.method, request.target)
            assert request in arrived
        else:  # nginx has limits of its own, but no doubts about where a request ends
            assert response.status in (400, 405, 414), response.head
            assert request not in arrived
    assert len(arrived) == len([each for each in outcome.responses if each.all("X-Echo")])


@pytest.mark.real("nginx")
@every_case
def test_nginx_understands_what_was_asked_and_nothing_else(understood: Volley, number: int) -> None:
    check_before_nginx(understood, understood.outcomes[number])


def check_log(volley: Volley) -> None:
    """nginx took as many requests from each case as were sent, also those that it refused."""
    due = Counter({each.shot.number: len(each.shot.prediction.sent) for each in volley.outcomes})
    marks = [MARK.search(f"{each.target} {each.line} {each.fields}") for each in volley.seen]
    seen = Counter(int(mark[1]) for mark in marks if mark)
    assert not seen - due
    # Of a request whose line it does not like, it tells no field.
    unmarked = [each for each, mark in zip(volley.seen, marks, strict=True) if not mark]
    assert {each.status for each in unmarked} <= {400}
    assert len(unmarked) == (due - seen).total()


@pytest.mark.real("nginx")
def test_nginx_sees_as_many_requests_as_were_asked(understood: Volley) -> None:
    assert understood.astray == []
    check_log(understood)


# -- many more -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.real("nginx")
@pytest.mark.parametrize("seeds", SOAK, ids=lambda seeds: f"from-{seeds.start}")
def test_thousands_of_generated_requests_are_read_in_one_way(
    shared_proxy: ProxyProcess, shared_upstream: Upstream, before_nginx: BeforeNginx, seeds: range
) -> None:
    cases = [generated_case(seed) for seed in seeds]
    volley = fired(shared_proxy, shared_upstream, cases, at_once)
    for outcome in volley.outcomes:
        check_before_the_recorder(volley, outcome)
    assert volley.astray == []
    volley = before_nginx.fired(cases)
    for outcome in volley.outcomes:
        check_before_nginx(volley, outcome)
    assert volley.astray == []
    check_log(volley)
