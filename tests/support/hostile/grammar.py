"""Requests made by chance from a grammar of what goes wrong, the same for the same seed."""

from __future__ import annotations

from random import Random

from tests.support.hostile.case import SMUGGLED, Case
from tests.support.hostile.oracle import predict

#: Bytes that some parser somewhere takes for something else.
_ODD = [b"\r", b"\n", b"\0", b"\t", b" ", b"\x0b", b"\x0c", b"\x85", b"\xa0", b"\xff", b"\x7f"]
_ODD += [b",", b";", b":", b'"', b"\r\n", b"\n\n", b"\r\n ", b"\r\n\r\n", b"_", b"+", b"0x"]

# The first of each is right; the others are chosen rarely, so that most
# requests have one thing wrong, or none.
_METHODS = [b"POST", b"GET", b"HEAD", b"PUT", b"OPTIONS", b"get", b"CONNECT", b"FOO"]
_VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 "]
_TARGETS = [b"/-CASE-", b"//h/-CASE-", b"http://h/-CASE-", b"/-CASE- b", b"-CASE-"]
_HOSTS = [b"Host: a", b"Host:", b"Host: a:80", b"Host : a", b"Host: a b", b"X: y"]
_LENGTHS = [b"5", b"0", b"05", b"6", b"40", b"+5", b"5,5", b"0x5", b"", b"5 ", b"1e1"]
_CODINGS = [b"chunked", b"Chunked", b"identity", b"chunked, chunked", b" chunked", b"x"]
_NAMES = [b"%b: ", b"%b:", b"%b:\t", b"%b : ", b" %b: ", b"X-%b: "]
_SIZES = [b"5", b"05", b"5;a=b", b"5;a", b"5 ", b" 5", b"0x5", b"+5", b"5;", b"6", b"4", b"5\n"]
_ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b""]
_TRAILERS = [b"", b"X: y\r\n", b"X : y\r\n", b"GET / HTTP/1.1\r\n", b"X\r\n", b"\n"]
_FIELDS = [
    *(b"X: y", b"X:", b"Expect: 100-continue", b"X_: y", b"Connection: keep-alive", b"TE: x"),
    *(b"Connection: close", b"Connection: Content-Length", b"Upgrade: h2c", b"Content_Length: 5"),
    *(b"X : y", b"X: y\r\n z", b" X: y", b"X", b"Host: b", b"Transfer-Encoding : chunked"),
]


def generated_case(seed: int) -> Case:
    """Return the case of a seed; what is to become of it is by the strict reading."""
    random = Random(seed)
    raw = b"".join(_request(random) for _ in range(random.choice([1, 1, 1, 2, 3])))
    if random.random() < 0.25:
        raw = _damaged(random, raw)
    if random.random() < 0.7:
        raw += SMUGGLED
    return Case(f"seed-{seed}", raw, predict(raw).summary())


def _mostly(random: Random, options: list[bytes]) -> bytes:
    return random.choice(options) if random.random() < 0.12 else options[0]


def _request(random: Random) -> bytes:
    line = b" ".join(_mostly(random, part) for part in (_METHODS, _TARGETS, _VERSIONS))
    fields = [_mostly(random, _HOSTS), b"X-Case: -CASE-"]
    fields += random.sample(_FIELDS, random.choice([0, 0, 0, 1, 1, 2]))
    framing = random.choice(["length", "length", "chunks", "chunks", "chunks", "both", "none"])
    if framing in ("length", "both"):
        fields.append(_mostly(random, _NAMES) % b"Content-Length" + _mostly(random, _LENGTHS))
    if framing in ("chunks", "both"):
        fields.append(_mostly(random, _NAMES) % b"Transfer-Encoding" + _mostly(random, _CODINGS))
    random.shuffle(fields)
    body = {"length": b"hello", "none": b""}.get(framing, _chunks(random))
    return b"\r\n".join([line, *fields, b"", body])


def _chunks(random: Random) -> bytes:
    def ended(*options: list[bytes]) -> bytes:
        return b"".join(_mostly(random, each) for each in options)

    chunk_count = random.choice([0, 1, 1, 2])
    coded = [ended(_SIZES, _ENDS, [b"hello"], _ENDS) for _ in range(chunk_count)]
    return b"".join(coded) + ended([b"0"], _ENDS, _TRAILERS, _ENDS)


def _damaged(random: Random, raw: bytes) -> bytes:
    """Put something odd in, or take or double a piece, in one place."""
    at = random.randrange(len(raw))
    end = min(len(raw), at + random.randint(1, 8))
    middle = random.choice([random.choice(_ODD), random.choice(_ODD), b"", raw[at:end] * 2])
    return raw[:at] + middle + raw[at if random.random() < 0.5 else end :]
