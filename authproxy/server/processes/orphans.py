"""What process 1 of a container owes: reaping processes that lost their parent."""

from __future__ import annotations

import os


class OrphanReaper:
    """Reaps ended children that nobody else in this process waits for.

    The token thread may run `az`, and waits for it itself: taking its exit
    status away would make a failure look like success. So a child is reaped
    only when it is still there at the second look.
    """

    def __init__(self) -> None:
        self._seen: int | None = None

    def look(self) -> None:
        """Note the first ended child, and reap it if it was noted before."""
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            ended = None
        pid = ended.si_pid if ended else None
        if pid is not None and pid == self._seen:
            os.waitpid(pid, 0)
            pid = None
        self._seen = pid
