"""Reading and writing remote writes."""

from __future__ import annotations

import math
import struct
from contextlib import suppress

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.demo.stand_ins.remote_write import NotRemoteWrite, Sample, decode, encode

labels = st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5).map(
    lambda named: tuple(sorted(named.items()))
)
samples = st.builds(
    Sample,
    labels=labels,
    value=st.floats(allow_nan=False),
    timestamp=st.integers(min_value=-(2**63), max_value=2**63 - 1),
)


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited protobuf field of less than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def snappy(content: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(content))


@given(st.lists(samples, max_size=5))
def test_what_was_encoded_is_decoded(given: list[Sample]) -> None:
    assert decode(encode(given)) == given


def test_the_bytes_are_those_of_the_specification() -> None:
    label = field(1, field(1, b"__name__") + field(2, b"up"))
    value = b"\x09" + struct.pack("<d", 1.5) + b"\x10\xac\x02"  # fixed64, then varint 300
    expected = field(1, label + field(2, value))
    body = encode([Sample.of("up", 1.5, 300)])
    assert bytes(cramjam.snappy.decompress_raw(body)) == expected


def test_what_is_not_known_is_skipped() -> None:
    label = field(1, field(1, b"__name__") + field(2, b"up"))
    value = field(2, b"\x09" + struct.pack("<d", 2))
    exemplar, metadata = field(3, b"\x08\x01"), field(3, field(2, b"up"))
    body = snappy(field(1, label + value + exemplar) + metadata)
    assert decode(body) == [Sample.of("up", 2, 0)]


def test_labels_are_sorted_whatever_their_order() -> None:
    series = b"".join(
        field(1, field(1, name) + field(2, b"x")) for name in (b"job", b"__name__", b"a")
    )
    body = snappy(field(1, series + field(2, b"")))
    assert [name for name, _ in decode(body)[0].labels] == ["__name__", "a", "job"]


def test_not_a_number_survives() -> None:
    assert math.isnan(decode(encode([Sample.of("up", math.nan, 1)]))[0].value)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(body: bytes) -> None:
    for candidate in (body, snappy(body)):
        with suppress(NotRemoteWrite):
            decode(candidate)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a snappy block"),
        (b"plain text", "not a snappy block"),
        (b"\xff\xff\xff\xff\x0fxx", "too large"),
        (snappy(b"plain text"), "not a WriteRequest"),
    ],
)
def test_a_refusal_says_what_is_wrong(body: bytes, reason: str) -> None:
    with pytest.raises(NotRemoteWrite, match=reason):
        decode(body)
