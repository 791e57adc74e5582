"""The parent's ends of all channels: what workers say, and what they are told."""

from __future__ import annotations

import json
import selectors
import time
from collections.abc import Callable

from authproxy.server.processes.channel import Kind, Message, WorkerLink
from authproxy.server.processes.gathering import Gatherings
from authproxy.server.processes.service_manager import Condition


class WorkerLinks:
    """Links by the pid of their workers."""

    def __init__(
        self, gatherings: Gatherings, fares: Callable[[int, Condition], None], *, wake: int
    ) -> None:
        """`fares` hears how a worker fares; `wake` is a descriptor that ends each wait."""
        self._gatherings = gatherings
        self._fares = fares
        self._links: dict[int, WorkerLink] = {}
        # It has no descriptor of its own, which a fork would share.
        self._selector = selectors.PollSelector()
        self._selector.register(wake, selectors.EVENT_READ)

    def add(self, worker: int, link: WorkerLink) -> None:
        """Listen to a worker."""
        self._links[worker] = link
        self._selector.register(link, selectors.EVENT_READ, worker)

    def wait(self, seconds: float) -> bool:
        """Listen for so long at most; True as soon as something is there to read at `wake`."""
        seconds = min(seconds, self._gatherings.deadline - time.monotonic())
        woken = False
        for key, _ in self._selector.select(max(0.0, seconds)):
            if key.data is None:
                woken = True
            else:
                self._hear(key.data)
        self._answer()
        return woken

    def end(self, worker: int) -> None:
        """Take what a worker has left that has ended."""
        self._hear(worker)
        self._gatherings.end(worker)
        link = self._links.pop(worker)
        if not link.has_ended():
            self._selector.unregister(link)
        link.close()
        self._answer()

    def close(self) -> None:
        """Close all of them, also in a worker: while any is open, its worker's parent lives."""
        for link in self._links.values():
            link.close()

    def _hear(self, worker: int) -> None:
        link = self._links[worker]
        if link.has_ended():
            return
        for message in link.receive():
            if message.kind is Kind.CONDITION:
                self._fares(worker, Condition(*json.loads(message.body)))
            elif message.kind is Kind.REPORT:
                self._gatherings.take(worker, message)
            elif message.kind is Kind.ASK:
                self._ask(worker, message)
        if link.has_ended():
            self._selector.unregister(link)
        else:
            self._send_unsent(link, worker)

    def _ask(self, asker: int, ask: Message) -> None:
        request = self._gatherings.begin(asker, ask, self._links, time.monotonic())
        for worker in self._links:
            self._send(worker, request)

    def _answer(self) -> None:
        for asker, answer in self._gatherings.finished(time.monotonic()):
            if asker in self._links:
                self._send(asker, answer)

    def _send(self, worker: int, message: Message) -> None:
        link = self._links[worker]
        if not link.has_ended():
            link.send(message)
            self._send_unsent(link, worker)

    def _send_unsent(self, link: WorkerLink, worker: int) -> None:
        """Send what goes, and have the rest sent when the worker reads again."""
        link.send_unsent()
        room = selectors.EVENT_WRITE if link.has_unsent else 0
        self._selector.modify(link, selectors.EVENT_READ | room, worker)
