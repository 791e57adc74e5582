"""Bodies in memory: what is received is what is read, within a bound, and nothing of another's."""

import io
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.memory_body import LARGEST_BYTES, BodyMemory, MemoryBody


def received(memory: BodyMemory, content: bytes) -> MemoryBody:
    body = memory.receiver(len(content))
    assert body is not None
    assert body.received(content + b"the next request") == len(content)
    assert body.completed
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


def test_it_is_received_from_a_socket_and_takes_no_more_than_its_length() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"0123456789 and more")
        body = BodyMemory().receiver(10)
        assert body is not None
        assert body.received(b"ab") == 2
        while not body.completed:
            assert body.receive_from(ours)
        assert body.read() == b"ab01234567"
        assert ours.recv(100) == b"89 and more"
        body.close()


def test_the_room_of_one_body_shows_nothing_to_the_next() -> None:
    memory = BodyMemory()
    received(memory, b"secret" * 50_000).close()
    second = memory.receiver(280_000)
    assert second is not None
    second.received(b"x")
    assert not second.completed
    second.received(b"y" * 279_999)
    assert second.read() == b"x" + b"y" * 279_999
    second.close()


def test_all_bodies_together_have_a_bound_and_give_their_room_back() -> None:
    memory = BodyMemory(limit=1000)
    first, second = memory.receiver(600), memory.receiver(400)
    assert first is not None
    assert second is not None
    assert memory.receiver(1) is None
    first.close()
    first.close()
    assert memory.receiver(601) is None
    third = memory.receiver(600)
    assert third is not None
    second.close()
    third.close()


def test_one_that_nobody_finishes_gives_its_room_back() -> None:
    memory = BodyMemory(limit=1000)
    unfinished = memory.receiver(1000)
    assert memory.receiver(1) is None
    del unfinished
    body = memory.receiver(1000)
    assert body is not None
    body.close()


def test_a_large_one_is_not_kept_in_memory() -> None:
    assert BodyMemory().receiver(LARGEST_BYTES + 1) is None


def test_reading_after_the_end_of_its_life_fails() -> None:
    body = received(BodyMemory(), b"abc")
    body.close()
    with pytest.raises(ValueError, match="closed"):
        body.read()
