"""What both stand-ins have in common: their listeners."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response

if TYPE_CHECKING:
    from typing_extensions import Self


class StandIn:
    """Some listeners, which open and close together."""

    def __init__(self) -> None:
        self._listeners: list[LoopbackServer] = []

    def listen(
        self,
        respond: Callable[[Request], Response],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> LoopbackServer:
        """Add a listener for `start` to open."""
        listener = LoopbackServer(respond, port=port, tls=tls)
        self._listeners.append(listener)
        return listener

    def start(self) -> Self:
        """Open the listeners, on the same ports as before. Raises PortInUse."""
        try:
            for listener in self._listeners:
                listener.start()
        except OSError:
            self.stop()
            raise
        return self

    def shut(self) -> None:
        """Close the listeners, and end every connection."""
        for listener in self._listeners:
            listener.shut()

    def stop(self) -> None:
        """Do as `shut`, and wait for the threads of the connections."""
        self.shut()
        for listener in self._listeners:
            listener.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
