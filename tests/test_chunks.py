"""Decoding chunked bodies: every way to cut the bytes gives the same data, and no lie passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.chunks import MAX_LINE_BYTES, MAX_TRAILER_BYTES, ChunkDecoder


def framed(pieces: list[bytes], trailers: bytes = b"") -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return chunks + b"0\r\n" + trailers + b"\r\n"


def decode(decoder: ChunkDecoder, parts: list[bytes]) -> bytes:
    return b"".join(decoder.feed(part) for part in parts)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return the bytes cut at these places, modulo their length."""
    at = sorted({place % (len(data) + 1) for place in places})
    return [
        data[start:end]
        for start, end in zip([0, *at], [*at, len(data)], strict=True)
        if end > start
    ]


@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.sampled_from([b"", b"X: y\r\n", b"A: b\r\nC: \r\n"]),
    st.binary(max_size=10),
    st.lists(st.integers(min_value=0), max_size=12),
)
def test_the_data_is_the_same_however_the_bytes_arrive(
    pieces: list[bytes], trailers: bytes, after: bytes, places: list[int]
) -> None:
    decoder = ChunkDecoder()
    raw = framed(pieces, trailers)
    assert decode(decoder, cut(raw, places)) == b"".join(pieces)
    assert decoder.complete
    assert decoder.feed(after) == b""
    assert (decoder.rest, decoder.error) == (after, None)


@given(st.binary(max_size=60), st.lists(st.integers(min_value=0), max_size=5))
def test_no_bytes_upset_the_decoder(raw: bytes, places: list[int]) -> None:
    whole, in_parts = ChunkDecoder(), ChunkDecoder()
    assert decode(in_parts, cut(raw, places)) == whole.feed(raw) or in_parts.error or whole.error


@pytest.mark.parametrize(
    "size", [b"", b"-1", b"+1", b"0x1", b"1_0", b" 1", b"g", b"1 1", b"00000000000000001", b"1\r"]
)
def test_a_size_that_is_no_hexadecimal_number_is_an_error(size: bytes) -> None:
    decoder = ChunkDecoder()
    assert decoder.feed(b"3\r\nabc\r\n" + size + b"\r\nx\r\n0\r\n\r\n") == b"abc"
    assert decoder.error
    assert not decoder.complete


@pytest.mark.parametrize("after", [b"d\r\n", b"\rd", b"0\r\n\r\n"])
def test_a_chunk_longer_than_it_says_is_an_error(after: bytes) -> None:
    decoder = ChunkDecoder()
    assert decoder.feed(b"3\r\nabc" + after) == b"abc"
    assert decoder.error


def test_extensions_and_trailers_are_dropped() -> None:
    decoder = ChunkDecoder()
    assert decoder.feed(b"3 ;a=b\r\nabc\r\n0;c\r\nX: y\r\n\r\nrest") == b"abc"
    assert (decoder.complete, decoder.rest) == (True, b"rest")


@pytest.mark.parametrize(
    "endless",
    [b"3;" + b"x" * MAX_LINE_BYTES, b"0\r\n" + b"X: y\r\n" * (MAX_TRAILER_BYTES // 6 + 1)],
    ids=["extension", "trailers"],
)
def test_what_has_no_end_is_an_error(endless: bytes) -> None:
    decoder = ChunkDecoder()
    decoder.feed(endless)
    assert decoder.error
