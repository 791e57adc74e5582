"""What a setting takes: how it is read, described, and shown without its secrets."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from authproxy.errors import Unusable
from authproxy.files.secret import Secret, one_line
from authproxy.redaction import MASK

T_co = TypeVar("T_co", covariant=True)
W = TypeVar("W", bound=str)

_WHOLE = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*(?:\.0*)?")
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


class Pairs(list[tuple[str, Any]]):
    """A JSON object or YAML mapping as it was written, repeated names and all."""


class Kind(ABC, Generic[T_co]):
    """What a setting takes, and its value for what is given.

    Problems are ValueErrors with a sentence about the value that quotes no secret.
    """

    #: Whether values are masked wherever they are shown.
    secret = False
    #: Values that a shell can offer, and whether it can offer files.
    words: tuple[str, ...] = ()
    names_file = False
    #: What to give, for documents; empty where any text will do.
    takes = ""
    #: What to do about a problem, where `takes` does not have it.
    hint = ""

    def read(self, given: object) -> T_co:
        """Return the value for text, or for what else the settings file has."""
        if not isinstance(given, str):
            raise ValueError("it is a list or a mapping, not one value")
        return self.parse(given)

    @abstractmethod
    def parse(self, text: str) -> T_co:
        """Return the value for a text."""

    def show(self, value: Any) -> str:
        """Return a value as text, without what is secret."""
        return str(value)

    def hint_for(self, problem: ValueError) -> str:
        """Return what to do about a problem."""
        own = problem.hint if isinstance(problem, Unusable) else ""
        return own or self.hint or f"Give {self.takes or 'one text'}."


class Text(Kind[str]):
    """One line of text; `rule` returns what is made of it."""

    def __init__(self, rule: Callable[[str], str] = str, hint: str = "") -> None:
        self._rule = rule
        self.hint = hint

    def parse(self, text: str) -> str:
        if not text.isprintable():
            raise Unusable(
                "it holds control characters or bytes that are not UTF-8",
                "Type it again, on one line.",
            )
        return self._rule(text)


class FilePath(Text):
    """The path of a file. A `private` one holds a secret, which others must not read.

    `check` raises ValueError for a file that cannot be used; it is called when all
    settings are known.
    """

    names_file = True

    def __init__(
        self,
        check: Callable[[str], object] | None = None,
        hint: str = "",
        *,
        private: bool = False,
    ) -> None:
        super().__init__(hint=hint)
        self.check = check
        self.private = private


class SecretText(Kind[Secret]):
    """A secret on one line. Where there is a setting X of this kind, there is X_FILE."""

    secret = True

    def parse(self, text: str) -> Secret:
        return Secret(one_line(text))

    def show(self, value: Any) -> str:
        return MASK


class Word(Kind[W]):
    """One of some words, in any case; `also` has other spellings."""

    def __init__(self, *words: W, also: Mapping[str, W] | None = None) -> None:
        self.words = words
        self.takes = f"one of: {', '.join(words)}"
        self._known: dict[str, W] = {**dict(zip(words, words, strict=True)), **(also or {})}

    def parse(self, text: str) -> W:
        word = self._known.get(text.lower())
        if word is None:
            raise ValueError("it is none of the known values")
        return word


class Flag(Kind[bool]):
    """True or false, as people write it."""

    words = ("true", "false")
    takes = "true or false"

    def parse(self, text: str) -> bool:
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError("it is neither true nor false")
        return text.lower() in _TRUE

    def show(self, value: Any) -> str:
        return str(value).lower()


class Presence(Flag):
    """True where it is set at all, whatever to."""

    def parse(self, text: str) -> bool:
        return True


class Integer(Kind[int]):
    """A whole number within bounds; of a `unit` in the plural, if it has one."""

    def __init__(self, least: int, most: int, unit: str = "") -> None:
        self.least, self.most = least, most
        self.takes = f"a whole number{unit and f' of {unit}'} from {least} to {most}"

    def parse(self, text: str) -> int:
        try:
            number = int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else None
        except ValueError:  # more digits than Python reads
            number = None
        if number is None:
            raise ValueError("it is not a whole number")
        if not self.least <= number <= self.most:
            raise ValueError("it is out of range")
        return number


class Number(Kind[float]):
    """A number within bounds, of a `unit` in the plural; without `least`, 0 itself is out."""

    def __init__(self, unit: str, *, least: float | None = None, most: float) -> None:
        self.least, self.most = least, most
        bounds = f"above 0, up to {most:g}" if least is None else f"from {least:g} to {most:g}"
        self.takes = f"a number of {unit} {bounds}"

    def parse(self, text: str) -> float:
        try:
            number = float(text if text.isascii() else "")
        except ValueError:
            raise ValueError("it is not a number") from None
        if not math.isfinite(number):
            raise ValueError("it is not a finite number")
        too_little = number <= 0 if self.least is None else number < self.least
        if too_little or number > self.most:
            raise ValueError("it is out of range")
        return number

    def show(self, value: Any) -> str:
        return f"{value:g}"


class CommaList(Kind[tuple[str, ...]]):
    """Texts between commas, or a list in the settings file; `rule` returns what is made of them."""

    def __init__(self, rule: Callable[[tuple[str, ...]], tuple[str, ...]], hint: str = "") -> None:
        self._rule = rule
        self.hint = hint

    def read(self, given: object) -> tuple[str, ...]:
        if isinstance(given, list) and not isinstance(given, Pairs):
            return self._members(given)
        return super().read(given)

    def parse(self, text: str) -> tuple[str, ...]:
        return self._members(text.split(","))

    def _members(self, given: list[Any]) -> tuple[str, ...]:
        members = [each.strip() if isinstance(each, str) else each for each in given]
        if not members or not all(members):
            hint = "Put one comma between two members, none else."
            raise Unusable("it has an empty member", hint)
        return self._rule(tuple(map(Text().read, members)))

    def show(self, value: Any) -> str:
        return ",".join(value)
