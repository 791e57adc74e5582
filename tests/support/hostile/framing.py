"""Requests whose body ends at more than one place, if one asks the wrong parser."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.hostile.case import (
    BOTH_TAKEN,
    CHUNKED,
    CONTROLS,
    EMPTY,
    GET,
    HELLO,
    POST,
    REFUSED,
    SMUGGLED,
    TAKEN,
    TOO_LARGE,
    Case,
)


def framing_cases() -> Iterator[Case]:
    """Yield them all; the names are distinct."""
    for table in (_both_framings, _lengths, _codings, _chunks, _trailers):
        yield from table()


def _both_framings() -> Iterator[Case]:
    """CL.TE and TE.CL: whoever believes the other field sees a second request."""
    length = b"Content-Length: %d\r\n"
    whole = EMPTY + SMUGGLED
    for name, fields in {
        "short-length-first": length % 5 + CHUNKED,
        "short-length-last": CHUNKED + length % 5,
        "long-length-first": length % len(whole) + CHUNKED,
        "long-length-last": CHUNKED + length % len(whole),
        "zero-length": length % 0 + CHUNKED,
        "length-of-the-size-line": length % 3 + CHUNKED,
        "with-a-blank-name": b"Content-Length : 5\r\n" + CHUNKED,
        "length-twice": length % 5 + CHUNKED + length % 5,
        "coding-twice": CHUNKED + length % 5 + CHUNKED,
        "identity-after": length % 5 + b"Transfer-Encoding: chunked, identity\r\n",
        "length-not-a-number": b"Content-Length: x\r\n" + CHUNKED,
        "length-empty": b"Content-Length:\r\n" + CHUNKED,
        "case-of-both": b"cONTENT-lENGTH: 5\r\ntRANSFER-eNCODING: CHUNKED\r\n",
        "named-by-connection": length % 5 + CHUNKED + b"Connection: Content-Length\r\n",
        "coding-named-by-connection": length % 5 + CHUNKED + b"Connection: Transfer-Encoding\r\n",
    }.items():
        yield Case(f"both-{name}", POST + fields + b"\r\n" + whole, REFUSED)
    # The name of one of them is no name: then it counts for nobody.
    for name, line, expected in (
        ("underscore-length", b"Content_Length: 5\r\n" + CHUNKED, BOTH_TAKEN),
        ("underscore-coding", b"Transfer_Encoding: chunked\r\n" + length % 5, BOTH_TAKEN),
        ("dotted-coding", b"Transfer.Encoding: chunked\r\n" + length % 5, BOTH_TAKEN),
        ("x-coding", b"X-Transfer-Encoding: chunked\r\n" + length % 5, BOTH_TAKEN),
    ):
        second = SMUGGLED.replace(b"smuggled", b"second")
        yield Case(f"both-{name}", POST + line + b"\r\n" + EMPTY + second, expected)


def _lengths() -> Iterator[Case]:
    """Numbers that parsers of numbers take, each in its own way."""
    for name, value in {
        **{"plus": b"+5", "minus": b"-5", "minus-zero": b"-0", "hexadecimal": b"0x5"},
        **{"underscore": b"1_0", "exponent": b"5e0", "decimal": b"5.0", "quoted": b'"5"'},
        **{"list": b"5, 5", "list-of-two": b"5, 48", "list-with-a-blank": b"5 48"},
        **{"comma-after": b"5,", "comma-before": b",5", "semicolon": b"5;", "unit": b"5b"},
        **{
            "empty": b"",
            "word": b"five",
            "arabic": "\N{ARABIC-INDIC DIGIT FIVE}".encode(),
            "superscript": b"\xb2",
        },
        **{
            "fullwidth": "\N{FULLWIDTH DIGIT FIVE}".encode(),
            "no-break-blank": b"\xa05",
            "next-line": b"\x855",
        },
        **{"parentheses": b"(5)", "octal": b"0o5", "binary": b"0b101", "infinity": b"inf"},
        **{"thousands": b"9" * 5000, "brackets": b"[5]", "percent": b"%35", "and": b"5&48"},
    }.items():
        raw = POST + b"Content-Length: " + value + b"\r\n\r\nhello" + SMUGGLED
        yield Case(f"length-{name}", raw, REFUSED)
    for byte in CONTROLS:
        if byte not in (0x0A, 0x0D):
            for place, value in (("before", b"%c5"), ("after", b"5%c"), ("within", b"0%c5")):
                line = b"Content-Length: " + value % byte
                raw = POST + line + b"\r\n\r\nhello" + SMUGGLED
                yield Case(f"length-{byte:02x}-{place}", raw, REFUSED)
    for name, fields in {
        "twice-the-same": b"Content-Length: 5\r\nContent-Length: 5\r\n",
        "twice-short-first": b"Content-Length: 5\r\nContent-Length: 48\r\n",
        "twice-long-first": b"Content-Length: 48\r\nContent-Length: 5\r\n",
        "twice-zero-first": b"Content-Length: 0\r\ncontent-length: 5\r\n",
        "twice-apart": b"Content-Length: 5\r\nX: y\r\nContent-Length: 5\r\n",
        "twice-one-empty": b"Content-Length: 5\r\nContent-Length:\r\n",
        "folded": b"Content-Length:\r\n 5\r\n",
        "folded-after": b"Content-Length: 5\r\n 0\r\n",
        "folded-empty": b"Content-Length: 5\r\n \r\n",
        "behind-a-fold": b"X: y\r\n Content-Length: 5\r\n",
    }.items():
        yield Case(f"length-{name}", POST + fields + b"\r\nhello" + SMUGGLED, REFUSED)
    for name, fields in {
        "zeros-before": b"Content-Length: 0005\r\n",
        "many-zeros-before": b"Content-Length: " + b"0" * 300 + b"5\r\n",
        "blanks-around": b"Content-Length: \t 5 \t\r\n",
        "no-blank": b"Content-Length:5\r\n",
        "lower-case": b"content-length: 5\r\n",
        "named-by-connection": b"Content-Length: 5\r\nConnection: content-length\r\n",
        "beside-an-underscore": b"Content_Length: 48\r\nContent-Length: 5\r\n",
    }.items():
        yield Case(f"length-{name}", POST + fields + b"\r\nhello", TAKEN)
    yield Case("length-on-get", GET + b"Content-Length: 5\r\n\r\nhello", TAKEN)
    yield Case("length-on-head", GET.replace(b"GET", b"HEAD") + b"Content-Length: 0\r\n\r\n", TAKEN)
    yield Case("length-zero", POST + b"Content-Length: 0\r\n\r\n", TAKEN)


def _codings() -> Iterator[Case]:
    """Disguises of `Transfer-Encoding: chunked`."""
    body = HELLO + SMUGGLED
    for name, value in {
        **{"gzip": b"gzip", "identity": b"identity", "gzip-chunked": b"gzip, chunked"},
        **{"chunked-gzip": b"chunked, gzip", "parameter": b"chunked;q=1", "x": b"xchunked"},
        **{"cut": b"chunke", "quoted": b'"chunked"', "single-quoted": b"'chunked'"},
        **{"two-words": b"chunked chunked", "word-before": b"cow chunked"},
        **{"no-break-blank": b"\xa0chunked", "next-line": b"\x85chunked", "high": b"chunked\xff"},
        **{
            "deflate": b"deflate",
            "trailers": b"trailers",
            "dotless": "chunked\N{LATIN SMALL LETTER DOTLESS I}".encode(),
        },
        **{"kelvin": "chun\N{KELVIN SIGN}ed".encode(), "equals": b"=chunked", "dash": b"-chunked"},
        **{"slash": b"chunked/1", "brackets": b"[chunked]", "semicolon": b";chunked"},
    }.items():
        raw = POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + body
        yield Case(f"coding-{name}", raw, REFUSED)
    for byte in CONTROLS:
        if byte not in (0x0A, 0x0D):
            for place, value in (("before", b"%cchunked"), ("after", b"chunked%c")):
                line = b"Transfer-Encoding: " + value % byte
                yield Case(f"coding-{byte:02x}-{place}", POST + line + b"\r\n\r\n" + body, REFUSED)
    for name, fields in {
        "empty": b"Transfer-Encoding:\r\n",
        "twice-in-one": b"Transfer-Encoding: chunked, chunked\r\n",
        "twice": CHUNKED + CHUNKED,
        "twice-in-other-case": CHUNKED + b"TRANSFER-ENCODING: chunked\r\n",
        "comma-before": b"Transfer-Encoding: ,chunked\r\n",
        "comma-after": b"Transfer-Encoding: chunked,\r\n",
        "comma": b"Transfer-Encoding: ,\r\n",
        "one-empty": CHUNKED + b"Transfer-Encoding:\r\n",
        "blank-before-colon": b"Transfer-Encoding : chunked\r\n",
        "tab-before-colon": b"Transfer-Encoding\t: chunked\r\n",
        "no-colon": b"Transfer-Encoding chunked\r\n",
        "equals-for-colon": b"Transfer-Encoding= chunked\r\n",
        "blank-before-name": b"X: y\r\n Transfer-Encoding: chunked\r\n",
        "tab-before-name": b"X: y\r\n\tTransfer-Encoding: chunked\r\n",
        "folded": b"Transfer-Encoding:\r\n chunked\r\n",
        "folded-within": b"Transfer-Encoding: chun\r\n ked\r\n",
        "folded-after": b"Transfer-Encoding: chunked\r\n \r\n",
        "folded-list": b"Transfer-Encoding: chunked\r\n , identity\r\n",
        "quoted-name": b'"Transfer-Encoding": chunked\r\n',
        "high-name": b"Transfer-Encoding\xff: chunked\r\n",
        "nul-in-name": b"Transfer\0-Encoding: chunked\r\n",
        "bare-cr-before": b"X: y\rTransfer-Encoding: chunked\r\n",
        "bare-lf-before": b"X: y\nTransfer-Encoding: chunked\r\n",
        "lf-cr-before": b"X: y\n\rTransfer-Encoding: chunked\r\n",
        "bare-cr-after": b"Transfer-Encoding: chunked\r\r\n",
        "colon-before": b": y\r\nTransfer-Encoding: chunked\r\n",
    }.items():
        yield Case(f"coding-{name}", POST + fields + b"\r\n" + body, REFUSED)
    for name, fields in {
        "plain": CHUNKED,
        "upper-case": b"TRANSFER-ENCODING: CHUNKED\r\n",
        "tabs-around": b"Transfer-Encoding:\t chunked \t\r\n",
        "no-blank": b"Transfer-Encoding:chunked\r\n",
        "with-te": CHUNKED + b"TE: trailers, chunked\r\n",
        "beside-an-underscore": b"Transfer_Encoding: identity\r\n" + CHUNKED,
        "named-by-connection": CHUNKED + b"Connection: transfer-encoding\r\n",
    }.items():
        yield Case(f"coding-{name}", POST + fields + b"\r\n" + HELLO, TAKEN)
    yield Case("coding-on-get", GET + CHUNKED + b"\r\n" + HELLO, TAKEN)
    old = b"POST /-CASE- HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"
    yield Case("coding-in-1.0", old + CHUNKED + b"\r\n" + body, REFUSED)
    both = old + CHUNKED + b"Content-Length: 5\r\n\r\n" + body
    yield Case("coding-and-length-in-1.0", both, REFUSED)


def _chunks() -> Iterator[Case]:
    """Sizes and line ends of chunks."""
    start = POST + CHUNKED + b"\r\n"
    for name, body in {
        **{"plus": b"+5\r\nhello\r\n", "minus": b"-5\r\nhello\r\n", "minus-zero": b"-0\r\n\r\n"},
        **{"0x": b"0x5\r\nhello\r\n", "underscore": b"0_5\r\nhello\r\n", "no-size": b"\r\nhello"},
        **{"word": b"five\r\nhello\r\n", "blank-before": b" 5\r\nhello\r\n"},
        **{"blank-after": b"5 \r\nhello\r\n", "tab-after": b"5\t\r\nhello\r\n"},
        **{"two-numbers": b"5 5\r\nhello\r\n", "comma": b"5,5\r\nhello\r\n"},
        **{"quoted": b'"5"\r\nhello\r\n', "h": b"5h\r\nhello\r\n", "dot": b"5.0\r\nhello\r\n"},
        **{
            "arabic": "\N{ARABIC-INDIC DIGIT FIVE}\r\nhello\r\n".encode(),
            "high": b"\xb5\r\nhello\r\n",
        },
        **{"nul-before": b"\x005\r\nhello\r\n", "nul-after": b"5\0\r\nhello\r\n"},
        **{"vertical-tab": b"5\x0b\r\nhello\r\n", "form-feed": b"5\x0c\r\nhello\r\n"},
        **{"lf-after-size": b"5\nhello\r\n", "lf-before-crlf": b"5\n\r\nhello\r\n"},
        **{"cr-after-size": b"5\rhello\r\n", "cr-before-crlf": b"5\r\r\nhello\r\n"},
        **{"lf-after-data": b"5\r\nhello\n", "cr-after-data": b"5\r\nhello\r"},
        **{"nothing-after-data": b"5\r\nhello", "blank-after-data": b"5\r\nhello \r\n"},
        **{"too-long": b"4\r\nhello\r\n", "too-short-by-line": b"7\r\nhello\r\n"},
        **{"empty-line-before": b"\r\n5\r\nhello\r\n", "two-line-ends": b"5\r\nhello\r\n\r\n"},
        **{"17-digits": b"00000000000000005\r\nhello\r\n", "negative-hex": b"-ff\r\n"},
        **{"300-zeros": b"0" * 300 + b"5\r\nhello\r\n", "line-of-zeros": b"0" * 2000 + b"\r\n"},
        **{"ext-lf": b"5;a\nhello\r\n", "ext-lf-crlf": b"5;a\n\r\nhello\r\n"},
        **{"ext-cr": b"5;a\rb\r\nhello\r\n", "ext-nul": b"5;\0\r\nhello\r\n"},
        **{"ext-blank-before": b"5 ;a=b\r\nhello\r\n", "ext-no-name": b"5;\r\nhello\r\n"},
        **{"ext-equals": b"5;=b\r\nhello\r\n", "ext-no-value": b"5;a=\r\nhello\r\n"},
        **{"ext-open-quote": b'5;a="b\r\nhello\r\n', "ext-quoted-lf": b'5;a="\n"\r\nhello\r\n'},
        **{"ext-comma": b"5,a=b\r\nhello\r\n", "ext-two-equals": b"5;a=b=c\r\nhello\r\n"},
        **{"ext-long": b"5;" + b"x" * 1100 + b"\r\nhello\r\n", "ext-only": b";a=b\r\nhello\r\n"},
        "ext-long-at-once": b"5;" + b"x" * 3000 + b"\r\nhello\r\n",
    }.items():
        yield Case(f"chunk-{name}", start + body + EMPTY + SMUGGLED, REFUSED)
    for name, body in {
        **{"upper-hex": b"A\r\n0123456789\r\n", "lower-hex": b"a\r\n0123456789\r\n"},
        **{"zeros-before": b"0000000000000005\r\nhello\r\n", "ext": b"5;a\r\nhello\r\n"},
        **{"ext-value": b"5;a=b\r\nhello\r\n", "ext-quoted": b'5;a="b;\\"c, d"\r\nhello\r\n'},
        **{"exts": b'5;a;b=c;d="e"\r\nhello\r\n', "ext-high": b'5;a="\xff"\r\nhello\r\n'},
        **{"data-like-a-request": b"%x\r\n%b\r\n" % (len(SMUGGLED), SMUGGLED)},
        **{"data-like-chunks": b"5\r\n0\r\n\r\n\r\n", "data-crlf": b"2\r\n\r\n\r\n"},
        "many-small": b"1\r\nx\r\n" * 300,
    }.items():
        yield Case(f"chunk-{name}", start + body + EMPTY, TAKEN)
    yield Case("chunk-many-zeros-at-the-end", start + b"5\r\nhello\r\n0000000\r\n\r\n", TAKEN)
    yield Case("chunk-ext-at-the-end", start + b"5\r\nhello\r\n0;a=b\r\n\r\n", TAKEN)
    yield Case("chunk-end-lf", start + b"0\n\r\n" + SMUGGLED, REFUSED)
    yield Case("chunk-end-lf-crlf", start + b"0\r\n\n" + SMUGGLED, REFUSED)
    for digits in (8, 9, 15, 16):
        huge = start + b"f" * digits + b"\r\nhello"
        yield Case(f"chunk-huge-{digits}-digits", huge, TOO_LARGE)


def _trailers() -> Iterator[Case]:
    """Fields behind a chunked body: dropped, whatever they say, if they are fields."""
    start = POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n"
    for name, trailers in {
        "one": b"X-Sum: 1\r\n",
        "two": b"X-Sum: 1\r\nX-Other: 2\r\n",
        "length": b"Content-Length: 48\r\n",
        "coding": CHUNKED,
        "host": b"Host: evil.example\r\n",
        "authorization": b"Authorization: Bearer inbound\r\n",
        "connection": b"Connection: close\r\n",
        "expect": b"Expect: 100-continue\r\n",
        "empty-value": b"X-Sum:\r\n",
        "high": b"X-Sum: \xff\r\n",
    }.items():
        yield Case(f"trailer-{name}", start + trailers + b"\r\n", TAKEN)
    for name, trailers in {
        "a-request": SMUGGLED[:-2],
        "no-colon": b"X-Sum\r\n",
        "no-name": b": 1\r\n",
        "blank-before-colon": b"X-Sum : 1\r\n",
        "folded": b"X-Sum: 1\r\n 2\r\n",
        "blank-first": b" X-Sum: 1\r\n",
        "blank-line": b" \r\n",
        "lf": b"X-Sum: 1\nX-Other: 2\r\n",
        "two-lf": b"X-Sum: 1\n\n" + SMUGGLED[:-2],
        "lf-first": b"\n" + SMUGGLED[:-2],
        "cr-first": b"\r" + SMUGGLED[:-2],
        "cr": b"X-Sum: 1\rX-Other: 2\r\n",
        "nul": b"X-Sum: \0\r\n",
        "chunk": b"5\r\nhello\r\n0\r\n",
        "long": b"X: " + b"x" * 17_000 + b"\r\n",
        "many": b"X: y\r\n" * 3000,
    }.items():
        yield Case(f"trailer-{name}", start + trailers + b"\r\n" + SMUGGLED, REFUSED)
