"""The data of /status, gathered from all workers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

from authproxy.admin.status_data import Data, of_worker, together
from authproxy.app import Services
from authproxy.errors import AuthProxyError
from authproxy.files.expiry import Expiry
from authproxy.server.processes.channel import ParentLink

log = logging.getLogger(__name__)

#: What workers report on.
_SUBJECT = "status"


class SharedStatus:
    """The status of this worker, and of its siblings if it has any."""

    def __init__(
        self,
        services: Services,
        opened: float,
        siblings: ParentLink | None = None,
        certificate_expiry: Callable[[], Expiry | None] = lambda: None,
    ) -> None:
        """`opened` is when the service began (monotonic), in the parent if there is one.

        `certificate_expiry` is of the certificate that clients are shown, if any.
        """
        self._services = services
        self._opened = opened
        self._began = time.monotonic()
        self._siblings = siblings
        self._certificate_expiry = certificate_expiry
        if siblings is not None:
            siblings.report_on(_SUBJECT, lambda: json.dumps(self._own()).encode())

    def _own(self) -> Data:
        return of_worker(self._services, self._began, self._certificate_expiry())

    def gather(self) -> Data:
        """Return the present status."""
        workers, silent, refused = self._reports()
        now = time.time()
        return together(workers, silent, now - (time.monotonic() - self._opened), refused, now)

    def _reports(self) -> tuple[list[Data], list[int | None], Data | None]:
        """Return the reports, the pids without one, and the last reload that was refused."""
        if self._siblings is None:
            return [self._own()], [], None
        try:
            gathered = self._siblings.gather(_SUBJECT)
        except AuthProxyError as error:
            log.debug("Only this worker's status: %s", error)
            return [self._own()], [None], None
        reported = [worker["report"] for worker in gathered["workers"] if worker["report"]]
        silent = [worker["pid"] for worker in gathered["workers"] if not worker["report"]]
        return reported, silent, gathered["notes"]["refused_reload"]
