"""Settings as an object: the values that are given, and the defaults of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, ClassVar, TypeVar

from authproxy.errors import Fault
from authproxy.files.secret import read_secret
from authproxy.redaction import MASK
from authproxy.settings.declaration import Derived, Group, OneOf, Rule, Setting
from authproxy.settings.kinds import FilePath, SecretText

SomeSettings = TypeVar("SomeSettings", bound="Declared")


class Declared:
    """Values of the settings that a subclass declares for a group. They cannot be changed."""

    #: The settings by variable, in the order of the documents.
    declared: ClassVar[Mapping[str, Setting[Any]]] = {}
    alternatives: ClassVar[tuple[OneOf[Any], ...]] = ()
    #: The sets of settings of which a route has no other if it has one of its own.
    exclusive: ClassVar[tuple[frozenset[str], ...]] = ()
    rules: ClassVar[tuple[Rule, ...]] = ()

    def __init_subclass__(cls, group: Group | None = None) -> None:
        for one in [each for each in vars(cls).values() if isinstance(each, Setting)]:
            assert group is not None
            one.group = group
            if isinstance(one.kind, SecretText):
                one.file = _file_of(one)
                setattr(cls, one.file.name, one.file)
        attributes = [one for each in reversed(cls.__mro__) for one in vars(each).values()]
        settings = list(
            chain(*(chain(*one.forms) for one in attributes if isinstance(one, Setting)))
        )
        settings.sort(key=lambda one: list(Group).index(one.group))
        cls.declared = {one.variable: one for one in settings}
        cls.alternatives = tuple(one for one in attributes if isinstance(one, OneOf))
        cls.rules = tuple(one for one in attributes if isinstance(one, Rule))
        forms = [form for one in settings for form in one.forms]
        forms += [tuple(chain(*each.forms)) for each in cls.alternatives]
        cls.exclusive = tuple(
            frozenset(one.variable for one in form) for form in forms if len(form) > 1
        )

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        """Hold these values, by attribute."""
        self.__dict__.update(values or {})

    @classmethod
    def read(cls: type[SomeSettings], given: Mapping[str, Any]) -> tuple[SomeSettings, list[Fault]]:
        """Return what is valid by itself of what is given, by variable, and the faults of the rest.

        What is given is text, or a list or pairs from the settings file; none of it is empty.
        """
        values: dict[str, Any] = {}
        faults = []
        for variable, one in cls.declared.items():
            if variable in given:
                try:
                    values[one.name] = one.kind.read(given[variable])
                except ValueError as error:
                    shown = MASK if one.kind.secret else _without_user(given[variable])
                    faults.append(Fault(variable, shown, str(error), one.kind.hint_for(error)))
        return cls(values), faults

    @classmethod
    def requirement(cls, one: Setting[Any]) -> str:
        """Return when a setting is required, such as `required, unless OTHER`; usually nothing."""
        if one.required is not None:
            return f"required with {one.required}"
        for each in cls.alternatives:
            if each.required and not each.required.where and each.members[0] is one:
                return f"required, unless {' or '.join(o.variable for o in each.members[1:])}"
        return ""

    @classmethod
    def unset(cls, one: Setting[Any]) -> str:
        """Return, in words, what holds where a setting without a literal default is unset."""
        words = str(one.default) if isinstance(one.default, Derived) else one.unset
        return cls.requirement(one) or words

    @classmethod
    def default_note(cls, one: Setting[Any]) -> str:
        """Return a remark such as `default: 5`, or when a setting is required; or nothing."""
        default = one.literal or cls.unset(one)
        return f"default: {default}" if default and not cls.requirement(one) else default

    @classmethod
    def fixed_variables(cls) -> frozenset[str]:
        """Return the settings that hold for a process as long as it lives, whatever is reloaded."""
        return frozenset(
            variable
            for variable, one in cls.declared.items()
            if not one.per_route and not one.reloaded
        )

    def effective(self) -> dict[str, str]:
        """Return what is in force, by variable: as text, empty where unset, secrets masked."""
        return {variable: one.shown(self) for variable, one in self.declared.items()}

    def values_of(self, group: Group) -> tuple[object, ...]:
        """Return the values in force of a group's settings."""
        return tuple(one.value(self) for one in self.declared.values() if one.group is group)

    def given(self, variables: Iterable[str]) -> dict[str, Any]:
        """Return the values of these settings that are no defaults, by attribute."""
        names = [self.declared[variable].name for variable in variables]
        return {name: vars(self)[name] for name in names if name in vars(self)}

    def replace(self: SomeSettings, **changes: Any) -> SomeSettings:
        """Return a copy with other values, by attribute."""
        return type(self)({**vars(self), **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: settings cannot be changed")

    def __repr__(self) -> str:
        given = (
            f"{variable}={one.shown(self)!r}"
            for variable, one in self.declared.items()
            if one.name in vars(self)
        )
        return f"{type(self).__name__}({', '.join(given)})"


def _file_of(secret: Setting[Any]) -> Setting[Any]:
    """Return the setting X_FILE of a secret X."""
    kind = FilePath(read_secret, private=True)
    doc = f"File that holds {secret.variable}."
    one = Setting(kind, None, doc, reloaded=secret.reloaded, chart_key=secret.chart_key)
    one.name, one.group = f"{secret.name}_file", secret.group
    return one


def _without_user(given: object) -> str | None:
    """Return a faulty value for a message, without the user information of a URL."""
    if not isinstance(given, str):
        return None
    before, at, host = given.rpartition("@")
    if not at:
        return given
    scheme, separator, _ = before.partition("://")
    return f"{scheme}{separator}{MASK}@{host}" if separator else f"{MASK}@{host}"
