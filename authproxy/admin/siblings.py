"""What METRICS_PORT needs of the other workers, whoever brings it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

#: What workers report on.
METRICS = "metrics"
STATUS = "status"


class Siblings(Protocol):
    """All workers of one parent, this one among them."""

    def report_on(self, subject: str, make: Callable[[], bytes], *, lasting: bool = False) -> None:
        """Have this worker's reports on a subject made so, as JSON."""

    def report_last(self) -> None:
        """Leave what counts on: this worker is about to end."""

    def gather(self, subject: str) -> dict[str, Any]:
        """Return what all report: `workers`, each with `pid` and `report`, `ended` and `notes`.

        A report is None where it did not come in time. Raises AuthProxyError
        where nothing can be had.
        """
