"""Bodies in memory: what is received is what is read, within a bound, and nothing of another's."""

import io
import resource
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.server.memory_body import ALL_BYTES, LARGEST_BYTES, BodyMemory, MemoryBody


def received(memory: BodyMemory, content: bytes) -> MemoryBody:
    body = memory.body(len(content))
    assert body is not None
    assert body.append(content)
    return body


@given(st.binary(min_size=1, max_size=300), st.integers(0, 300), st.integers(1, 50))
def test_it_reads_like_a_file(content: bytes, offset: int, size: int) -> None:
    body, peer = received(BodyMemory(), content), io.BytesIO(content)
    for file in (body, peer):
        file.seek(offset)
    assert body.read(size) == peer.read(size)
    assert body.read() == peer.read()
    assert body.seek(0, io.SEEK_END) == len(content)
    with body.getbuffer() as view:
        assert bytes(view) == content
    body.close()


def test_the_kernel_writes_where_it_is_read_from() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"0123456789")
        body = BodyMemory().body(12)
        assert body is not None
        assert body.append(b"ab")
        part = body.writable_part(10)
        assert part is not None
        with part:
            count = ours.recv_into(part)
        body.filled(count)
        assert not body.append(b"x")
        assert body.read() == b"ab0123456789"
        body.close()


def test_the_room_of_one_body_shows_nothing_to_the_next() -> None:
    memory = BodyMemory()
    received(memory, b"secret" * 50_000).close()
    second = memory.body(280_000)
    assert second is not None
    assert second.append(b"x")
    assert len(second) == 1
    assert second.read() == b"x"
    assert second.append(b"y" * 279_999)
    second.seek(0)
    assert second.read() == b"x" + b"y" * 279_999
    second.close()


def test_all_bodies_together_have_a_bound_and_give_their_room_back() -> None:
    memory = BodyMemory(limit=1000)
    first, second = received(memory, bytes(600)), received(memory, bytes(400))
    assert memory.body(1) is None
    first.close()
    first.close()
    assert memory.body(601) is None
    third = received(memory, bytes(600))
    second.close()
    third.close()
    assert memory.left == 1000


def test_a_long_one_costs_what_has_come_of_it() -> None:
    memory = BodyMemory(limit=500_000)
    held = [memory.body(length) for length in (1_000_000, 100_000, None)]
    assert memory.left == 500_000
    for body in held:
        assert body is not None
        assert body.append(b"x" * 1000)
        part = body.writable_part(50_000)
        assert part is not None
        part.release()
        body.filled(0)
    assert memory.left == 497_000
    first = held[0]
    assert first is not None
    assert not first.append(bytes(497_001))
    assert first.append(bytes(497_000))
    assert memory.left == 0
    for body in held:
        assert body is not None
        body.close()
    assert memory.left == 500_000


def test_what_was_announced_and_has_not_come_takes_no_memory() -> None:
    """Its addresses are no memory until something is written there."""
    before = resident_bytes()
    memory = BodyMemory()
    held = [memory.body(1_000_000) for _ in range(100)]
    for body in held:
        assert body is not None
        assert body.append(b"x")
    assert resident_bytes() - before < 5_000_000
    assert memory.left == ALL_BYTES - 100


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_one_that_nobody_finishes_gives_its_room_back() -> None:
    memory = BodyMemory(limit=1000)
    unfinished = memory.body(1000)
    assert memory.body(1) is None
    del unfinished
    body = memory.body(1000)
    assert body is not None
    body.close()


def test_a_large_one_is_not_kept_in_memory() -> None:
    assert BodyMemory().body(LARGEST_BYTES + 1) is None
    body = BodyMemory().body(None)
    assert body is not None
    assert body.append(bytes(LARGEST_BYTES))
    assert not body.append(b"x")
    body.close()


def test_reading_after_the_end_of_its_life_fails() -> None:
    body = received(BodyMemory(), b"abc")
    body.close()
    with pytest.raises(ValueError, match="closed"):
        body.read()


def test_its_end_is_told_once_unless_it_goes_on_elsewhere() -> None:
    told: list[str] = []
    memory = BodyMemory()
    for end in (MemoryBody.close, MemoryBody.forget):
        body = memory.body(10, lambda: told.append("closed"))
        assert body is not None
        end(body)
        body.close()
    assert told == ["closed"]
