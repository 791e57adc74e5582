"""The beginning of an error body, as the log shows it."""

import gzip
import zlib

import pytest

from authproxy.proxy.excerpt import RAW_BYTES, SHOWN_BYTES, BodyExcerpt

TEXT = b'{"error": {"code": "Forbidden"}}'


def shown(encoding: str | None, *pieces: bytes) -> str:
    excerpt = BodyExcerpt(encoding)
    for piece in pieces:
        excerpt.feed(piece)
    return excerpt.text()


def bare_deflate(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        (None, TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        (" GZIP ", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", bare_deflate(TEXT)),
    ],
)
def test_an_error_body_is_shown_decoded(encoding: str | None, raw: bytes) -> None:
    assert shown(encoding, raw) == TEXT.decode()
    assert shown(encoding, *(bytes([byte]) for byte in raw)) == TEXT.decode()


def test_what_cannot_be_decoded_is_named() -> None:
    assert shown("br", b"abc") == "(3 bytes of br)"
    assert shown("gzip", b"not gzip") == "(8 bytes of gzip)"


def test_an_empty_body_shows_nothing() -> None:
    assert shown("gzip") == ""
    assert shown("br") == ""


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_a_huge_body_or_a_bomb_costs_and_shows_a_bounded_amount(encoding: str | None) -> None:
    huge = b"a" * 20_000_000
    raw = gzip.compress(huge, mtime=0) if encoding else huge
    excerpt = BodyExcerpt(encoding)
    excerpt.feed(raw)
    assert len(excerpt._raw) <= RAW_BYTES
    assert excerpt.text() == "a" * SHOWN_BYTES


def test_bytes_that_are_not_utf_8_do_no_harm() -> None:
    assert shown(None, b"\xff\xfe") == "\ufffd\ufffd"
