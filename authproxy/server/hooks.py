"""The hooks through which a server calls its application, besides WSGI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authproxy.server.refusals import Refusal, RefusedRequest

#: Decides on a request with a body by its head, given as in a WSGI environment, before
#: the body is received. Returns additions to the application's environment, or a refusal:
#: the body is then neither waited for nor kept.
AdmitHead = Callable[[Mapping[str, Any]], Mapping[str, object] | Refusal]


def _nothing(*_: object) -> None:
    """The default of hooks that report."""


@dataclass(frozen=True)
class Hooks:
    """Called by the server. None of them may wait: most run in its main loop."""

    admit_head: AdmitHead | None = None

    #: The server itself has refused a request; not called for `admit_head`.
    on_refused: Callable[[RefusedRequest], None] = _nothing

    #: Fields of a request were dropped as their names have underscores: the names, and the
    #: client's address.
    on_dropped: Callable[[Sequence[str], str], None] = _nothing

    #: Whether a method and request target are a probe's, which a thread serves that never
    #: waits for a target or a client.
    is_probe: Callable[[str, str], bool] | None = None

    #: A stop was requested; the grace for requests is over.
    begin_drain: Callable[[], None] = _nothing
    refuse: Callable[[], None] = _nothing

    #: Called about once a second.
    periodic: tuple[Callable[[], None], ...] = ()
