"""Process 1 of a container reaps the processes whose parent has ended."""

from __future__ import annotations

import os


class OrphanReaper:
    """Reaps ended children that no other code of this process waits for.

    The thread that fetches a token may run `az` and waits for it itself: without its exit
    status a failure would look like success. So a child is reaped only when it is still
    there at the second look.
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
