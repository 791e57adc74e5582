"""Requests whose head is read in more than one way."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.hostile.case import (
    BAD_METHOD,
    BAD_TARGET,
    CONTROLS,
    GET,
    NOTHING,
    REFUSED,
    SECOND,
    SMUGGLED,
    TAKEN,
    TAKEN_LAST,
    Case,
    Expected,
)

LINE = b"GET /-CASE- HTTP/1.1\r\n"
HOST = b"Host: a\r\n"


def head_cases() -> Iterator[Case]:
    """Yield them all; the names are distinct."""
    for table in (_fields, _line_ends, _hosts, _request_lines, _targets, _methods):
        yield from table()


def _fields() -> Iterator[Case]:
    for byte in CONTROLS:
        if byte not in (0x0A, 0x0D):
            yield Case(f"value-{byte:02x}", GET + b"X: a%cb\r\n\r\n" % byte, REFUSED)
            yield Case(f"name-{byte:02x}", GET + b"X%c: y\r\n\r\n" % byte, REFUSED)
    for byte in b' "(),/;<=>?@[\\]{}\t\x80\xa0\xff':
        yield Case(f"name-{byte:02x}", GET + b"X%cY: z\r\n\r\n" % byte, REFUSED)
    for byte in b"!#$%&'*+-.^`|~09azAZ":
        yield Case(f"name-{byte:02x}", GET + b"%c%c: z\r\n\r\n" % (byte, byte), TAKEN)
    for name, field in {
        "no-colon": b"nonsense",
        "no-name": b": y",
        "only-colon": b":",
        "blank-before-colon": b"X : y",
        "tab-before-colon": b"X\t: y",
        "blank-in-name": b"X Y: z",
        "blank-before-name": b" X: y",
        "tab-before-name": b"\tX: y",
        "folded-with-blank": b"X: y\r\n z",
        "folded-with-tab": b"X: y\r\n\tz",
        "folded-to-nothing": b"X: y\r\n ",
        "folded-end": b"X: y\r\n \r\n" + SMUGGLED[:-4],
        "a-request-line": b"GET /smuggled-CASE- HTTP/1.1",
    }.items():
        yield Case(f"field-{name}", GET + field + b"\r\n\r\n", REFUSED)
    for name, field in {
        "empty": b"X:",
        "blanks": b"X: \t ",
        "colons": b"X: :: a: b",
        "high": b"X: \x80\xa0\xff",
        "utf-8": "X: à".encode(),
        "all-visible": b"X: " + bytes(range(0x21, 0x7F)),
        "encoded-crlf": b"X: %0d%0aX-Smuggled: 1",
        "line-separator": "X: a\u2028Y: b\u0085Z: c".encode(),
        "many": b"X: y\r\n" * 500 + b"X: y",
        "many-names": b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"X: y",
        "own": b"Authorization: Bearer inbound\r\nX-Authproxy-Token: inbound",
        "cookies": b"Cookie: a=b\r\nCookie: c=d; e=f",
        "underscore": b"X_Y: z\r\nHost_: b\r\n_: c",
    }.items():
        yield Case(f"field-{name}", GET + field + b"\r\n\r\n", TAKEN)


def _line_ends() -> Iterator[Case]:
    for name, raw in {
        "all-lf": (GET + b"X: y\r\n\r\n").replace(b"\r\n", b"\n") + SMUGGLED,
        "first-lf": b"GET /-CASE- HTTP/1.1\nHost: a\r\n\r\n",
        "one-lf": GET + b"X: y\nY: z\r\n\r\n",
        "lf-lf": GET + b"X: y\n\n" + SMUGGLED,
        "lf-crlf": GET + b"X: y\n\r\n" + SMUGGLED,
        "crlf-lf": GET + b"\n" + SMUGGLED,
        "cr-cr": GET + b"X: y\r\r" + SMUGGLED,
        "crcrlf": GET + b"X: y\r\r\n\r\n",
        "lfcr": GET + b"X: y\n\rY: z\r\n\r\n",
        "cr-in-line": b"GET /-CASE-\r HTTP/1.1\r\nHost: a\r\n\r\n",
        "lf-in-line": b"GET /-CASE-\n HTTP/1.1\r\nHost: a\r\n\r\n",
        "cr-before-version": b"GET /-CASE- \rHTTP/1.1\r\nHost: a\r\n\r\n",
        "cr-lf-cr": GET + b"X: y\r\n\r" + SMUGGLED,
        "cr-in-value": GET + b"X: y\rz\r\n\r\n",
        "cr-before-value": GET + b"X:\ry\r\n\r\n",
        "lf-before": b"\n" + GET + b"\r\n",
        "cr-before": b"\r" + GET + b"\r\n",
        "lf-crlf-before": b"\n\r\n" + GET + b"\r\n",
        "blank-before": b" " + GET + b"\r\n",
        "tab-before": b"\t" + GET + b"\r\n",
        "vertical-tab-before": b"\x0b" + GET + b"\r\n",
        "form-feed-before": b"\x0c" + GET + b"\r\n",
        "nul-before": b"\0" + GET + b"\r\n",
        "mark-before": b"\xef\xbb\xbf" + GET + b"\r\n",
        "blank-line-before": b" \r\n" + GET + b"\r\n",
        "blank-head-before": b" \r\n\r\n" + SMUGGLED,
        "tab-head-before": b"\t\r\n\r\n" + SMUGGLED,
        "lf-head-before": b"\n\r\n\r\n" + SMUGGLED,
        "crlf-blank-before": b"\r\n " + GET + b"\r\n",
    }.items():
        yield Case(f"lines-{name}", raw, REFUSED)
    yield Case("lines-empty-before", b"\r\n" + GET + b"\r\n", TAKEN)
    yield Case("lines-two-empty-before", b"\r\n\r\n" + GET + b"\r\n", TAKEN)
    yield Case("lines-many-empty-before", b"\r\n" * 101 + GET + b"\r\n", TAKEN)
    yield Case("lines-only-empty", b"\r\n" * 10, NOTHING)


def _hosts() -> Iterator[Case]:
    for name, hosts in {
        "none": b"",
        "two": b"Host: a\r\nHost: b\r\n",
        "twice-the-same": b"Host: a\r\nhost: a\r\n",
        "one-empty": b"Host:\r\nHost: a\r\n",
        "three-apart": b"Host: a\r\nX: y\r\nHOST: b\r\nZ: z\r\nhost: c\r\n",
        "blank-before-colon": b"Host : a\r\n",
        "only-underscore": b"Ho_st: a\r\n",
        "folded": b"Host: a\r\n b\r\n",
        "folded-first": b"Host:\r\n a\r\n",
        "in-a-fold": b"X: y\r\n Host: a\r\n",
        "blank": b"Host: a b\r\n",
        "path": b"Host: a/b\r\n",
        "url": b"Host: http://a\r\n",
        "user-info": b"Host: user@a\r\n",
        "query": b"Host: a?b\r\n",
        "fragment": b"Host: a#b\r\n",
        "backslash": b"Host: a\\b\r\n",
        "port-not-a-number": b"Host: a:b\r\n",
        "port-with-sign": b"Host: a:+80\r\n",
        "two-ports": b"Host: a:80:80\r\n",
        "open-bracket": b"Host: [::1\r\n",
        "bracket-with-more": b"Host: [::1]a\r\n",
        "bare-ipv6": b"Host: ::1\r\n",
        "quoted": b'Host: "a"\r\n',
        "angle-brackets": b"Host: <a>\r\n",
        "high": "Host: exämple\r\n".encode(),
        "latin-1": b"Host: ex\xe4mple\r\n",
        "bad-percent": b"Host: a%zz\r\n",
        "percent-alone": b"Host: a%\r\n",
    }.items():
        yield Case(f"host-{name}", LINE + hosts + b"\r\n", REFUSED)
    for name, hosts in {
        "empty": b"Host:\r\n",
        "other": b"Host: evil.example\r\n",
        "port": b"Host: a:8080\r\n",
        "empty-port": b"Host: a:\r\n",
        "only-port": b"Host: :80\r\n",
        "port-too-large": b"Host: a:99999\r\n",
        "ipv6": b"Host: [::1]:80\r\n",
        "underscore": b"Host: a_b.svc\r\n",
        "comma": b"Host: a,b\r\n",
        "dot": b"Host: a.\r\n",
        "percent": b"Host: a%20b\r\n",
        "upper-case": b"HOST: A\r\n",
        "long": b"Host: " + b"a" * 3000 + b"\r\n",
        "named-by-connection": b"Host: a\r\nConnection: Host\r\n",
        "x-forwarded-host": b"Host: a\r\nX-Forwarded-Host: evil.example\r\n",
        "beside-an-underscore": b"Host: a\r\nHost_: b\r\n",
    }.items():
        yield Case(f"host-{name}", LINE + hosts + b"\r\n", TAKEN)
    yield Case("host-none-in-1.0", b"GET /-CASE- HTTP/1.0\r\n\r\n", TAKEN_LAST)
    two = b"GET /-CASE- HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"
    yield Case("host-two-in-1.0", two, REFUSED)
    absolute = b"GET http://b/-CASE- HTTP/1.1\r\nHost: a\r\n\r\n"
    yield Case("host-other-than-the-targets", absolute, TAKEN)
    yield Case("host-none-but-the-targets", absolute.replace(HOST, b""), REFUSED)


def _request_lines() -> Iterator[Case]:
    for name, line in {
        **{"only-method": b"GET", "no-target": b"GET HTTP/1.1", "no-version": b"GET /-CASE-"},
        **{"two-blanks": b"GET  /-CASE- HTTP/1.1", "tab": b"GET\t/-CASE- HTTP/1.1"},
        **{"blank-after": b"GET /-CASE- HTTP/1.1 ", "two-targets": b"GET /-CASE- /b HTTP/1.1"},
        **{"two-versions": b"GET /-CASE- HTTP/1.1 HTTP/1.1", "no-blank": b"GET/-CASE- HTTP/1.1"},
        **{"0.9": b"GET /-CASE- HTTP/0.9", "1.2": b"GET /-CASE- HTTP/1.2"},
        **{"1.10": b"GET /-CASE- HTTP/1.10", "1.01": b"GET /-CASE- HTTP/1.01"},
        **{"01.1": b"GET /-CASE- HTTP/01.1", "1": b"GET /-CASE- HTTP/1", "2": b"GET / HTTP/2"},
        **{"2.0": b"GET /-CASE- HTTP/2.0", "3": b"GET /-CASE- HTTP/3", "11": b"GET / HTTP/11"},
        **{"lower": b"GET /-CASE- http/1.1", "https": b"GET /-CASE- HTTPS/1.1"},
        **{"xhttp": b"GET /-CASE- XHTTP/1.1", "comma": b"GET /-CASE- HTTP/1,1"},
        **{"1.x": b"GET /-CASE- HTTP/1.x", "minus": b"GET /-CASE- HTTP/-1.1"},
        **{"blank-within": b"GET /-CASE- HTTP/ 1.1", "icy": b"GET /-CASE- ICY/1.1"},
        **{
            "arabic": "GET /-CASE- HTTP/1.\N{ARABIC-INDIC DIGIT ONE}".encode(),
            "superscript": b"GET / HTTP/1.\xb9",
        },
        "preface": b"PRI * HTTP/2.0",
    }.items():
        yield Case(f"line-{name}", line + b"\r\n" + HOST + b"X: -CASE-\r\n\r\n", REFUSED)
    keep = b"Connection: keep-alive\r\n"
    yield Case("line-1.0", b"GET /-CASE- HTTP/1.0\r\n" + HOST + b"\r\n", TAKEN_LAST)
    yield Case("line-1.0-kept", b"GET /-CASE- HTTP/1.0\r\n" + HOST + keep + b"\r\n", TAKEN)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED
    yield Case("line-http-2-preface", preface, REFUSED)


def _targets() -> Iterator[Case]:
    for byte in [*CONTROLS, 0x20, 0x09]:
        line = b"GET /-CASE-%cb HTTP/1.1\r\n" % byte
        yield Case(f"target-{byte:02x}", line + HOST + b"\r\n", REFUSED)
    for name, target in {
        **{"slashes": b"//evil.example/-CASE-", "more-slashes": b"///evil.example/-CASE-"},
        **{"user-info": b"//user:pw@evil.example/-CASE-", "backslashes": b"/\\evil.example/-CASE-"},
        **{"absolute": b"http://evil.example/-CASE-", "absolute-https": b"https://e/-CASE-"},
        **{"absolute-port": b"http://e:22/-CASE-", "absolute-user": b"http://u:p@e/-CASE-"},
        **{"absolute-other": b"gopher://e/-CASE-", "absolute-upper": b"HTTP://E//-CASE-"},
        **{"absolute-no-host": b"http:///-CASE-", "absolute-query": b"http://e?-CASE-"},
        **{"absolute-in-path": b"/http://evil.example/-CASE-"},
        **{"dots": b"/-CASE-/../../b", "encoded-dots": b"/-CASE-/%2e%2e/%2e%2e/b"},
        **{"encoded-slash": b"/-CASE-%2f..%2fb", "encoded-nul": b"/-CASE-%00"},
        **{"encoded-crlf": b"/-CASE-%0d%0aX-Smuggled:%201", "encoded-blank": b"/-CASE-%20HTTP/1.1"},
        **{"bad-percent": b"/-CASE-%", "bad-percents": b"/-CASE-%zz%u0041"},
        **{
            "high": b"/-CASE-\xff\xfe",
            "overlong": b"/-CASE-/\xc0\xae\xc0\xae/",
            "semicolon": b"/-CASE-;a=b",
        },
        **{"quotes": b"/-CASE-\"'`", "braces": b"/-CASE-{}|^", "long": b"/-CASE-" + b"a" * 5000},
        **{"query": b"/-CASE-?", "queries": b"/-CASE-??a=b?c&&", "health": b"/health/-CASE-"},
    }.items():
        raw = b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        yield Case(f"target-{name}", raw, TAKEN)
    for name, target in {
        **{"fragment": b"/-CASE-#b", "empty-fragment": b"/-CASE-#", "in-query": b"/-CASE-?a#b"},
        **{"only-fragment": b"#-CASE-", "absolute-fragment": b"http://e/-CASE-#b"},
        **{"authority-fragment": b"http://e#-CASE-", "asterisk-fragment": b"*#-CASE-"},
    }.items():
        raw = b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        yield Case(f"target-{name}", raw, REFUSED)
    asterisk = b"OPTIONS * HTTP/1.1\r\n" + HOST + b"X: -CASE-\r\n\r\n"
    yield Case("target-asterisk", asterisk, TAKEN)
    for name, target in {
        **{"host": b"evil.example:443", "relative": b"-CASE-/b", "dot": b"./-CASE-"},
        **{"one-slash": b"http:/-CASE-", "no-slash": b"http:-CASE-", "query-only": b"?-CASE-"},
        **{"backslash": b"\\-CASE-", "asterisk-more": b"*/-CASE-", "script": b"javascript:-CASE-"},
        **{"digit-scheme": b"1a://e/-CASE-", "high-first": b"\xff/-CASE-", "percent": b"%2f-CASE-"},
    }.items():
        raw = b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"X: -CASE-\r\n\r\n"
        yield Case(f"target-{name}", raw, BAD_TARGET)


def _methods() -> Iterator[Case]:
    for byte in b'"(),/:;<=>?@[\\]{}\x7f\x80\xff\x00\x0b':
        line = b"GE%cT /-CASE- HTTP/1.1\r\n" % byte
        yield Case(f"method-{byte:02x}", line + HOST + b"\r\n", REFUSED)
    for method in (b"get", b"Get", b"gET", b"post", b"connect", b"trace"):
        raw = method + b" /-CASE- HTTP/1.1\r\n" + HOST + b"\r\n"
        yield Case(f"method-{method.decode()}", raw, REFUSED)
    for name, method in {
        **{"head": b"HEAD", "options": b"OPTIONS", "delete": b"DELETE", "patch": b"PATCH"},
        **{"propfind": b"PROPFIND", "query": b"QUERY", "unknown": b"FOO", "digits": b"7"},
        **{"all-characters": b"!#$%&'*+-.^_`|~09AZ", "getpost": b"GETPOST", "long": b"A" * 300},
    }.items():
        raw = method + b" /-CASE- HTTP/1.1\r\n" + HOST + b"\r\n"
        yield Case(f"method-{name}", raw, TAKEN)
    for method in (b"CONNECT", b"TRACE"):
        for name, target in {"path": b"/-CASE-", "host": b"evil.example:443"}.items():
            raw = method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"X: -CASE-\r\n\r\n"
            yield Case(f"method-{method.decode().lower()}-{name}", raw, BAD_METHOD)
    tunnel = b"CONNECT e:443 HTTP/1.1\r\n" + HOST + b"X: -CASE-\r\n\r\n" + SECOND
    yield Case("method-connect-then", tunnel, Expected((405, 200), 1, False))
