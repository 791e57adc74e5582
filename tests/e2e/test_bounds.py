"""What clients can make the proxy keep is bounded, and none of them silences the probes."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.faults.needs import memory_groups, missing
from tests.conftest import Launch
from tests.support import actions
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.programs import output_of
from tests.support.upstream import Upstream
from tests.support.wire import Client, chunks, message

HEALTH = message("GET /health")
MIB = 1024 * 1024


def unread(proxy: ProxyProcess) -> Client:
    """Return a client with little room for what it is sent."""
    client = Client.__new__(Client)
    client.sock = socket.socket()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sock.connect(proxy.address)
    return client


# -- nothing that a client does blocks what serves probes and refusals ---------------------------

#: So much that the kernel and what waits for one client are full, or nearly: some of these.
SIZES = range(4_000_000, 9_000_000, 200_000)


@pytest.mark.parametrize(
    "behind",
    [HEALTH, b"\x01garbage\r\n\r\n", pytest.param(HEALTH * 100, marks=pytest.mark.slow)],
    ids=["a probe", "garbage", "many probes"],
)
def test_who_does_not_read_holds_up_neither_probes_nor_refusals(
    launch: Launch, target: Upstream, behind: bytes
) -> None:
    proxy = launch(THREADS="40")
    for size in SIZES:
        target.on(f"/large-{size}.", actions.raw(actions.answer(200, body=b"l" * size)))
    with ExitStack() as stack:
        crowd = [stack.enter_context(unread(proxy)) for _ in SIZES]
        for client, size in zip(crowd, SIZES, strict=True):
            client.send(message(f"GET /large-{size}.") + behind)
        target.wait_for("all have asked", lambda: len(target.requests) == len(SIZES))
        wait_until("all are sent", lambda: target.all_idle)
        for _ in range(3):
            assert proxy.get("/health").status == 200
            assert proxy.ask(b"\x01garbage\r\n\r\n").status == 400
            assert proxy.get("/ready").status == 200


def test_what_waits_behind_an_unread_response_gets_no_thread(
    launch: Launch, target: Upstream
) -> None:
    """Some hundred requests in one go, whose client takes not even the first response."""
    proxy = launch(THREADS="2")
    target.on("/large", actions.raw(actions.answer(200, body=b"l" * 4_000_000)))
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(unread(proxy)).offer(message("GET /large") * 300)
        target.wait_for("they have asked", lambda: len(target.requests) >= 4)
        for _ in range(5):
            assert proxy.get("/other").status == 200
        large = [each for each in target.requests if each.target == b"/large"]
        # Each of the first was taken by the kernel, or waits; none behind it was begun.
        assert len(large) <= 8


def test_pipelined_requests_are_served_in_order_however_many(
    proxy: ProxyProcess, target: Upstream
) -> None:
    raw = b"".join(
        message(f"POST /{n}", body=b"%d" % n) if n % 3 else message(f"GET /{n}") for n in range(300)
    )
    with proxy.connect() as client:
        sender = threading.Thread(target=client.send, args=(raw,))
        sender.start()
        assert [client.receive().status for _ in range(300)] == [200] * 300
        sender.join()
    assert [each.target for each in target.requests] == [b"/%d" % n for n in range(300)]
    assert [each.body for each in target.requests if each.body] == [
        b"%d" % n for n in range(300) if n % 3
    ]


# -- MAX_BUFFERED_BYTES ------------------------------------------------------------------------

BODY = 300_000
LIMITS = {"MAX_REQUEST_BODY_BYTES": str(BODY), "MAX_BUFFERED_BYTES": str(4 * BODY)}


def half(chunked: bool, content: bytes) -> tuple[bytes, bytes]:
    """Return a request for so much content in two halves."""
    middle = len(content) // 2
    if chunked:
        first = chunks(content[:middle], end=False)
        return message("POST /half", "Transfer-Encoding: chunked") + first, chunks(content[middle:])
    head = message("POST /half", f"Content-Length: {len(content)}")
    return head + content[:middle], content[middle:]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_half_received_bodies_do_not_wait_for_each_other_for_ever(
    launch: Launch, target: Upstream, chunked: bool
) -> None:
    """Their halves alone are more than may be kept."""
    proxy = launch(**LIMITS)
    content = [bytes([n]) * (BODY - n) for n in range(20)]
    with ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in content]
        for client, body in zip(clients, content, strict=True):
            client.send(half(chunked, body)[0])
        assert proxy.get("/none").status == 200
        for client, body in zip(clients, content, strict=True):
            threading.Thread(target=client.send, args=(half(chunked, body)[1],)).start()
        assert [client.receive().status for client in clients] == [200] * len(clients)
    received = sorted(each.body for each in target.requests if each.body)
    assert received == sorted(content)


def kept_in_files(pid: int) -> int:
    """Return the bytes of the process's temporary files."""
    total = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "(deleted)" in os.readlink(descriptor):
                total += descriptor.stat().st_size
    return total


def at_rest(proxy: ProxyProcess) -> int:
    """Return the bytes that it keeps, in memory and files, once it takes no more."""
    seen = [0]

    def stands_still() -> bool:
        threading.Event().wait(0.2)  # nothing announces that nothing happens
        seen.append(proxy.resident_bytes() + kept_in_files(proxy.pid))
        return len(seen) > 4 and max(seen[-4:]) - min(seen[-4:]) < 100_000

    wait_until("it takes no more", stands_still)
    return seen[-1]


@pytest.mark.parametrize(
    "half_of_it",
    [
        message("POST /half", "Content-Length: 2000000") + bytes(500_000),
        pytest.param(
            message("POST /half", "Transfer-Encoding: chunked") + chunks(bytes(500_000), end=False),
            marks=pytest.mark.slow,
        ),
        message("POST /half", "Transfer-Encoding: chunked") + chunks(*[b"x"] * 100_000, end=False),
    ],
    ids=["length", "chunked", "one byte a chunk"],
)
def test_past_the_bound_bodies_wait_and_who_is_slow_gives_way(
    launch: Launch, target: Upstream, half_of_it: bytes
) -> None:
    bound = 16 * MIB
    proxy = launch(MAX_REQUEST_BODY_BYTES="2000000", MAX_BUFFERED_BYTES=str(bound))
    before = proxy.resident_bytes()
    with ExitStack() as stack:
        crowd = [stack.enter_context(proxy.connect()) for _ in range(60)]
        senders = [threading.Thread(target=each.offer, args=(half_of_it,)) for each in crowd]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert proxy.get("/health").status == 200
        assert proxy.get("/no-body").status == 200
        assert at_rest(proxy) - before < bound + 8 * MIB
        # Those stand still, with all that may be kept: within seconds some have to go.
        assert proxy.ask(message("POST /whole", body=b"w" * 100_000)).status == 200
    assert not [each for each in target.requests if each.target == b"/half"]


def test_responses_that_wait_count_as_well(launch: Launch, target: Upstream) -> None:
    size = 3_900_000
    bound = 30_000_000
    proxy = launch(MAX_REQUEST_BODY_BYTES="1000000", MAX_BUFFERED_BYTES=str(bound), THREADS="30")
    before = proxy.resident_bytes()
    target.on("/large", actions.raw(actions.answer(200, body=b"l" * size)))
    with ExitStack() as stack:
        crowd = [stack.enter_context(unread(proxy)) for _ in range(25)]
        for client in crowd:
            client.send(message("GET /large"))
        target.wait_for("they have asked", lambda: len(target.requests) == 25)
        wait_until("files hold some", lambda: kept_in_files(proxy.pid) > bound // 3)
        assert proxy.get("/other").status == 200
        assert kept_in_files(proxy.pid) < bound
        assert proxy.resident_bytes() - before < 60_000_000


def test_a_client_that_waits_to_be_told_to_go_on_is_told(launch: Launch, target: Upstream) -> None:
    proxy = launch(**LIMITS)
    with proxy.connect() as client:
        client.send(message("POST /x", "Expect: 100-continue", "Content-Length: 5"))
        assert client.stream.until(b"\r\n\r\n", "the interim response").startswith(b"HTTP/1.1 100 ")
        client.send(b"hello")
        assert client.receive().status == 200
    assert target.only().body == b"hello"


# -- memory, measured ----------------------------------------------------------------------------

ONE_BYTE_CHUNKS = message("POST /half", "Transfer-Encoding: chunked") + chunks(
    *[b"x"] * 40_000, end=False
)
MANY_FIELDS = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n" + b"".join(
    b"%x:\r\n" % n for n in range(9000)
)

FEWER_FIELDS = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n" + b"".join(
    b"%x:\r\n" % n for n in range(900)
)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing(("cgroup",))), reason="needs root and control groups")
@pytest.mark.parametrize(
    ("count", "sent"),
    [
        (300, message("POST /half", "Content-Length: 2000000") + bytes(500 * 1024)),
        (700, message("POST /half", "Content-Length: 2000000") + bytes(500 * 1024)),
        (
            700,
            message("POST /half", "Transfer-Encoding: chunked")
            + chunks(*[bytes(64 * 1024)] * 8, end=False),
        ),
        (700, message("POST /half", "Content-Length: 1000000") + bytes(300 * 1024)),
        (700, ONE_BYTE_CHUNKS),
        (3000, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 60_000),
        (700, MANY_FIELDS + b"\r\n"),
        (3900, FEWER_FIELDS + b"\r\n"),
    ],
    ids=[
        "300 of 2 MB",
        "700 of 2 MB",
        "700 chunked",
        "700 of 1 MB",
        "700 of one byte a chunk",
        "3000 half heads",
        "700 heads of 9000 fields",
        "3900 heads of 900 fields",
    ],
)
def test_no_crowd_of_half_requests_takes_more_than_256_mib(
    base_settings: dict[str, str], target: Upstream, count: int, sent: bytes
) -> None:
    with confined(base_settings, 256 * MIB) as (proxy, group), ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(count)]
        push(clients, sent)
        for _ in range(3):
            assert proxy.get("/health").status == 200
            assert proxy.get("/x").status == 200
        with proxy.connect(timeout=60) as client:
            assert client.ask(message("POST /whole", body=b"w" * 100_000)).status == 200
        assert proxy.resident_bytes() < 160 * MIB
        assert proxy.running
        assert group.is_dir()


@pytest.mark.slow
@pytest.mark.skipif(bool(missing(("cgroup",))), reason="needs root and control groups")
def test_a_thousand_slow_readers_take_no_more_than_256_mib(
    base_settings: dict[str, str], target: Upstream
) -> None:
    target.on("/large", actions.raw(actions.answer(200, body=b"l" * 200_000)))
    with confined(base_settings, 256 * MIB) as (proxy, _), ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(unread(proxy)).send(message("GET /large"))
        assert proxy.get("/health").status == 200
        assert proxy.get("/x").status == 200
        assert proxy.resident_bytes() < 120 * MIB


@contextlib.contextmanager
def confined(settings: dict[str, str], limit: int) -> Iterator[tuple[ProxyProcess, Path]]:
    """Give a proxy that may have so much memory, as with the shipped limits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    root, knob = memory_groups()
    group = root / f"authproxy-bounds-{os.getpid()}"
    group.mkdir()
    try:
        (group / knob).write_text(str(limit))

        class Confined(ProxyProcess):
            def _run(self, command: Sequence[str], environment: object) -> None:
                within = ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(group)]
                super()._run([*within, *command], environment)  # type: ignore[arg-type]

        with Confined(settings) as proxy:
            yield proxy, group
    finally:
        wait_until("the group is empty", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def push(clients: list[Client], data: bytes) -> None:
    """Send from all of them at the same time, until nobody takes any more for two seconds."""
    left = {client: memoryview(data) for client in clients}
    for client in clients:
        client.sock.setblocking(False)
    moved_at = time.monotonic()
    while left and time.monotonic() - moved_at < 2:
        for client in list(left):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                left[client] = left[client][client.sock.send(left[client][:65536]) :]
                moved_at = time.monotonic()
            if not left[client]:
                del left[client]


# -- slow senders --------------------------------------------------------------------------------


def test_a_body_that_drips_is_not_waited_for_beyond_its_time(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch(REQUEST_BODY_TIMEOUT_SECONDS="1")
    with proxy.connect() as client:
        client.send(message("POST /x", "Content-Length: 100000"))
        client.sock.settimeout(0.1)

        def is_closed() -> bool:
            client.offer(b"x")
            try:
                return client.sock.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        wait_until("it is closed", is_closed)
    proxy.wait_for_line("Closed a connection with half a request")
    assert proxy.ask(message("POST /x", body=b"x" * 10_000)).status == 200  # sent in one go


@pytest.mark.parametrize(
    "begun",
    [
        "GET / HTTP/1.1\\r\\nX: ",
        "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 9999\\r\\n\\r\\n",
    ],
    ids=["heads", "bodies"],
)
def test_the_slowest_give_way_where_there_is_room_for_no_more_connections(begun: str) -> None:
    """In a process of its own, as a lowered hard limit cannot be raised again."""
    assert "served" in output_of(DRIPS, begun.encode().decode("unicode_escape"))


DRIPS = """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
from authproxy.server.limits import Limits
from tests.support.serving import Serving
from tests.unit.server.test_connections import Stalls
with Serving(Stalls(), Limits(threads=232)) as server:  # room for 16 connections
    crowd = [server.connect() for _ in range(40)]
    stop = threading.Event()
    def drip():
        while not stop.wait(0.2):
            for client in crowd:
                client.offer(b"x")
    for client in crowd:
        client.offer(sys.argv[1].encode())
    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        for _ in range(5):
            assert server.get("/").body == b"ok"
    finally:
        stop.set()
        dripping.join()
    for client in crowd:
        client.close()
print("served")
"""


@pytest.mark.slow
def test_probes_are_answered_among_4200_bodies_that_drip(launch: Launch, target: Upstream) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    proxy = launch()
    begun = message("POST /x", "Content-Length: 1000")
    with ExitStack() as stack:
        crowd = [stack.enter_context(proxy.connect()) for _ in range(4200)]
        for _ in range(8):
            for client in crowd:
                client.offer(begun)
            begun = b"x"
            assert proxy.get("/health").status == 200


# -- ids that come back --------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a" * 128, "a" * 129, "a b", "\xe9", "ok-1"])
def test_an_id_comes_back_by_the_same_rule_from_whoever_responds(
    launch: Launch, target: Upstream, given: str
) -> None:
    port = free_port()
    proxy = launch(METRICS_PORT=str(port))
    line = f"X-Request-ID: {given}"
    expected = given if re.fullmatch(r"[!-~]{1,128}", given) else None
    with Client(("127.0.0.1", port)) as metrics:
        for response in (
            proxy.ask(message("GET /", line, "Host: a/b")),  # the server
            proxy.get("nonsense", line),  # the application
            metrics.ask(message("GET /nothing", line)),
            metrics.ask(message("DELETE /metrics", line)),
            metrics.ask(message("GET /", line, "Host: a/b")),
        ):
            assert 400 <= response.status < 500
            assert response.one("X-Request-ID") == expected


# -- nor do threads, however many ----------------------------------------------------------------

#: What the C library reserves for a heap that is not the first (glibc's HEAP_MAX_SIZE).
HEAP_BYTES = 64 * 1024 * 1024


def further_heaps(proxy: ProxyProcess) -> int:
    """Return how many heaps the process has besides its first."""
    regions = []
    for line in Path(f"/proc/{proxy.pid}/maps").read_text().splitlines():
        span, permissions, *_ = line.split()
        start, end = (int(bound, 16) for bound in span.split("-"))
        regions.append((start, end, permissions))
    return sum(
        start % HEAP_BYTES == 0 and (used, rest) == ("rw-p", "---p") and until == start + HEAP_BYTES
        for (start, _, used), (_, until, rest) in itertools.pairwise(regions)
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library has no such heaps")
@pytest.mark.parametrize(("set_by_hand", "most"), [(None, 1), ("1", 0)])
def test_the_threads_share_two_heaps_however_it_is_started(
    launch: Launch, target: Upstream, set_by_hand: str | None, most: int
) -> None:
    environment = {} if set_by_hand is None else {"MALLOC_ARENA_MAX": set_by_hand}
    proxy = launch(THREADS="32", **environment)
    with ThreadPoolExecutor(16) as clients:
        responses = list(clients.map(lambda _: proxy.get("/").status, range(64)))
    assert set(responses) == {200}
    assert further_heaps(proxy) <= most
