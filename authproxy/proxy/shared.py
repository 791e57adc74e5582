"""What several holders have in common, for as long as any of them holds it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Shared(Generic[Thing]):
    """Things by key: made for their first holder, ended with their last. Any thread may call."""

    def __init__(self, end: Callable[[Thing], object]) -> None:
        self._end = end
        self._lock = threading.Lock()
        #: By key: the thing, and how many hold it.
        self._held: dict[Hashable, tuple[Thing, int]] = {}

    @contextmanager
    def hold(self, key: Hashable, make: Callable[[], Thing]) -> Iterator[Thing]:
        """Return a context that holds the thing of this key. Raises what `make` raises."""
        with self._lock:
            if key in self._held:
                thing, holders = self._held[key]
            else:
                thing, holders = make(), 0
            self._held[key] = thing, holders + 1
        try:
            yield thing
        finally:
            self._let_go(key)

    def _let_go(self, key: Hashable) -> None:
        with self._lock:
            thing, holders = self._held.pop(key)
            if holders > 1:
                self._held[key] = thing, holders - 1
                return
        self._end(thing)
