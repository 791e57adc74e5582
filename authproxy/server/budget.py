"""Bounds on the bytes that all connections of a process keep at the same time.

A request body that has begun must be able to end, or bodies that are each half
received would wait for each other without end. So the room for one largest body is
kept free, and given to the one that has waited longest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

#: Less room than this counts as none: a read or two.
_LITTLE_BYTES = 256 * 1024


def no_callback() -> None:
    """In place of a callback of an owner that has closed: no reference keeps it in memory."""


class Pool:
    """Bytes that may be kept; there is room for more, or there is none."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Bytes for which there is room; negative where it was forced."""
        return self._left

    def take(self, size: int) -> bool:
        """Take room for so many bytes, if it is there; never waits."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def force(self, size: int) -> None:
        """Take it in any case; for what is small and must not wait."""
        with self._lock:
            self._left -= size

    def give_back(self, size: int) -> None:
        """Give back what was taken or forced."""
        with self._lock:
            self._left += size


class Budget(Pool):
    """A pool in which accounts can wait for room, the oldest first.

    One that waits is called back when there may be room, from whichever thread made it.
    """

    def __init__(self, limit: int, largest: int) -> None:
        """`largest` is the most that one account may ever hold."""
        super().__init__(limit - largest)
        self._serial = count()
        self._waiting: list[tuple[int, Account]] = []
        #: The account that has the room kept for the one that has waited longest.
        self._favoured: Account | None = None

    def account(self, on_room: Callable[[], None]) -> Account:
        """Return a new account; the sooner it was made, the sooner it gets room."""
        return Account(self, next(self._serial), on_room)

    @property
    def scarce(self) -> bool:
        """Whether an account waits for room, or soon will."""
        with self._lock:
            return self._first_waiting() is not None or self._left < _LITTLE_BYTES

    def give_back(self, size: int) -> None:
        with self._lock:
            self._left += size
            first = self._callable_now()
        if first is not None:
            first.on_room()

    # For accounts.

    def _take(self, account: Account, size: int) -> bool:
        with self._lock:
            if not self._waiting and size <= self._left and self._favoured is not account:
                self._left -= size
                account.bytes += size
                return True
            first = self._first_waiting()
            overtakes = first is not None and first.serial < account.serial
            if self._favoured is account:
                account.favoured_bytes += size
            elif not overtakes and size <= self._left:
                self._left -= size
                account.bytes += size
            elif not overtakes and self._favoured is None:
                self._favoured = account
                account.favoured_bytes += size
            else:
                if account.wanted == 0:
                    heappush(self._waiting, (account.serial, account))
                account.wanted = size
                return False
            if account.wanted == 0:
                return True
            account.wanted = 0
            following = self._callable_now()
        if following is not None:
            following.on_room()
        return True

    def _give_back(self, account: Account, size: int) -> None:
        with self._lock:
            favoured = min(size, account.favoured_bytes)
            account.favoured_bytes -= favoured
            account.bytes -= size - favoured
            self._left += size - favoured
            first = self._callable_now() if self._waiting else None
        if first is not None:
            first.on_room()

    def _close(self, account: Account) -> None:
        with self._lock:
            account.wanted = 0
            self._left += account.bytes
            account.bytes = account.favoured_bytes = 0
            if self._favoured is account:
                self._favoured = None
            first = self._callable_now() if self._waiting else None
        if first is not None:
            first.on_room()

    def _first_waiting(self) -> Account | None:
        while self._waiting and self._waiting[0][1].wanted == 0:
            heappop(self._waiting)
        return self._waiting[0][1] if self._waiting else None

    def _callable_now(self) -> Account | None:
        """Return the first of those that wait, if there is room for it."""
        first = self._first_waiting()
        if first is None:
            return None
        return first if self._favoured is None or first.wanted <= self._left else None


class Account:
    """What one holder has taken of a budget."""

    def __init__(self, budget: Budget, serial: int, on_room: Callable[[], None]) -> None:
        self.serial = serial
        self.on_room = on_room
        self.bytes = 0
        #: Taken of the room that is kept for the one that has waited longest.
        self.favoured_bytes = 0
        #: Bytes that it waits for; 0 if it does not wait.
        self.wanted = 0
        self._budget = budget

    def take(self, size: int) -> bool:
        """Take room for `size` more bytes; where there is none, `on_room` is called later."""
        return self._budget._take(self, size)

    def give_back(self, size: int) -> None:
        """Give back some of it."""
        self._budget._give_back(self, size)

    def close(self) -> None:
        """Give all back, for good. Harmless when repeated."""
        self._budget._close(self)
        self.on_room = no_callback
