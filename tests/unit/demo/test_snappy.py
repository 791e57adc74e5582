"""The block format, held to a real implementation of it."""

from __future__ import annotations

from contextlib import suppress

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.demo.stand_ins.snappy import NotSnappy, compress, decompress

MOST = 1_000_000

#: Content with repetitions near and far, so that every kind of copy occurs.
CONTENT = st.lists(
    st.tuples(st.binary(max_size=40), st.integers(min_value=1, max_value=3000)), max_size=6
).map(lambda pieces: b"".join(piece * times for piece, times in pieces))


@given(CONTENT)
def test_what_is_made_can_be_read_by_others(content: bytes) -> None:
    assert bytes(cramjam.snappy.decompress_raw(compress(content))) == content


@given(CONTENT)
def test_what_others_make_can_be_read(content: bytes) -> None:
    assert decompress(bytes(cramjam.snappy.compress_raw(content)), MOST) == content


@given(st.binary(max_size=60) | CONTENT.map(compress).map(lambda block: block[:200]))
def test_any_bytes_are_refused_or_read_as_others_read_them(block: bytes) -> None:
    try:
        content = decompress(block, MOST)
    except NotSnappy:
        with pytest.raises(cramjam.DecompressionError):
            cramjam.snappy.decompress_raw(block)
        return
    # It refuses short literals of a long form at the end of a block, which the format allows.
    with suppress(cramjam.DecompressionError):
        assert bytes(cramjam.snappy.decompress_raw(block)) == content


@pytest.mark.parametrize(
    ("block", "content"),
    [
        # The two kinds that encoders hardly make: a copy by four bytes, a length in four bytes.
        (b"\x06\x08abc\x0b\x03\x00\x00\x00", b"abcabc"),
        (b"\x03\xfc\x02\x00\x00\x00abc", b"abc"),
        # A copy that reaches into itself.
        (b"\x09\x00a\x1e\x01\x00", b"a" * 9),
    ],
)
def test_rare_elements_are_read(block: bytes, content: bytes) -> None:
    assert decompress(block, MOST) == content
    assert bytes(cramjam.snappy.decompress_raw(block)) == content


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (b"", "no length"),
        (b"\xff\xff\xff\xff\x7f", "no length"),
        (b"\x80\x80\x80\x80\x80\x01", "no length"),
        (b"\xff\xff\xff\x7f", "too large"),
        (b"\x03\x08ab", "cut short"),
        (b"\x04\x08abc", "cut short"),
        (b"\x02\x08abc", "longer than it says"),
        (b"\x07\x08abc\x0e\x04\x00", "not come"),
        (b"\x07\x08abc\x0e\x00\x00", "not come"),
        (b"\x07\x08abc\x0e\x03", "cut short"),
    ],
)
def test_what_breaks_the_format_is_named(block: bytes, problem: str) -> None:
    with pytest.raises(NotSnappy, match=problem):
        decompress(block, MOST)
