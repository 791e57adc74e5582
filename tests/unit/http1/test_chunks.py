"""Decoding chunked bodies: every way to cut the bytes gives the same data, and no lie passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.chunks import MAX_LINE_BYTES, MAX_TRAILER_BYTES, ChunkDecoder


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


@pytest.mark.parametrize("strict", [True, False])
@given(
    st.lists(
        st.sampled_from(
            [b"5", b"hello", b"\r\n", b"\n", b"\r", b"0", b";a=b", b"X: y", b" ", b"\0"]
        )
    ).map(b"".join),
    st.lists(st.integers(min_value=0), max_size=9),
)
def test_no_bytes_upset_the_decoder_however_they_arrive(
    strict: bool, raw: bytes, places: list[int]
) -> None:
    whole, in_parts = ChunkDecoder(strict=strict), ChunkDecoder(strict=strict)
    data = b""
    for part in cut(raw, places):
        data += in_parts.feed(part)
        if in_parts.error or in_parts.complete:
            break
    assert data == whole.feed(raw)
    assert (bool(in_parts.error), in_parts.complete) == (bool(whole.error), whole.complete)


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
    "raw",
    [
        b"3\n\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"3 ;a\r\nabc\r\n0\r\n\r\n",
        b"3;a\n\r\nabc\r\n0\r\n\r\n",
        b'3;a="\n"\r\nabc\r\n0\r\n\r\n',
        b"3;\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"\r\n3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n\r\n0\r\n\r\n",
        b"0\r\n\nX: y\r\n\r\n",
        b"0\r\nX: y\nZ: z\r\n\r\n",
    ],
)
def test_a_client_has_to_write_every_line_as_it_should_be(raw: bytes) -> None:
    decoder = ChunkDecoder(strict=True)
    decoder.feed(raw)
    assert decoder.error
    assert not decoder.complete


@pytest.mark.parametrize(
    "extension", [b"", b";a", b";a=b", b';a="b;\\"c, d"', b";a;b=c", b';a="\xff\t"']
)
def test_a_client_may_use_extensions_and_trailers(extension: bytes) -> None:
    decoder = ChunkDecoder(strict=True)
    raw = b"003%b\r\nabc\r\n0%b\r\nX: y\r\nContent-Length: 9\r\n\r\nrest"
    assert decoder.feed(raw % (extension, extension)) == b"abc"
    assert (decoder.complete, decoder.rest) == (True, b"rest")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "trailer", [b"HTTP/1.1 200 OK", b"X", b": y", b"X : y", b" X: y", b"X: \0", b"X: a\rb"]
)
def test_a_trailer_that_is_no_field_is_an_error(trailer: bytes, strict: bool) -> None:
    decoder = ChunkDecoder(strict=strict)
    assert decoder.feed(b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n\r\n") == b"abc"
    assert decoder.error
    assert not decoder.complete


def test_a_line_is_too_long_however_it_arrives() -> None:
    line = b"3;" + b"x" * (MAX_LINE_BYTES - 4) + b"\r\n"
    for raw, fits in ((line, True), (line.replace(b";", b";x"), False)):
        for parts in ([raw], [raw[:-1], raw[-1:]], [raw[at : at + 1] for at in range(len(raw))]):
            decoder = ChunkDecoder(strict=True)
            decode(decoder, parts)
            assert (decoder.error is None) is fits


@pytest.mark.parametrize(
    "endless",
    [b"3;" + b"x" * MAX_LINE_BYTES, b"0\r\n" + b"X: y\r\n" * (MAX_TRAILER_BYTES // 6 + 1)],
    ids=["extension", "trailers"],
)
def test_what_has_no_end_is_an_error(endless: bytes) -> None:
    decoder = ChunkDecoder()
    decoder.feed(endless)
    assert decoder.error
