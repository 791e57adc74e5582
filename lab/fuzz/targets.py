"""What is fuzzed: functions that take any bytes, and fail where a rule is broken.

Each holds the code under test to what must be true whatever comes in. They
need no fuzzer: `test_corpus` runs them over the corpus that is kept, and
`__main__` under atheris, which looks for bytes that lead to new places.
"""

from __future__ import annotations

import posixpath
import re
import zlib
from collections.abc import Callable, Iterator
from random import Random
from urllib.parse import unquote

from authproxy.errors import BadRequest
from authproxy.http1.chunks import ChunkDecoder
from authproxy.http1.headers import (
    HOP_BY_HOP,
    canonical,
    forwardable,
    is_remote_write,
    is_token,
    list_members,
    returnable,
)
from authproxy.http1.path_readings import oddity
from authproxy.http1.path_rules import PathRules
from authproxy.http1.response_head import MalformedResponse, parse_head, split_head
from authproxy.http1.urls import TargetURL, origin_form, path_of
from authproxy.proxy.routes import RouteTable
from authproxy.settings.match import Match
from lab.fuzz.settings import fuzz_settings, fuzz_values
from tests.support.hostile.oracle import forwarded_target
from tests.support.hostile.reading import End, read
from tests.support.inbound import inbound
from tests.support.parsed import Parsed
from tests.support.paths import readings

_CREDENTIALS = {"Authorization", "Proxy-Authorization", "X-Authproxy-Token"}


def cut(data: bytes) -> Iterator[bytes]:
    """Yield the bytes in pieces, always the same for the same bytes."""
    random = Random(zlib.crc32(data))
    while data:
        size = random.choice([1, 1, 2, 7, 50])
        yield data[:size]
        data = data[size:]


def fuzz_request(data: bytes) -> None:
    """The parser finds the requests that the strict reading finds, however they arrive."""
    reading = read(data)
    for pieces in ([data], list(cut(data))):
        requests, refused, left = _parsed(pieces)
        due = [(each.method, each.target, each.body) for each in reading.requests]
        assert requests[: len(due)] == due, (requests, due)
        # Behind the last request of a connection the reading looks no further.
        if not reading.requests or reading.requests[-1].keeps_connection:
            assert len(requests) == len(due), (requests, due)
            assert not refused or reading.end is not End.CLEAN, refused
            assert refused or reading.end is not End.REFUSED, reading
            assert not (left and reading.end is End.CLEAN), left


def _parsed(pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes, bytes]], str, bool]:
    """Return the requests, why the next was refused, and whether another has begun."""
    parsed = Parsed(body_limit=100_000, header_limit=100_000)
    for piece in pieces:
        parsed.feed(piece)
    requests = [
        (request.command.encode(), request.request_uri.encode("latin-1"), body)
        for request, body in parsed.requests
    ]
    parsed.close()
    refused = "" if parsed.refusal is None else str(parsed.refusal)
    return requests, refused, not refused and parsed.begun


def fuzz_response(data: bytes) -> None:
    """A head says one thing about where its body ends, or is refused."""
    for method in ("GET", "HEAD"):
        rest = data
        try:
            while (parts := split_head(rest)) is not None:
                head, rest = parse_head(parts[0], method), parts[1]
                assert 100 <= head.status <= 999
                assert not (head.chunked and head.length is not None)
                assert head.length is None or head.length >= 0
                assert head.chunked or head.length is not None or not head.persistent
                names = [name.lower() for name, _ in head.fields]
                assert names.count("content-length") <= 1
                for name, value in head.fields:
                    assert is_token(name)
                    assert value == value.strip(" \t")
                    assert not set(value) & set("\r\n\0")
                assert not set(head.reason) & set("\r\n\0")
                again = returnable(head.fields)
                assert not HOP_BY_HOP & {name.lower() for name, _ in again}
                assert [field for field in head.fields if field in again] == again
        except MalformedResponse:
            pass


def fuzz_chunks(data: bytes) -> None:
    """However the bytes arrive, they are the same data; what is right for one is so for both."""
    outcomes = []
    for strict in (True, False):
        whole, in_pieces = ChunkDecoder(strict=strict), ChunkDecoder(strict=strict)
        content = whole.feed(data)
        assert not (whole.error and whole.complete)
        assert whole.left >= 0
        assert data.endswith(whole.rest)
        pieces = b""
        for piece in cut(data):
            pieces += in_pieces.feed(piece)
            if in_pieces.error or in_pieces.complete:
                break
        assert (pieces, in_pieces.complete) == (content, whole.complete)
        assert bool(in_pieces.error) == bool(whole.error)
        outcomes.append((content, whole.complete, whole.rest))
    if outcomes[0][1]:
        assert outcomes[0] == outcomes[1]


def fuzz_headers(data: bytes) -> None:
    """No hop-by-hop field and no credential crosses, whatever Connection says; the rest does."""
    environ: dict[str, object] = {}
    overrides = {}
    for line in data.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        if name.startswith("!"):
            overrides[canonical(name[1:])] = value
        else:
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    request = inbound("/", **environ)  # type: ignore[arg-type]  # no field is called host
    fields = list(request.fields.items())
    crossing = forwardable(fields, overrides=overrides, client="192.0.2.1")
    named = [m for name, value in fields if name == "Connection" for m in list_members(value)]
    others = [(name, value) for name, value in crossing if name not in overrides]
    assert dict(crossing).items() >= overrides.items()
    assert len({name for name, _ in crossing}) == len(crossing)
    for name, value in others:
        assert name.lower() not in HOP_BY_HOP | {"host", "content-length", "expect"}
        assert name not in _CREDENTIALS
        if name == "X-Forwarded-For":
            assert value.split(", ")[-1] == "192.0.2.1"
        else:
            assert name.lower() not in named
            assert (name, value) in fields
    once = canonical("x-" + data.decode("latin-1"))
    assert canonical(once) == once
    is_remote_write(request.fields)


def fuzz_target(data: bytes) -> None:
    """A request target keeps its bytes, and the target's URL its host."""
    first, _, second = data.decode("latin-1").partition("\n")
    try:
        target = origin_form(first)
    except BadRequest:
        target = None
    if target is not None:
        assert target.encode("latin-1") == forwarded_target(first.encode("latin-1"))
        assert path_of(target) == target.split("?")[0]
    try:
        url = TargetURL.parse(second)
    except ValueError:
        return
    assert url.scheme == "https"
    assert 1 <= url.port <= 65535
    assert not set(url.authority) & set("@/?#\\ ")
    assert TargetURL.parse(str(url)) == url
    if target is not None:
        joined = url.join(target)
        assert joined.startswith(url.path)
        assert url.path or url.query or joined == target
        assert len(joined) >= len(target) - 1


def fuzz_path(data: bytes) -> None:
    """A path that is admitted stays where it is admitted, however it is read later."""
    path = "/allowed/" + data.decode("latin-1")
    if oddity(path) is not None or not PathRules(["/allowed/"]).admit(path):
        return
    for times in range(4):
        decoded = path
        for _ in range(times):
            decoded = unquote(decoded, "latin-1")
        for read_as in (decoded, decoded.replace("\\", "/"), re.sub("[;?#].*", "", decoded)):
            assert f"{posixpath.normpath(read_as)}/".startswith("/allowed/"), (path, read_as)
            stripped = "/".join(segment.strip(" .\t") for segment in read_as.split("/"))
            assert stripped.startswith("/allowed"), (path, read_as)


_ROUTES = [Match(path=path) for path in ("/", "/secret", "/open", "/open/a/b")]
_TABLE = RouteTable((match, match) for match in _ROUTES)


def fuzz_route(data: bytes) -> None:
    """A path that takes a route stays on it, however servers read it."""
    path = "/" + data[:100].decode("latin-1").partition("?")[0]
    try:
        found = _TABLE.find(inbound(path))
    except BadRequest:
        return
    for reading in readings(path):
        covering = [match for match in _ROUTES if match.covers(reading or "/")]
        assert max(covering, key=lambda match: len(match.path)) is found, (path, reading)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "chunks": fuzz_chunks,
    "headers": fuzz_headers,
    "path": fuzz_path,
    "request": fuzz_request,
    "response": fuzz_response,
    "route": fuzz_route,
    "settings": fuzz_settings,
    "target": fuzz_target,
    "values": fuzz_values,
}
