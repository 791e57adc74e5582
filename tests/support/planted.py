"""Looking for secrets in what a program lets out, in any form in which they could hide."""

from __future__ import annotations

import base64
import html
import quopri
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_to_bytes

_ENCODED = re.compile(rb"[A-Za-z0-9+/_-]{8,}")


def _forms_of(output: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield an output as it is, and decoded in each way that a reader could think of."""
    yield "as it is", output
    yield "percent-decoded", unquote_to_bytes(output)
    yield "form-decoded", unquote_to_bytes(output.replace(b"+", b" "))
    yield "unescaped", re.sub(rb"\\(.)", rb"\1", output)
    pieces = []
    for run in _ENCODED.findall(output):
        standard = run.translate(bytes.maketrans(b"-_", b"+/"))
        for start in range(4):
            part = standard[start:]
            whole = part[:-1] if len(part) % 4 == 1 else part
            pieces.append(base64.b64decode(whole + b"=" * (-len(whole) % 4)))
    yield "base64-decoded", b"\n".join(pieces)
    hexadecimal = re.findall(rb"(?:[0-9A-Fa-f]{2}){8,}", output)
    yield "hex-decoded", b"\n".join(bytes.fromhex(run.decode()) for run in hexadecimal)


def leaks(secrets: Mapping[str, str], outputs: Mapping[str, bytes]) -> list[str]:
    """Return a line for each secret that is found in an output, and in which form."""
    found = []
    for place, output in outputs.items():
        for form, text in _forms_of(output):
            for name, secret in secrets.items():
                assert len(secret) >= 8, "too short to be looked for"
                if secret.encode() in text or secret.encode("latin-1") in text:
                    found.append(f"{name} in {place}, {form}")
    return found


_ESCAPE = re.compile(rb"\\\\?(?:u00|x)([0-9A-Fa-f]{2})|%u00([0-9A-Fa-f]{2})")
_LINE = re.compile(rb"=\r?\n|\\[nrt]|\s+")


def _unescaped(data: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes.fromhex((match[1] or match[2]).decode()), data)


def _decodings(data: bytes) -> Iterator[bytes]:
    """Yield what somebody could make of bytes who suspects something in them."""
    data = _LINE.sub(b"", data)
    yield data
    unquoted = data
    for _ in range(3):
        unquoted = unquote_to_bytes(unquoted)
        yield unquoted
    yield _unescaped(data)
    yield _unescaped(_unescaped(data))
    yield html.unescape(data.decode("latin-1")).encode(errors="replace")
    yield quopri.decodestring(data)
    octets = re.sub(rb"0[xX]|[^0-9A-Fa-f]", b"", data).decode()
    for digits in (octets, octets[1:]):
        yield bytes.fromhex(digits[: len(digits) // 2 * 2])
    for text in (data, unquoted):
        letters = re.sub(rb"[^0-9A-Za-z+/_-]", b"", text).translate(bytes.maketrans(b"-_", b"+/"))
        for start in range(4):
            run = letters[start : start + (len(letters) - start) // 4 * 4]
            yield base64.b64decode(run)


#: As short a part of a token tells nobody anything.
_PART = 12


def _parts(text: str) -> set[str]:
    folded = text.lower()
    return {folded[at : at + _PART] for at in range(len(folded) - _PART + 1)}


def left(token: str, shown: str) -> set[str]:
    """Return what can still be read of a token, between masks where there are any.

    In whatever form and letters: each character takes one of `shown` at least in all of them.
    """
    runs = (run for run in shown.split("***") if len(run) >= _PART)
    readings = {each for run in runs for each in _decodings(run.encode())}
    readable = set[str]().union(*(_parts(each.decode("latin-1")) for each in readings))
    return readable and readable & _parts(token)
