"""Pure rules: which sockets a service manager passed to this process, sd_listen_fds(3)."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Their variables, which are removed from the environment once the sockets are taken.
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

_FIRST = 3


def passed_descriptors(environ: Mapping[str, str]) -> range:
    """Return the descriptors of the passed sockets; none if they are for another process."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return range(0)
    return range(_FIRST, _FIRST + int(count))
