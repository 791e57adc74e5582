"""Many connections, many slow requests, several workers."""

from __future__ import annotations

import json
import os
import re
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess, stopped, wait_until
from tests.support.routes import to, write_routes
from tests.support.scheduling import longest_wait
from tests.support.stand_ins.entra import StandInEntra
from tests.support.tcp import connections_of
from tests.support.upstream import Upstream
from tests.support.wire import message


@pytest.fixture(autouse=True)
def enough_descriptors() -> None:
    """Both ends of a thousand connections are of this machine; ours need descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.fail(f"the tests need 4096 descriptors, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))


def ask_slowly(
    proxy: ProxyProcess, count: int, target: Upstream, *, refused: int = 0
) -> Counter[tuple[int, str]]:
    """Send so many requests at the same time, to a target that holds all that come.

    Return how many got each status and Retry-After, once so many have been refused meanwhile.
    """
    gate = target.gate()
    target.on("/slow", actions.raw(gate, actions.answer(200, body=b"at last")))
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        clients = [stack.enter_context(proxy.connect(timeout=60)) for _ in range(count)]
        for client in clients:
            client.send(message("GET /slow"))
        answers = [pool.submit(client.receive) for client in clients]
        yield_to_probe(proxy)
        wait_until("the rest is refused", lambda: sum(map(Future.done, answers)) >= refused)
        gate.open()
        received = [answer.result() for answer in answers]
    return Counter((each.status, each.one("Retry-After") or "") for each in received)


def yield_to_probe(proxy: ProxyProcess) -> None:
    assert proxy.get("/ready").status == 200
    assert proxy.get("/health").status == 200


def test_two_hundred_slow_requests_are_served_by_64_threads(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch(THREADS="64")
    assert ask_slowly(proxy, 200, target) == {(200, ""): 200}


def test_past_the_queue_the_rest_is_told_to_come_again(launch: Launch, target: Upstream) -> None:
    proxy = launch(THREADS="8", MAX_QUEUED_REQUESTS="12")
    told = ask_slowly(proxy, 60, target, refused=40)
    assert told == {(200, ""): 20, (503, "1"): 40}
    assert proxy.wait_for_event("Overloaded")["level"] == "warning"


def test_a_thousand_connections_are_kept_and_a_request_on_any_is_answered(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch()
    before = proxy.resident_bytes()
    with ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(1000)]
        for client in clients[::10]:
            assert client.ask(message("GET /x")).status == 200
        for client in (clients[0], clients[-1]):
            assert client.ask(message("GET /x")).status == 200
        assert proxy.resident_bytes() - before < 40_000_000


def with_two_workers(launch: Launch, **settings: str) -> ProxyProcess:
    """Start a proxy with two workers that both have their token and take connections."""
    proxy = launch(WORKERS="2", **settings)
    proxy.wait_for_tokens(2)

    def both_take_connections() -> bool:
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(proxy.connect()).ask(message("GET /ready"))
            return all(connections_of(pid, proxy.port) for pid in proxy.workers())

    wait_until("both take connections", both_take_connections)
    wait_until_unconnected(proxy)
    return proxy


def wait_until_unconnected(proxy: ProxyProcess) -> None:
    """Wait until no worker has a connection left, and has counted that."""
    wait_until(
        "no connection is left",
        lambda: not any(connections_of(pid, proxy.port) for pid in proxy.workers()),
    )
    proxy.get("/health")
    wait_until(
        "nor that one",
        lambda: not any(connections_of(pid, proxy.port) for pid in proxy.workers()),
    )


#: A worker that waits for a processor for so long leaves connections to others: they defer
#: accept for 0.05 s, and then take what is still there.
UNDISTURBED_SECONDS = 0.03


@contextmanager
def undisturbed(proxy: ProxyProcess) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether the workers have had a processor all the while."""
    workers = proxy.workers()
    before = longest_wait(workers)
    yield lambda: longest_wait(workers) - before < UNDISTURBED_SECONDS


def held_by_each(proxy: ProxyProcess) -> list[int]:
    """Return how many connections each worker has."""
    return [len(connections_of(pid, proxy.port)) for pid in proxy.workers()]


def test_no_worker_is_idle_while_a_request_waits_at_another(
    launch: Launch, target: Upstream
) -> None:
    """Each worker has one thread: both requests are at the target only if each has one."""
    proxy = with_two_workers(launch, THREADS="1")
    shared = 0
    while shared < 5:
        gate = target.gate()
        target.on("/held", actions.raw(gate, actions.answer(200, body=b"ok")))
        target.requests.clear()
        # Kept connections, made before there is anything to do: they are shared evenly.
        with (
            undisturbed(proxy) as is_undisturbed,
            proxy.connect() as first,
            proxy.connect() as second,
        ):
            for client in (first, second):
                client.send(message("GET /held"))
            wait_until("both are accepted", lambda: sum(held_by_each(proxy)) == 2)
            if held_by_each(proxy) == [1, 1]:
                wait_until("both are at the target", lambda: len(target.requests) == 2)
                shared += 1
            else:
                assert not is_undisturbed(), held_by_each(proxy)
            gate.open()
            assert [client.receive().status for client in (first, second)] == [200, 200]
        wait_until_unconnected(proxy)


def test_workers_share_connections_evenly(launch: Launch, target: Upstream) -> None:
    proxy = with_two_workers(launch)
    held = [40, 0]
    while abs(held[0] - held[1]) > 6:
        with ExitStack() as stack:
            is_undisturbed = stack.enter_context(undisturbed(proxy))
            clients = [stack.enter_context(proxy.connect()) for _ in range(40)]
            for client in clients:
                assert client.ask(message("GET /x")).status == 200
            held = held_by_each(proxy)
            assert sum(held) == 40
            assert abs(held[0] - held[1]) <= 6 or not is_undisturbed(), held
        wait_until_unconnected(proxy)


def test_connections_are_accepted_also_where_the_other_worker_is_stuck(
    launch: Launch, target: Upstream
) -> None:
    proxy = with_two_workers(launch)
    stuck, _ = proxy.workers()
    with stopped(stuck), ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(20)]
        for client in clients:
            assert client.ask(message("GET /x")).status == 200


def test_each_worker_keeps_to_a_core_where_there_is_one_for_each(launch: Launch) -> None:
    cores = os.sched_getaffinity(0)
    proxy = launch(WORKERS=str(len(cores)))
    if len(cores) == 1:
        assert os.sched_getaffinity(proxy.pid) == cores
        return
    wait_until(
        "each has its own",
        lambda: (
            sorted(sorted(os.sched_getaffinity(pid)) for pid in proxy.workers())
            == [[core] for core in sorted(cores)]
        ),
    )
    assert os.sched_getaffinity(proxy.pid) == cores  # the next worker begins with all of them


def test_with_more_workers_than_cores_the_kernel_decides(launch: Launch) -> None:
    cores = os.sched_getaffinity(0)
    proxy = launch(WORKERS=str(len(cores) + 1))
    wait_until("all are there", lambda: len(proxy.workers()) == len(cores) + 1)
    wait_until("one is ready", lambda: proxy.get("/ready").status == 200)
    assert all(os.sched_getaffinity(pid) == cores for pid in proxy.workers())


def threads_of(proxy: ProxyProcess) -> int:
    return len(list(Path(f"/proc/{proxy.pid}/task").iterdir()))


def proportional_bytes(proxy: ProxyProcess) -> int:
    """Return the process's memory, with its share of what several processes map (PSS)."""
    rollup = Path(f"/proc/{proxy.pid}/smaps_rollup").read_text()
    [kilobytes] = re.findall(r"^Pss:\s+(\d+) kB", rollup, re.M)
    return int(kilobytes) * 1024


@pytest.mark.slow
def test_a_thousand_identities_take_few_threads_and_little_memory(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    audiences = [f"https://{n}.example.com" for n in range(1000)]
    entra.resources |= set(audiences)
    routes = [to(target, path=f"/{n}", audience=each) for n, each in enumerate(audiences)]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    alone = threads_of(launch(THREADS="2"))
    settings = {**entra.managed_identity_environment(), "AUTHPROXY_CONFIG": str(config)}
    proxy = launch(ready=False, without=("TARGET_HOST",), THREADS="2", **settings)
    most = 0

    def all_ready() -> bool:
        nonlocal most
        most = max(most, threads_of(proxy))
        return int(json.loads(proxy.get("/ready").body)["routes_ready"]) == 1000

    wait_until("all are ready", all_ready, deadline=120)
    assert most - alone <= 16
    assert proportional_bytes(proxy) < 120_000_000
    assert len(proxy.get("/ready").body) < 20_000
    for path in ("/0/x", "/999/x"):
        assert proxy.get(path).status == 200
    # They do not all come due in one second.
    lines = [line for line in proxy.log.splitlines() if '"Token refreshed"' in line]
    due = Counter(parse_line(line)["NextRefresh"] for line in lines)
    assert max(due.values()) < 500, due
