"""What a server asks of the application that it serves, besides its responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from authproxy.server.refusals import Refusal, RefusedRequest

#: Judges a request that has a body to come by its head, which is as in a WSGI
#: environment. Returns what the application is to find in its environment besides, or
#: why the request is turned away: its body is then neither waited for nor kept.
AdmitHead = Callable[[Mapping[str, Any]], Mapping[str, object] | Refusal]


def _nothing(*_: object) -> None:
    """The default of hooks that report."""


def _unknown(_: Exception) -> Refusal | None:
    return None


@dataclass(frozen=True)
class Hooks:
    """Called by the server. None of them may wait: most run in its main loop."""

    admit_head: AdmitHead | None = None

    #: A request was turned away by the server itself, not by `admit_head`.
    on_refused: Callable[[RefusedRequest], None] = _nothing

    #: Whether this method and request target are a probe's: served in any case,
    #: by a thread that never waits for a target or a client.
    is_probe: Callable[[str, str], bool] | None = None

    #: What a client gets for an error that the application raised on purpose; None: it
    #: is a bug.
    refusal_of: Callable[[Exception], Refusal | None] = _unknown

    #: The end was asked for; the grace for requests is over.
    begin_drain: Callable[[], None] = _nothing
    refuse: Callable[[], None] = _nothing

    #: Called about once a second.
    periodic: tuple[Callable[[], None], ...] = ()
