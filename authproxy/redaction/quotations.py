"""Pure rules: where a text quotes a secret, whole or in part, in whatever form.

Not every form is tried in turn. The text is read in a few ways (as it is, its
escapes decoded once, twice, three times; each with and without what is no
letter and no digit), without blanks and line ends, and without a difference
between capitals and small letters. In each of these readings a part of the
secret is looked for, as itself, in hexadecimal and in base64. All of it takes
time that is linear in the text, and in the secret once.
"""

from __future__ import annotations

import re
from array import array
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

#: Where in a text something begins and ends.
Span = tuple[int, int]

#: Characters; of a secret that has as many, parts are looked for as well. A shorter one may
#: be made of ordinary words.
LONG = 32

#: The characters that a part has at least. Every run of so many holds a seed whole: seeds are
#: those at each sixth place.
PART = 11
_SEED = 6

#: Seeds that a text may have by chance.
_PIECES = 8

#: Fewer characters prove nothing: to look for them would garble texts.
SHORTEST = 6

#: How deep escapes may be nested: percent-encoding in JSON in JSON, say.
_DEPTH = 3

#: Blanks and controls, and the soft line break of quoted-printable (RFC 2045 section 6.7).
_BLANK = re.compile(rb"=\r?\n|[\x00-\x20\x7f]+")
_DECORATION = re.compile(rb"0[xX]|[^0-9A-Za-z]+")

#: The escapes of JSON and programming languages; of URLs, also as JavaScript's escape() has them,
#: and HTML; of quoted-printable.
_BACKSLASH = rb"\\(?:u(?P<u>[0-9A-Fa-f]{4})|x(?P<x>[0-9A-Fa-f]{2})|(?P<blank>[nrtbf])|(?P<char>.))"
_WEB = (
    rb"|%u(?P<pu>[0-9A-Fa-f]{4})|%(?P<p>[0-9A-Fa-f]{2})"
    rb"|&#[xX](?P<hx>[0-9A-Fa-f]{1,6});|&#(?P<d>[0-9]{1,7});|&(?P<name>amp|lt|gt|quot|apos);"
)
_PRINTABLE = rb"|=(?P<q>[0-9A-F]{2})"

#: What is decoded at a time, and how often: what one encodes another may leave as it is.
_DECODINGS = [
    (re.compile(_BACKSLASH, re.DOTALL), 1),
    (re.compile(_BACKSLASH + _WEB, re.DOTALL), _DEPTH),
    (re.compile(_BACKSLASH + _WEB + _PRINTABLE, re.DOTALL), _DEPTH),
]
_NAMED = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}


@dataclass(frozen=True)
class Reading:
    """A text in one way of reading it: bytes, and the span of the text that each stands for."""

    data: bytes
    starts: array[int]
    ends: array[int]

    def span(self, first: int, end: int) -> Span:
        """Return where in the text the bytes from `first` to before `end` stand."""
        return self.starts[first], self.ends[end - 1]

    def without(self, pattern: re.Pattern[bytes]) -> Reading:
        return self.replaced(pattern, lambda match: b"")

    def replaced(
        self, pattern: re.Pattern[bytes], put: Callable[[re.Match[bytes]], bytes]
    ) -> Reading:
        """Return it with each match replaced; itself where there is none."""
        data, starts, ends = bytearray(), array("L"), array("L")
        done = 0
        for match in pattern.finditer(self.data):
            first, end = match.span()
            data += self.data[done:first]
            starts += self.starts[done:first]
            ends += self.ends[done:first]
            for byte in put(match):
                data.append(byte)
                starts.append(self.starts[first])
                ends.append(self.ends[end - 1])
            done = end
        if not done:
            return self
        data += self.data[done:]
        starts += self.starts[done:]
        ends += self.ends[done:]
        return Reading(bytes(data), starts, ends)


def readings(text: str) -> list[Reading]:
    """Return the ways to read a text, in small letters."""
    given = _as_it_is(text).without(_BLANK)
    distinct = {given.data: given}
    for escapes, depth in _DECODINGS:
        deeper = given
        for _ in range(depth):
            deeper = deeper.replaced(escapes, _decoded).without(_BLANK)
            distinct[deeper.data] = deeper
    for each in list(distinct.values()):
        bare = each.without(_DECORATION)
        distinct[bare.data] = bare
    return [Reading(each.data.lower(), each.starts, each.ends) for each in distinct.values()]


def _as_it_is(text: str) -> Reading:
    if text.isascii():
        places: Iterable[int] = range(len(text))
    else:
        sizes = (len(char.encode(errors="surrogatepass")) for char in text)
        places = [at for at, size in enumerate(sizes) for _ in range(size)]
    data = text.encode(errors="surrogatepass")
    return Reading(data, array("L", places), array("L", (at + 1 for at in places)))


def _decoded(match: re.Match[bytes]) -> bytes:
    """Return the bytes that an escape stands for; a character's are those of UTF-8."""
    kind, value = match.lastgroup, match[match.lastgroup or 0]
    if kind in ("p", "q", "x"):
        return bytes.fromhex(value.decode())
    if kind == "char":
        return value
    if kind == "name":
        return _NAMED[value]
    if kind == "blank":
        return b""
    code = int(value, 10 if kind == "d" else 16)
    return chr(code).encode(errors="surrogatepass") if code <= 0x10FFFF else b""


class Secret:
    """A secret, prepared to be looked for."""

    def __init__(self, value: str) -> None:
        self._forms = sorted(set(_forms(value)), key=len, reverse=True)
        self._long = len(value) >= LONG
        if self._long:
            self._all = b"".join(form + b"\0" for form in self._forms)
            self._seeds = frozenset(
                form[at : at + _SEED]
                for form in self._forms
                for at in range(0, len(form) - _SEED + 1, _SEED)
            )

    def spans(self, reading: Reading) -> Iterator[Span]:
        """Yield where in the text it is quoted."""
        found = self._parts(reading.data) if self._long else self._wholes(reading.data)
        for first, end in found:
            yield reading.span(first, end)

    def _parts(self, data: bytes) -> Iterator[Span]:
        """Yield every stretch of PART bytes or more that is part of a form.

        All of it where there are many seeds without such a stretch: it is
        cut into pieces then, which a reader could put together.
        """
        at = pieces = 0
        seeds, last = self._seeds, len(data) - _SEED
        while at <= last:
            if data[at : at + _SEED] not in seeds:
                at += 1
            elif (stretch := self._stretch(data, at)) is not None:
                yield stretch
                at = max(at + 1, stretch[1] - PART + 1)
            elif (pieces := pieces + 1) > _PIECES:
                yield 0, len(data)
                return
            else:
                at += 1

    def _stretch(self, data: bytes, seed: int) -> Span | None:
        """Return the first stretch of PART bytes or more that holds the seed at this place."""
        for begin in range(max(0, seed - PART + _SEED), min(seed, len(data) - PART) + 1):
            place = self._all.find(data[begin : begin + PART])
            if place < 0:
                continue
            end, beyond = begin + PART, place + PART
            while data[end : end + 1] and data[end] == self._all[beyond]:
                end, beyond = end + 1, beyond + 1
            return begin, end
        return None

    def _wholes(self, data: bytes) -> Iterator[Span]:
        """Yield where a form stands whole, and where the text ends within one."""
        for form in self._forms:
            for match in re.finditer(re.escape(form), data):
                yield match.span()
            for length in range(min(len(form) - 1, len(data)), SHORTEST - 1, -1):
                if data.endswith(form[:length]):
                    yield len(data) - length, len(data)
                    break


def _forms(secret: str) -> Iterator[bytes]:
    """Yield what a secret looks like in readings of texts that quote it."""
    for charset in ("utf-8", "latin-1"):
        try:
            data = secret.encode(charset, "surrogateescape")
        except UnicodeEncodeError:
            continue
        # Forms of HTML have a plus for a blank.
        plain = {_BLANK.sub(b"", data), _BLANK.sub(b"", data.replace(b" ", b"+"))}
        forms = [*plain, data.hex().encode()]
        bare = _DECORATION.sub(b"", data)
        if len(bare) > SHORTEST:
            forms.append(bare)
        for before in range(3):  # the bytes in front decide on the letters
            encoded = b64encode(bytes(before) + data)
            # Without the letters that neighbours have a share in.
            whole = encoded.rstrip(b"=")
            inner = whole[(0, 2, 3)[before] : len(whole) - (whole != encoded)]
            forms.append(_DECORATION.sub(b"", inner))
        yield from (form.lower() for form in forms if len(form) >= SHORTEST)
