"""The vocabulary in which settings are declared: each once, with all that is true of it.

How values are read and judged, the options of commands, the documents and the
chart's values all follow from these declarations, which are attributes of the
classes that keep settings (`authproxy.settings.declared`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar, overload

from authproxy.errors import Fault
from authproxy.settings.kinds import Kind

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")


class Group(Enum):
    """What settings are about, in the order of the documents.

    `per_route`: each route may have its own; the others are those of the process.
    """

    TARGET = "Where requests go", True
    IDENTITY = "Which identity", True
    SERVING = "Listening and serving", False
    ADMISSION = "Who and what may come in", True
    LIMITS = "Limits and shutdown", False
    HEADERS = "What is sent", True
    LOGS = "Logs", False
    TELEMETRY = "Telemetry", False
    #: No settings, but the keys that a route has besides.
    MATCH = "Which requests take the route", True

    def __init__(self, title: str, per_route: bool) -> None:
        self.title = title
        self.per_route = per_route


class Source(Generic[T_co]):
    """What defaults and conditions depend on: a setting, or several of which one is given."""

    members: tuple[Setting[Any], ...]

    @property
    def forms(self) -> tuple[tuple[Setting[Any], ...], ...]:
        """The members, each with its file if it has one."""
        return tuple((one, one.file) if one.file else (one,) for one in self.members)

    def chosen(self, settings: object) -> Setting[Any] | None:
        """Return the first that has a value."""
        return next((one for one in self.members if one.value(settings) is not None), None)

    def __str__(self) -> str:
        return " or ".join(one.variable for one in self.members)


@dataclass(frozen=True)
class Derived:
    """A default that `make` makes of the value of `of`; None where that has none."""

    of: Source[Any]
    make: Callable[[Any], Any]
    words: str

    def __str__(self) -> str:
        return self.words or str(self.of)

    def value(self, settings: object) -> Any:
        chosen = self.of.chosen(settings)
        return None if chosen is None else self.make(chosen.value(settings))


def derived(of: Source[T | None], make: Callable[[T], D], words: str = "") -> D:
    """Declare a default that another setting decides; `words` describe it in documents."""
    default: Any = Derived(of, make, words)
    return default  # type: ignore[no-any-return]  # the type is that of the attribute's value


@dataclass(frozen=True)
class Required:
    """A setting must be given; `hint` is how.

    With `where`, only if that is given; with `values` too, only if it has one of these.
    """

    hint: str
    where: Source[Any] | None = None
    values: tuple[str, ...] = ()
    because: str = ""
    #: Whether only a process that serves needs it.
    to_serve: bool = False

    def __str__(self) -> str:
        """Return the condition in words."""
        return f"{self.where}={' or '.join(self.values)}" if self.values else str(self.where)


@dataclass(eq=False)
class Setting(Source[T]):
    """One setting; its variable is the attribute's name in capitals.

    As an attribute of settings it is the value that is given there, or else the default.
    """

    kind: Kind[T]
    #: None where the setting may be unset.
    default: T
    doc: str
    #: What holds where it is unset, in words.
    unset: str = ""
    #: Variables of other programs, read in this order where the setting is given nowhere.
    also: tuple[str, ...] = ()
    #: It has no effect unless this is given.
    needs: Source[Any] | None = None
    required: Required | None = None
    #: Whether a route without a value of its own has the one outside of it.
    inherited: bool = True
    #: Whether a reload changes it, though routes have none of their own.
    reloaded: bool = False
    #: Only `authproxy serve` uses it; under other WSGI servers it has no effect.
    only_serve: bool = False
    #: The chart's default where the program has none.
    chart_default: str = ""
    #: The chart's value with the key of this file in a Secret, such as `clientSecret.key`.
    chart_key: str = ""

    #: By the class that it is declared in.
    name: str = field(init=False)
    group: Group = field(init=False)
    #: Of a secret X, the setting X_FILE.
    file: Setting[Any] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.members = (self,)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> Any:
        # Called only without a value, as values are in the instance's __dict__.
        if instance is None:
            return self
        return self.default.value(instance) if isinstance(self.default, Derived) else self.default

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return self.name.upper()

    @property
    def option(self) -> str:
        """The name on the command line, which secrets have not: there, every user can see them."""
        return "" if self.kind.secret else f"--{self.name.replace('_', '-')}"

    @property
    def per_route(self) -> bool:
        """Whether each route may have its own."""
        return self.group.per_route

    @property
    def literal(self) -> str:
        """The default as text; empty where there is none, or another setting decides."""
        if self.default is None or isinstance(self.default, Derived):
            return ""
        return self.kind.show(self.default)

    def stripped(self, given: Any) -> Any:
        """Return what is given without the blanks around it, None where nothing is left.

        Charts render what is not set as an empty text. A secret keeps its blanks.
        """
        if isinstance(given, str) and not self.kind.secret:
            given = given.strip()
        return None if given == "" else given

    def value(self, settings: object) -> T:
        """Return the value in force."""
        value: T = getattr(settings, self.name)
        return value

    def shown(self, settings: object) -> str:
        """Return the value in force as text: empty where there is none, secrets masked."""
        value = self.value(settings)
        return "" if value is None else self.kind.show(value)


class OneOf(Source[T]):
    """Settings of which one can be given; in a route, one of its own displaces the others.

    `hint` is for a later one that is given besides an earlier one. If one is
    `required`, it is the first that lacks otherwise; a condition of that is one of the whole rule.
    """

    def __init__(
        self,
        *members: Setting[T],
        hint: str = "Keep one of them.",
        required: Required | None = None,
    ) -> None:
        self.members = members
        self.hint = hint
        self.required = required


@dataclass(frozen=True)
class Rule:
    """Any other rule between settings: yields the faults that a draft of them has."""

    check: Callable[[Any, Any], Iterator[Fault]]
    per_route: bool


def rule(*, per_route: bool) -> Callable[[Callable[[Any, Any], Iterator[Fault]]], Rule]:
    """Declare a method, which is given a `rules.Draft`, as a rule for each route or the process."""
    return lambda check: Rule(check, per_route)
