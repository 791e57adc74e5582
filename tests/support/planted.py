"""Looking for secrets in what a program lets out, in any form in which they could hide."""

from __future__ import annotations

import base64
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
