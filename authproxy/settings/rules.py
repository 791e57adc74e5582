"""Faults between settings, and of files that they name, by their declarations.

Rules see the values that are valid by themselves; what is wrong already counts
as given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from authproxy.errors import Fault
from authproxy.settings.declaration import OneOf, Required, Setting, Source
from authproxy.settings.declared import Declared
from authproxy.settings.kinds import FilePath
from authproxy.settings.socket_activation import passed_descriptors


@dataclass(frozen=True)
class Draft:
    """What is known while the rules run.

    `settings` holds what is valid by itself, and defaults for the rest;
    `given` every variable that any source gives; `complete` says that no
    source was unreadable, so that what is not given is really missing.
    `routed` says that there are routes, each with a draft of its own.
    """

    settings: Declared
    given: frozenset[str]
    #: Where values come from, as `Loaded` has it.
    origins: Mapping[str, str]
    faulty: frozenset[str]
    environ: Mapping[str, str]
    serving: bool
    complete: bool = True
    routed: bool = False

    def gives(self, one: Setting[Any]) -> bool:
        """Tell whether a setting is given."""
        return one.variable in self.given

    def lacks(self, of: Source[Any]) -> bool:
        """Tell whether a setting, or each of several, is given nowhere, not even by its file."""
        return self.complete and not any(map(self.gives, chain(*of.forms)))

    @property
    def has_sockets(self) -> bool:
        """Whether a service manager passed the sockets to listen on."""
        return self.serving and bool(passed_descriptors(self.environ))

    def fault(self, one: Setting[Any], problem: str, hint: str) -> Fault:
        """Return a fault of a setting, with the value that is given, if any."""
        shown = one.shown(self.settings) if self.gives(one) else ""
        return Fault(one.variable, shown or None, problem, hint)


def from_elsewhere(variable: str, origins: Mapping[str, str]) -> str:
    """Return where a value comes from, in brackets, unless it is where its name suggests."""
    origin = origins.get(variable, "")
    if origin in ("", "default", "option", "environment"):
        return ""
    return f" (from {'the settings file' if origin == 'file' else origin})"


def faults_between(draft: Draft, *, of_routes: bool) -> list[Fault]:
    """Return the faults of what holds for each route, or of what holds for the process.

    What is faulty by itself has none besides.
    """
    found = [
        fault
        for one in draft.settings.declared.values()
        if one.per_route is of_routes
        for check in (_required, _needed, _value_or_file, _usable_file)
        for fault in check(one, draft)
    ]
    for each in draft.settings.alternatives:
        if each.members[0].per_route is of_routes:
            found += _one_of(each, draft)
    for rule in draft.settings.rules:
        if rule.per_route is of_routes:
            found += rule.check(draft.settings, draft)
    if not of_routes:
        found += _only_within_routes(draft)
    return [fault for fault in found if fault.setting not in draft.faulty]


def _met(need: Required, draft: Draft) -> str:
    """Return what meets a condition, empty where nothing does."""
    for one in need.where.members if need.where else ():
        if need.values and one.value(draft.settings) in need.values:
            return f"{one.variable}={one.shown(draft.settings)}"
        if not need.values and draft.gives(one):
            return one.variable
    return ""


def _required(one: Setting[Any], draft: Draft) -> Iterator[Fault]:
    if one.required and draft.lacks(one) and (met := _met(one.required, draft)):
        also = f" ({' or '.join(one.also)} will do as well)" if one.also else ""
        yield draft.fault(one, f"it is required with {met}", f"{one.required.hint}{also}.")


def _needed(one: Setting[Any], draft: Draft) -> Iterator[Fault]:
    if one.needs and draft.gives(one) and draft.lacks(one.needs):
        names = [each.variable for each in one.needs.members]
        problem = f"neither {' nor '.join(names)}" if len(names) > 1 else f"no {names[0]}"
        yield draft.fault(one, f"there is {problem}", f"Set {one.needs}, or leave it out.")


def _value_or_file(one: Setting[Any], draft: Draft) -> Iterator[Fault]:
    if one.file and draft.gives(one) and draft.gives(one.file):
        hint = "Keep one of them; the file is the safer one."
        yield draft.fault(one.file, f"it is set besides {one.variable}", hint)


def _usable_file(one: Setting[Any], draft: Draft) -> Iterator[Fault]:
    path = one.value(draft.settings)
    if isinstance(one.kind, FilePath) and one.kind.check and path is not None:
        try:
            one.kind.check(path)
        except ValueError as error:
            yield draft.fault(one, str(error), one.kind.hint_for(error))


def _one_of(each: OneOf[Any], draft: Draft) -> Iterator[Fault]:
    if need := each.required:
        met = _met(need, draft)
        if need.where and not met:
            return
        if need.to_serve and draft.has_sockets:
            return  # they take the place of all
        if draft.lacks(each) and (draft.serving or not need.to_serve):
            problem = f"it is required{met and f' with {met}'}: {need.because}"
            yield draft.fault(each.members[0], problem, f"{need.hint}.")
    given = [one for form in each.forms if (one := next(filter(draft.gives, form), None))]
    for later in given[1:]:
        earlier, origins = given[0].variable, draft.origins
        same = origins.get(earlier) == origins.get(later.variable)
        where = "" if same else from_elsewhere(earlier, origins)
        yield draft.fault(later, f"it is set besides {earlier}{where}", each.hint)


def _only_within_routes(draft: Draft) -> Iterator[Fault]:
    """Where there are routes, what none inherits leads nowhere outside of them."""
    for one in draft.settings.declared.values():
        if draft.routed and one.per_route and not one.inherited and draft.gives(one):
            yield draft.fault(
                one,
                "it is set besides routes, of which each has its own",
                "Remove it, or move it into a route; one with `path: /` takes what is left.",
            )
