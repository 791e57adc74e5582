"""What all connections of a server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from authproxy.server.hooks import Hooks
from authproxy.server.limits import Timeouts
from authproxy.server.outbox import OutboxStore
from authproxy.server.poller import Poller
from authproxy.server.request_reader import Intake
from authproxy.server.threads import Dispatcher
from authproxy.server.tunnels import Tunnels


@dataclass(frozen=True)
class Shared:
    """The parts of a server that its connections use."""

    timeouts: Timeouts
    hooks: Hooks
    poller: Poller
    intake: Intake
    outboxes: OutboxStore
    dispatcher: Dispatcher
    tunnels: Tunnels
    #: Has the `receive` of a connection called when it is its turn.
    receive_later: Callable[[Any], None]
    #: Removes a closed connection from those that are open.
    forget: Callable[[Any], None]
