"""Pure rules: what a raw path could be taken for behind the proxy.

Facts. What serves a path in the end, and whatever stands before it there:

- decodes `%41`, also more than once; `%u0041` (IIS); UTF-8, also where it is longer than need be;
- takes a backslash for a slash (IIS, URL parsers), and `//h/x` for `/x` of a host h (URL parsers);
- merges slashes (nginx, Apache httpd), and resolves dot segments however they are written;
- cuts a segment at `;` (Java servlets) or at `::$DATA` (NTFS), and strips blanks from both its ends
  and dots from its end (Windows);
- ends the path at a NUL, a line end, a decoded `?` or `#`, or drops them, and bytes that encode
  nothing;
- drops all that is beyond ASCII, or takes it for the ASCII characters that it looks like (NFKC,
  best fit of Windows' code pages);
- and compares without regard to case (IIS, Kestrel's routing).

What follows. Any program may do any of this, in any order, also again, so that there are too many
readings of a path to list. But nearly all of it can be done to its end, and leads every reading to
the same text. Only what may be dropped or end the path cannot: it stays there as `MAYBE`. A prefix
that some reading begins with is found in that text by its `spelling`.

Not among the facts: programs that compare prefixes beyond a segment's end (nginx's
`location /secret` serves `/secretly` too), that ignore a suffix (`/secret.json`), or that know
abbreviations (`/SECRET~1`). These are other paths.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

#: A character that some drop and that ends the path for others.
MAYBE = "\0"

_ODDITIES = (
    ("a backslash", re.compile(r"\\")),
    ("a `;`", re.compile(";")),
    ("an empty segment (`//`)", re.compile("//")),
    ("a control character", re.compile(r"[\x00-\x1f\x7f]|%(?:[01][0-9A-Fa-f]|7[Ff])")),
    ("a character beyond ASCII", re.compile(r"[^\x00-\x7f]|%[89A-Fa-f][0-9A-Fa-f]")),
    (
        # They become separators when decoded, and `%25` the beginning of another encoding.
        "an encoded slash, backslash, dot, percent sign, `;`, `?` or `#`",
        re.compile("%(?:2[Ff]|5[Cc]|2[Ee]|25|3[Bb]|3[Ff]|23)"),
    ),
    ("a `%` that encodes nothing", re.compile("%(?![0-9A-Fa-f]{2})")),
    # RFC 3986 section 3.3, without what is named above.
    ("a character that must be encoded", re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@%/]")),
    ("a segment of dots or blanks alone", re.compile(r"(?:\A|/)(?:\.|%20)+(?=/|\Z)")),
    ("a dot or blank at a segment's end", re.compile(r"(?:\.|%20)(?=/|\Z)")),
    ("a blank at a segment's beginning", re.compile("/%20")),
    ("`::` or `:$`", re.compile("(?::|%3[Aa])(?:[:$]|%3[Aa]|%24)")),
)

#: What a `%` may stand before, where `MAYBE` can be dropped: two digits, or `u` and four.
_HEX = f"{MAYBE}?([0-9A-Fa-f])"
_ENCODED = re.compile(f"{_HEX * 2}|{MAYBE}?[Uu]{_HEX * 4}")
_LONGEST_ENCODED = 10

#: The same for two digits and nothing between, by what they are from right to left.
_DIGITS = "0123456789ABCDEFabcdef"
_BYTES = {low + high: chr(int(high + low, 16)) for high in _DIGITS for low in _DIGITS}

#: The bytes that follow the first one of a character in UTF-8, by how many there are.
_FOLLOWING = [re.compile(f"{MAYBE}?([\x80-\xbf])" * count) for count in range(4)]

#: What `_Decoded` looks at; the rest of a path it takes over as it is.
_SPECIAL = re.compile("(%+|[?#\x00-\x1f\x7f-\xff])")
_DROPPED = re.compile(f"[{MAYBE}\x80-\xff]+")

#: Best fits of Windows' code pages 1252, 932 and 949 that are not in NFKC.
_BEST_FIT = str.maketrans(
    {"\u2044": "/", "\u2215": "/", "\u2216": "\\", "\xa5": "\\", "\u20a9": "\\"}
)
_NOT_PRINTABLE = re.compile("[^ -~]+")

_PARAMETERS = re.compile(f"(?:;|:{MAYBE}?[:$])[^/]*")
_DOT_SEGMENT = re.compile(rf"(?:\A|/)[ {MAYBE}]*\.[ .]*(?=[{MAYBE}/;]|:{MAYBE}?[:$]|\Z)")


def oddity(path: str) -> str | None:
    """Return what makes a raw path readable in more than one way; None if nothing does.

    A path without one means the same to all, but for case and for characters that are encoded
    without need (`%41`).
    """
    return next((what for what, pattern in _ODDITIES if pattern.search(path)), None)


@dataclass(frozen=True)
class Readings:
    """What a path could be taken for.

    `climbs`: one with a segment of dots. Where it is false, each reading begins with a prefix of
    whole segments only if the prefix's `spelling` matches one of `texts`.
    """

    climbs: bool
    texts: tuple[str, ...]


def readings_of(path: str) -> Readings:
    """Return what a raw path could be taken for, in time that grows with its length."""
    if "%" not in path and oddity(path) is None:
        return Readings(False, (path,))
    decoded = [_Decoded(path, look_alikes=True)]
    if decoded[0].beyond_ascii:
        decoded.append(_Decoded(path, look_alikes=False))
    texts = [each.text.replace("\\", "/") for each in decoded]
    climbs = any(_DOT_SEGMENT.search(text) for text in texts)
    return Readings(climbs, tuple(plainest for text in texts for plainest in _plainest(text)))


def spelling(prefix: str) -> re.Pattern[str]:
    """Return what matches the texts of `Readings` that can be read as this prefix or below it.

    The prefix consists of whole segments, has no oddity and no `%`.
    """
    letters = f"{MAYBE}?".join(map(re.escape, prefix))
    return re.compile(rf"{letters}(?:[ .]*{MAYBE}|/|\Z)", re.IGNORECASE)


def _plainest(text: str) -> Iterator[str]:
    """Yield a decoded path as it is when nothing is left to be done to its segments.

    And where it begins with two slashes, what is left if the first segment is taken for a host.
    """
    segments = [
        segment.lstrip(f" {MAYBE}").rstrip(f" .{MAYBE}")
        for segment in _PARAMETERS.sub("", text).split("/")
    ]
    names = [segment for segment in segments if segment]
    yield f"/{'/'.join(names)}"
    if not any(segments[:2]):
        yield f"/{'/'.join(names[1:])}"


class _Decoded:
    """A path with nothing left in it to decode.

    What is beyond ASCII becomes what it looks like, or else `MAYBE`. It goes from right to left:
    what an encoding begins before has been decoded then, so that one pass is enough however often
    a character was encoded, and takes as many steps as the path has characters.
    """

    def __init__(self, path: str, *, look_alikes: bool) -> None:
        self.beyond_ascii = False
        self._look_alikes = look_alikes
        self._done: list[str] = []  # from right to left
        if not look_alikes:
            path = _DROPPED.sub(MAYBE, path)
        for piece in reversed(_SPECIAL.split(path)):
            if _SPECIAL.match(piece):
                self._put(piece)
            else:
                self._done.extend(reversed(piece))
        self.text = _DROPPED.sub(MAYBE, "".join(reversed(self._done)))

    def _put(self, chars: str) -> None:
        """Put characters in front, or what they encode together with those behind them."""
        done, pending = self._done, list(chars)
        while pending:
            char = pending.pop()
            while char == "%" and (byte := _BYTES.get("".join(done[-2:]))):
                del done[-2:]
                char = byte
            if char == "%":
                text = self._escaped()
                while not text and pending[-1:] == ["%"]:
                    pending.pop()  # nor does that encode anything
                pending.extend(text or MAYBE)
            elif char >= "\x80":
                self.beyond_ascii = True
                if not self._look_alikes:
                    pending.append(MAYBE)
                elif char >= "\xc0":
                    pending.extend(self._spelled(char))
                else:
                    done.append(char)  # the first byte of it is still to come
            elif " " <= char < "\x7f" and char not in "?#":
                done.append(char)
            elif done[-1:] != [MAYBE]:
                done.append(MAYBE)

    def _escaped(self) -> str:
        """Take what a `%` encodes together with those behind it, if anything."""
        parts = self._take(_ENCODED)
        if not parts:
            return ""
        maybe, *digits = parts
        code = int("".join(digits), 16)
        if len(digits) == 4 and code >= 0x80:
            self.beyond_ascii = True
            return maybe + (_look_alike(code) if self._look_alikes else MAYBE)
        return maybe + chr(code)

    def _spelled(self, first: str) -> str:
        """Take what the first byte of a character in UTF-8 encodes together with those behind it.

        It may be longer than need be: careless decoders take C0 AF for a slash.
        """
        following = 1 if first < "\xe0" else 2 if first < "\xf0" else 3
        parts = self._take(_FOLLOWING[following]) if first < "\xf8" else None
        if not parts:
            return MAYBE
        maybe, *rest = parts
        code = ord(first) & (0x3F >> following)
        for byte in rest:
            code = code << 6 | ord(byte) & 0x3F
        return maybe + _look_alike(code)

    def _take(self, pattern: re.Pattern[str]) -> list[str]:
        """Take away the characters behind that fit a pattern; return its groups.

        Before them stands `MAYBE` if it was among those characters, else nothing.
        """
        behind = "".join(self._done[: -_LONGEST_ENCODED - 1 : -1])
        found = pattern.match(behind)
        if found is None:
            return []
        del self._done[len(self._done) - found.end() :]
        return [MAYBE if MAYBE in found[0] else "", *(part for part in found.groups() if part)]


def _look_alike(code: int) -> str:
    """Return the printable ASCII characters that a character could be taken for."""
    if code > 0x10FFFF:
        return MAYBE
    text = unicodedata.normalize("NFKD", chr(code).upper()).translate(_BEST_FIT)
    return _NOT_PRINTABLE.sub("", text) or MAYBE
