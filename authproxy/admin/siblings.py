"""What METRICS_PORT needs of the other workers, as an interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

#: What workers report on.
METRICS = "metrics"
STATUS = "status"


class Siblings(Protocol):
    """All workers of one parent, this one among them."""

    def report_on(self, subject: str, make: Callable[[], bytes], *, lasting: bool = False) -> None:
        """Register what makes this worker's reports on a subject, as JSON."""

    def report_last(self) -> None:
        """Send the lasting reports: this worker is about to end."""

    def gather(self, subject: str) -> dict[str, Any]:
        """Return the reports of all: `workers`, each with `pid` and `report`, `ended` and `notes`.

        A report is None where it did not come in time. Raises AuthProxyError
        where none come.
        """
