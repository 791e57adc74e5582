"""The ways in which an error may quote what was sent."""

from __future__ import annotations

import html
import json
import quopri
import textwrap
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus


def percent(text: str, every: int = 1, form: str = "%{:02x}") -> str:
    return "".join(
        form.format(ord(char)) if at % every == 0 else char for at, char in enumerate(text)
    )


def wrapped(text: str, by: str, width: int = 76) -> str:
    return by.join(textwrap.wrap(text, width, break_on_hyphens=False))


def basic(text: str) -> str:
    return b64encode(text.encode()).decode()


#: How a text may quote what it was sent.
QUOTED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "in small letters": str.lower,
    "base64": basic,
    "base64, behind another byte": lambda text: basic(f"B{text}"),
    "base64, behind two": lambda text: basic(f"Be{text}"),
    "base64url": lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in lines": lambda text: encodebytes(text.encode()).decode(),
    "base64 in lines, in JSON": lambda text: json.dumps(encodebytes(text.encode()).decode()),
    "base64 in lines with CRLF": lambda text: wrapped(basic(text), "\r\n"),
    "base64, percent-encoded": lambda text: quote_plus(basic(text)),
    "base64, pieced together": lambda text: wrapped(basic(text), '" +\n    "', 40),
    "of Basic": lambda text: f"Basic {basic('user:' + text)}",
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
    "hex in pairs": lambda text: text.encode().hex(" "),
    "hex with colons": lambda text: text.encode().hex(":").upper(),
    "hex as in xxd": lambda text: wrapped(text.encode().hex(" ", 2), "\n00000010: ", 39),
    "hex in C": lambda text: ", ".join(f"0x{octet:02x}" for octet in text.encode()),
    "hex in a C string": lambda text: percent(text, form="\\x{:02x}"),
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded, every character": percent,
    "percent-encoded in capitals": lambda text: percent(text, form="%{:02X}"),
    "percent-encoded, every third": lambda text: percent(text, 3),
    "percent-encoded twice": lambda text: quote(percent(text, 2)),
    "percent-encoded thrice": lambda text: quote(quote(percent(text, 2))),
    "percent-encoded as by escape()": lambda text: percent(text, 2, "%u{:04x}"),
    "JSON": json.dumps,
    "JSON, every character": lambda text: percent(text, form="\\u{:04X}"),
    "JSON in JSON": lambda text: json.dumps(percent(text, 5, "\\u{:04x}")),
    "HTML": html.escape,
    "HTML, every other character": lambda text: percent(text, 2, "&#{};"),
    "HTML in hex": lambda text: percent(text, 4, "&#x{:x};"),
    "quoted-printable": lambda text: quopri.encodestring(text.encode()).decode(),
    "quoted-printable, CRLF": lambda text: wrapped(text, "=\r\n"),
    "quoted-printable, every character": lambda text: percent(text, form="={:02X}"),
    "in lines": lambda text: wrapped(text, "\r\n", 64),
    "in lines that are set in": lambda text: wrapped(text, "\n\t  ", 64),
    "in lines, in JSON": lambda text: json.dumps(wrapped(text, "\r\n", 64)),
    "with blanks": lambda text: wrapped(text, " ", 4),
}
