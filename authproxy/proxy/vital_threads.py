"""The daemon threads that a process cannot do without: /health is 503 when one has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable


class VitalThreads:
    """The vital threads of one application, by name. Any thread may call."""

    def __init__(self) -> None:
        self._alive: dict[str, Callable[[], bool]] = {}

    def watch(self, name: str, alive: Callable[[], bool]) -> None:
        """Have a thread watched; `alive` says whether it runs in this process, at once."""
        self._alive[name] = alive

    def forget(self, name: str) -> None:
        """Watch it no longer: it is about to end as it should."""
        self._alive.pop(name, None)

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Start a daemon thread of this name that is not to end, and watch it."""
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self.watch(name, thread.is_alive)

    @property
    def ended(self) -> list[str]:
        """The names of those that do not run, though they should."""
        return [name for name, alive in list(self._alive.items()) if not alive()]
