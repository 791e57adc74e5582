"""What is known of the settings while the rules between them run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from authproxy.errors import Fault
from authproxy.settings.model import Settings
from authproxy.settings.values import shown


@dataclass(frozen=True)
class Draft:
    """What is known while the rules run.

    `settings` holds what is valid by itself, and defaults for the rest;
    `given` every variable that any source gives; `complete` says that no
    source was unreadable, so that what is not given is really missing.
    `routed` says that there are routes, each with a draft of its own.
    """

    settings: Settings
    given: frozenset[str]
    faulty: frozenset[str]
    environ: Mapping[str, str]
    serving: bool
    complete: bool = True
    routed: bool = False

    def lacks(self, *variables: str) -> bool:
        """Tell whether none of these is given anywhere."""
        return self.complete and not self.given.intersection(variables)

    def gives(self, *variables: str) -> bool:
        """Tell whether all of these are given."""
        return self.given.issuperset(variables)

    def value(self, variable: str) -> str | None:
        """Return the value of a setting that is no secret, as text."""
        value = getattr(self.settings, variable.lower())
        return None if value is None else shown(value)


#: Yields the faults that it finds.
Rule = Callable[[Draft], Iterator[Fault]]
