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


def status_source(
    services: Services,
    opened: float,
    siblings: ParentLink | None,
    certificate_expiry: Callable[[], Expiry | None],
) -> Callable[[], Data]:
    """Return what gathers the present status of this worker, and of its siblings if it has any.

    `opened` is when the service began (monotonic), in the parent if there is one;
    `certificate_expiry` is of the certificate that clients are shown, if any.
    """
    began = time.monotonic()

    def own() -> Data:
        return of_worker(services, began, certificate_expiry())

    def reports() -> tuple[list[Data], list[int | None], Data | None]:
        """Return the reports, the pids without one, and the last reload that was refused."""
        if siblings is None:
            return [own()], [], None
        try:
            gathered = siblings.gather(_SUBJECT)
        except AuthProxyError as error:
            log.debug("Only this worker's status: %s", error)
            return [own()], [None], None
        workers = gathered["workers"]
        reported = [worker["report"] for worker in workers if worker["report"]]
        silent = [worker["pid"] for worker in workers if not worker["report"]]
        return reported, silent, gathered["notes"]["refused_reload"]

    def gather() -> Data:
        workers, silent, refused = reports()
        now = time.time()
        return together(workers, silent, now - (time.monotonic() - opened), refused, now)

    if siblings is not None:
        siblings.report_on(_SUBJECT, lambda: json.dumps(own()).encode())
    return gather
