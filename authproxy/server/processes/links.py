"""The parent's ends of all channels."""

from __future__ import annotations

import json
import selectors
import time
from collections.abc import Callable

from authproxy.server.processes.channel import Kind, Message, WorkerLink
from authproxy.server.processes.gathering import Gatherings
from authproxy.server.processes.supervision import Health


class WorkerLinks:
    """Links by the pid of their workers."""

    def __init__(
        self, gatherings: Gatherings, on_health: Callable[[int, Health], None], *, wake: int
    ) -> None:
        """`on_health` gets a worker's pid and health; `wake` is a descriptor that ends a wait."""
        self._gatherings = gatherings
        self._on_health = on_health
        self._links: dict[int, WorkerLink] = {}
        # It has no descriptor of its own, which a fork would share.
        self._selector = selectors.PollSelector()
        self._selector.register(wake, selectors.EVENT_READ)

    def add(self, worker: int, link: WorkerLink) -> None:
        """Begin to receive from a worker."""
        self._links[worker] = link
        self._selector.register(link, selectors.EVENT_READ, worker)

    def wait(self, seconds: float) -> bool:
        """Handle messages, for `seconds` at most; True as soon as `wake` is readable."""
        seconds = min(seconds, self._gatherings.deadline - time.monotonic())
        woken = False
        for key, _ in self._selector.select(max(0.0, seconds)):
            if key.data is None:
                woken = True
            else:
                self._receive(key.data)
        self._send_reports()
        return woken

    def end(self, worker: int) -> None:
        """Handle the last messages of a worker that has ended."""
        self._receive(worker)
        self._gatherings.end(worker)
        link = self._links.pop(worker)
        if not link.has_ended():
            self._selector.unregister(link)
        link.close()
        self._send_reports()

    def close(self) -> None:
        """Close all of them, also in a worker: while any is open, its worker's parent lives."""
        for link in self._links.values():
            link.close()

    def _receive(self, worker: int) -> None:
        link = self._links[worker]
        if link.has_ended():
            return
        for message in link.receive():
            if message.kind is Kind.HEALTH:
                self._on_health(worker, Health(*json.loads(message.body)))
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

    def _send_reports(self) -> None:
        for asker, reports in self._gatherings.finished(time.monotonic()):
            if asker in self._links:
                self._send(asker, reports)

    def _send(self, worker: int, message: Message) -> None:
        link = self._links[worker]
        if not link.has_ended():
            link.send(message)
            self._send_unsent(link, worker)

    def _send_unsent(self, link: WorkerLink, worker: int) -> None:
        """Send what the socket takes, the rest when the worker reads again."""
        link.send_unsent()
        room = selectors.EVENT_WRITE if link.has_unsent else 0
        self._selector.modify(link, selectors.EVENT_READ | room, worker)
