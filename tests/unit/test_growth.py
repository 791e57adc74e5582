"""Twice the bytes of a client cost about twice the time, whatever bytes they are.

Clients choose these bytes, and some of the rules run on the main loop, where every other client
waits. **A new rule that touches them gets a line in RULES**, and a new way to trouble one a line in
TEXTS or HEADS. Every rule meets every text.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import pytest
from jwt import PyJWK
from opentelemetry.propagate import extract

from authproxy.admin.metrics_page import encoder_for
from authproxy.admission.admission import bearer_tokens
from authproxy.admission.signed_tokens import TokenCallers
from authproxy.demo.stand_ins.signing import SigningKey
from authproxy.errors import BadRequest, RequestError
from authproxy.files.inbound_tokens import TokenDigests
from authproxy.files.jwks import parse_jwks
from authproxy.http1.chunks import ChunkDecoder
from authproxy.http1.globs import Glob
from authproxy.http1.headers import (
    forwardable,
    is_remote_write,
    is_token,
    list_members,
    returnable,
)
from authproxy.http1.path_readings import oddity, readings_of
from authproxy.http1.path_rules import PathRules
from authproxy.http1.references import TargetOnProxy
from authproxy.http1.request_line import other_protocol
from authproxy.http1.upgrade import offered_protocols
from authproxy.http1.urls import TargetURL, origin_form, path_of, requested_host
from authproxy.http1.writes import is_otlp_write
from authproxy.proxy.access_log import shown_url
from authproxy.proxy.routes import RouteTable
from authproxy.redaction import Redactor, masked
from authproxy.settings.env_file import assignments
from authproxy.settings.match import Match
from authproxy.telemetry.log_forms import JSONFormatter, LogfmtFormatter, OTelFormatter
from authproxy.telemetry.metric_labels import BoundedLabels
from tests.support.growth import MOST, growth
from tests.support.inbound import inbound
from tests.support.parsed import Parsed
from tests.support.signing import jwks_of

Rule = Callable[[str], object]

ROUTES = RouteTable(
    (match, match)
    for match in (
        Match(path="/"),
        Match(path="/secret/deep"),
        Match(host="h.example.com", path="/secret"),
        Match(host="[::1]:8081"),
    )
)
TARGET = TargetURL.parse("h.example.com/base?v=1")
ON_PROXY = TargetOnProxy(TARGET, "/query")
ALLOWED = PathRules(["/allowed", "/*a*b*/c", "/**/x/**/y"])
ACROSS, WITHIN = Glob("/**/*a/**/*b/**", "/"), Glob("/*a*a*a*b", "/")
SUBJECT = Glob("system:**:*a*:b", ":")
DIGESTS = TokenDigests(["correct-horse-battery-staple"])
KEY = SigningKey()
LINES, JSON_LINES, OTEL_LINES = LogfmtFormatter(), JSONFormatter(), OTelFormatter()
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwcm94eSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
REDACTED = Redactor(["an overridden value of a header field"])


class _Keys:
    """Keys that are there, for tokens that are not signed with them."""

    def __init__(self) -> None:
        self._keys = parse_jwks(json.dumps(jwks_of(KEY)).encode())

    def current(self) -> Mapping[str, PyJWK]:
        return self._keys

    def look_for(self, key_id: str) -> float | None:
        return None

    def start(self) -> None: ...

    def stop(self) -> None: ...

    alive = True


CALLERS = TokenCallers(_Keys(), issuer="i", audience="a", subjects=["**"])


def unless_refused(rule: Rule) -> Rule:
    """Return the rule for texts that it may refuse."""

    def quietly(text: str) -> object:
        try:
            return rule(text)
        except RequestError as error:
            return error

    return quietly


def coded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def parsed(head: str) -> Parsed:
    read = Parsed(body_limit=1 << 22, header_limit=1 << 22)
    read.feed(head.encode("latin-1"))
    read.close()
    return read


def fed_in_pieces(head: str) -> Parsed:
    """Give the parser a head that does not end, in pieces."""
    read = Parsed(body_limit=1 << 22, header_limit=1 << 22)
    for at in range(0, len(head), 64):
        read.feed(head[at : at + 64].encode("latin-1"))
    read.close()
    return read


def record_of(text: str) -> logging.LogRecord:
    record = logging.LogRecord("authproxy", logging.INFO, "", 0, "Request failed", None, None)
    record.fields = {"Request": text, "RequestID": text}
    return record


def decoded(body: str) -> bytes:
    return ChunkDecoder(strict=True).feed(body.encode("latin-1"))


RULES: dict[str, Rule] = {
    # -- the request target
    "request target": unless_refused(lambda text: origin_form(f"http://{text}")),
    "path": path_of,
    "stripped path": lambda text: Match(path="/a", strip_path=True).outbound(f"/a{text}"),
    "join": lambda text: TARGET.join(f"/{text}"),
    "host": unless_refused(lambda text: requested_host("/", text)),
    "route": unless_refused(lambda text: ROUTES.find(inbound(f"/{text}"))),
    "route of an absolute form": unless_refused(
        lambda text: ROUTES.find(inbound(f"http://u@{text}/{text}"))
    ),
    "oddity": lambda text: oddity(f"/{text}"),
    "readings": lambda text: readings_of(f"/{text}"),
    "allowed path": lambda text: ALLOWED.admit(f"/{text}"),
    "glob across": lambda text: ACROSS.matches(f"/{text}"),
    "glob within": lambda text: WITHIN.matches(f"/{text}"),
    # -- what is logged, counted and traced
    "metric labels": lambda text: BoundedLabels()(text, text, text),
    "shown URL": lambda text: shown_url(f"https://t/{text}"),
    "log line": lambda text: LINES.format(record_of(text)),
    "JSON log line": lambda text: JSON_LINES.format(record_of(text)),
    "OpenTelemetry log line": lambda text: OTEL_LINES.format(record_of(text)),
    "masked": masked,
    # Of what a client sends to the target, which quotes it in an error.
    "redacted": lambda text: REDACTED(text[: len(text) // 8], [TOKEN]),
    "request id": lambda text: BadRequest("").response(text),
    "client address": lambda text: inbound("/", REMOTE_ADDR=text),
    "trace context": lambda text: extract(
        dict.fromkeys(("traceparent", "tracestate", "baggage"), text)
    ),
    "list of versions": lambda text: encoder_for(f"text/plain;version={text}"),
    # -- header fields
    "request line and fields": lambda text: parsed(
        f"GET /{text} HTTP/1.1\r\nHost: a\r\nX: {text}\r\n{text}: x\r\nCookie: {text}\r\n\r\n"
    ),
    "fields that go on": lambda text: fed_in_pieces(f"GET / HTTP/1.1\r\nHost: a\r\nX: {text}"),
    "fields with underscores": lambda text: parsed(
        f"GET / HTTP/1.1\r\nHost: a\r\n_{text}_: x\r\nX: _{text}\r\n\r\n"
    ),
    "other protocol": lambda text: other_protocol(text.encode("latin-1")),
    "list members": list_members,
    "upgrade": lambda text: offered_protocols({"Connection": "upgrade", "Upgrade": text}),
    "token": is_token,
    "inbound request": lambda text: inbound(
        text, text, **{f"HTTP_{text}": text, "REMOTE_ADDR": text, "SCRIPT_NAME": text}
    ),
    "forwardable": lambda text: forwardable(
        [("Connection", text), ("X-Forwarded-For", text)], overrides={}, client="192.0.2.1"
    ),
    "returnable": lambda text: returnable([("Connection", text), (text, text)]),
    "remote write": lambda text: is_remote_write({"Content-Type": text}),
    "OTLP write": lambda text: is_otlp_write("POST", f"/{text}/v1/logs", {"Content-Type": text}),
    # -- fields of responses that the target chooses
    "reference": lambda text: ON_PROXY.reference(f"/base/{text}", "/base/a"),
    "absolute reference": lambda text: ON_PROXY.reference(f"https://{text}/{text}", f"/{text}"),
    "links": lambda text: ON_PROXY.link(f"<{text}>; a={text}", "/base/a"),
    "unending links": lambda text: ON_PROXY.link(text, "/base/a"),
    "refresh": lambda text: ON_PROXY.refresh(f"5; url='{text}", "/base/a"),
    "digits of a refresh": lambda text: ON_PROXY.refresh(text, "/base/a"),
    "cookie": lambda text: ON_PROXY.cookie(f"a={text}; Path=/base/{text}; Domain={text}"),
    # -- who comes in
    "bearer tokens": lambda text: bearer_tokens(
        {"Authorization": f"Bearer {text}", "X-Authproxy-Token": text}
    ),
    "inbound token": lambda text: text in DIGESTS,
    "signed token": unless_refused(lambda text: CALLERS.identify(text)),
    "signed token's header": unless_refused(lambda text: CALLERS.identify(f"{coded(text)}.e30.AA")),
    "signed token's claims": unless_refused(
        lambda text: CALLERS.identify(f"{coded(json.dumps({'kid': 'x'}))}.{coded(text)}.AA")
    ),
    "subject": lambda text: SUBJECT.matches(f"system:{text}"),
    # -- bodies
    "chunks": decoded,
    # -- files
    "file of variables": lambda text: list(assignments(f"A={text}")),
}

#: What is repeated, with what stands before and behind.
TEXTS: dict[str, tuple[str, str, str]] = {
    **{f"{char!r}": ("", char, "") for char in "a/.%;,:*=[]{\"\\'- \t\xff\xc0~#?&\0@0"},
    "deep encoding": ("%", "25", "41"),
    "encoded percent signs": ("", "%25", ""),
    "encoded digits": ("%", "%32%35", "41"),
    "encoded letters": ("", "%41", "!"),
    "encoded NULs": ("", "%00", "x"),
    "nested encodings": ("", "%3%32", ""),
    "percent signs and NULs": ("", "%%00", "41"),
    "encodings of IIS": ("", "%u0025", "41"),
    "overlong": ("", "%c0%af", ""),
    "beyond ASCII": ("", "%ef%bc%8f", ""),
    "long in ASCII": ("", "%ef%b7%ba", ""),
    "cut characters": ("", "%ef%bc", ""),
    "dot segments": ("", "/.", "x"),
    "dots": ("", "./", ".x"),
    "parameters": ("", ";a/", ""),
    "streams": ("", "::$a", ""),
    "segments": ("", "/a", "/b"),
    "the secret": ("secret/", "deep.%00", "x"),
    "members": ("", "a, ", "b"),
    "many members": ("", "a,\t ,", ""),
    "blanks before a control character": ("a", " ", "\x01"),
    "cookies": ("", "a=b; ", ""),
    "segments of a token": ("", "eyJ.", ""),
    "nested JSON": ("", '{"a":[', ""),
    "digits": ('{"kid":', "1", "}"),
    "chunks": ("", "1\r\na\r\n", "0\r\n\r\n"),
    "extensions": ("1", ';a="b"', "\r\n"),
    "line ends": ("", "\r\n", "x"),
    "open links": ("", "<a", ""),
    "closed links": ("", "<a>,", ""),
    "open quotes": ("", '"\\', ""),
    "quotes": ('1;a="', "\\", "\r\n"),
}

#: Heads that are long by how many fields they have.
HEADS: dict[str, str] = {
    "fields of one name": "X: y\r\n",
    "cookies": "Cookie: a=b\r\n",
    "fields without a value": "X:\r\n",
    "fields that are none": "X\r\n",
    "empty lines": "\r\n",
}


@pytest.mark.parametrize("name", RULES)
def test_no_rule_takes_more_than_its_share_for_twice_the_bytes(name: str) -> None:
    for kind, (before, part, behind) in TEXTS.items():
        found = growth(RULES[name], lambda size: before + part * (size // len(part)) + behind)  # noqa: B023
        assert found <= MOST, f"{kind}: {found:.1f} times the time"


@pytest.mark.parametrize("name", HEADS)
def test_nor_does_a_head_of_many_fields(name: str) -> None:
    line = HEADS[name]
    found = growth(
        parsed,
        lambda size: f"GET / HTTP/1.1\r\nHost: a\r\n{line * (size // len(line))}\r\n",
    )
    assert found <= MOST, f"{found:.1f} times the time"


def test_what_grows_with_the_square_is_found() -> None:
    def decoded_again_and_again(path: str) -> None:
        """How paths were judged once: `%2525...41` has as many rounds as it is long."""
        while (plainer := unquote(path)) != path:
            path = plainer

    before, part, behind = TEXTS["deep encoding"]
    found = growth(
        decoded_again_and_again,
        lambda size: before + part * (size // len(part)) + behind,
        tries=2,
    )
    assert found > MOST
