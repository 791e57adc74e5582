"""What /status tells, gathered from all workers."""

from __future__ import annotations

import json
import time

from authproxy.app import Services
from authproxy.metrics_port.siblings import Siblings
from authproxy.metrics_port.status_data import Data, of_worker, together


class SharedStatus:
    """The status of this worker, and of its siblings if it has any."""

    def __init__(self, services: Services, opened: float, siblings: Siblings | None = None) -> None:
        """`opened` is when the service began (monotonic), in the parent if there is one."""
        self._services = services
        self._opened = opened
        self._began = time.monotonic()
        self._siblings = siblings
        if siblings is not None:
            siblings.answer_with("status", lambda: json.dumps(self._own()).encode())

    def _own(self) -> Data:
        return of_worker(self._services, self._began)

    def gather(self, reload: Data | None = None) -> Data:
        """Return what there is to tell now; `reload` is the last one that the parent refused."""
        workers, silent = [self._own()], []
        for sibling in self._siblings.ask("status") if self._siblings else ():
            if sibling.dead:
                continue
            try:
                workers.append(json.loads(sibling.answer or b""))
            except ValueError:
                silent.append(sibling.pid)
        now = time.time()
        return together(workers, silent, now - (time.monotonic() - self._opened), reload, now)
