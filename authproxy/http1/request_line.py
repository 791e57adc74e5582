"""Pure rules: the request line (RFC 9112 section 3), and what other protocols begin with."""

from __future__ import annotations

import re

from authproxy.http1.grammar import TOKEN
from authproxy.http1.urls import NOT_IN_REQUEST_TARGETS

#: Method, target and version.
REQUEST_LINE = re.compile(
    rb"(?P<method>%b) (?P<target>[^%b]+) (?P<version>HTTP/1\.[01])"
    % (TOKEN.encode(), NOT_IN_REQUEST_TARGETS.encode())
)

_NO_REQUEST_LINE = (
    "The request line is not a method, a target without `#`, and HTTP/1.0 or HTTP/1.1."
)

_PROXY_PROTOCOL = (
    "The connection begins with a PROXY protocol header, which this port does not take: "
    "disable the PROXY protocol in what stands in front."
)

#: What clients of other protocols send first, and what to tell them.
_OTHER_PROTOCOLS = (
    # A record of a handshake, in any version (RFC 8446 section 5.1).
    (
        re.compile(rb"\x16\x03[\x00-\x04]"),
        "TLS on a plain HTTP port: use http://, or end TLS in front.",
    ),
    # haproxy.org/download/2.9/doc/proxy-protocol.txt, sections 2.1 and 2.2; the second
    # begins with two empty lines, which may be gone already.
    (re.compile(rb"PROXY (?:TCP4|TCP6|UNKNOWN)(?:[ \r]|\Z)"), _PROXY_PROTOCOL),
    (re.compile(rb"(?:\r\n\r\n)?\x00\r\nQUIT\n"), _PROXY_PROTOCOL),
    # The preface of HTTP/2 with prior knowledge (RFC 9113 section 3.4).
    (
        re.compile(rb"PRI \* HTTP/2\.0(?:\r|\Z)"),
        "HTTP/2 on a port for HTTP/1.1: have the client use HTTP/1.1 (of OpenTelemetry "
        "http/protobuf in place of grpc).",
    ),
    # A version, and a command or a count of methods (RFC 1928 section 3).
    (
        re.compile(rb"\x04[\x01\x02]|\x05[\x01-\xff]"),
        "SOCKS on an HTTP port: this is a reverse proxy. Have the client use its URL in place "
        "of the target's, and no proxy.",
    ),
)


def other_protocol(first: bytes) -> str | None:
    """Return what to tell a client whose first bytes are of another protocol; None if HTTP."""
    for begins, message in _OTHER_PROTOCOLS:
        if begins.match(first):
            return message
    return None


def no_request_line(line: bytes) -> str:
    """Return what is wrong with a line, without its end, that REQUEST_LINE does not match."""
    return other_protocol(line) or _NO_REQUEST_LINE
