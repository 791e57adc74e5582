"""Limits of the server: counts, bytes and seconds, each with its reason."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from dataclasses import dataclass

MIB = 1024 * 1024

#: Connections held at most; each may take a second descriptor for a temporary file.
MAX_CONNECTIONS = 4096
_MAX_DESCRIPTORS = 65536

#: Memory for responses that wait for their clients, and for heads beyond their first read.
#: Without room there, responses go to temporary files, and heads wait.
RESPONSE_MEMORY_BYTES = 16 * MIB
HEAD_MEMORY_BYTES = 16 * MIB

#: The parameter of mallopt(3), the variable that stands for it, and what it is set to.
_M_ARENA_MAX = -8
_ARENAS_VARIABLE = "MALLOC_ARENA_MAX"
_HEAPS = 2


@dataclass(frozen=True)
class Limits:
    """The limits that settings decide, in seconds and bytes.

    `queue` requests may wait for one of the threads. `buffered_bytes` bounds request
    bodies and waiting responses together, in memory and in temporary files; it has to
    be at least `body_bytes`.
    """

    threads: int = 32
    queue: int = 128
    connections: int = MAX_CONNECTIONS
    body_bytes: int = 64 * MIB
    header_bytes: int = 64 * 1024
    buffered_bytes: int = 256 * MIB
    tunnels: int = 32
    shutdown_delay: float = 0
    shutdown_grace: float = 25


@dataclass(frozen=True)
class Timeouts:
    """The timeouts of a connection, in seconds."""

    #: Idle between requests. Prometheus closes after five minutes: a little
    #: more, so that its next request never crosses our closing.
    idle: float = 330

    #: Without a byte within a request; also for a whole head, or a TLS handshake.
    request: float = 60

    #: From the end of a head to the end of its body. Time in which the server did
    #: not read, for lack of room, does not count.
    body: float = 300

    #: A response waits, and the client reads not one byte of it.
    stall: float = 60

    #: The client has ended its side, cannot be probed, and takes not one byte of the response.
    half_closed: float = 5

    #: After the last response, while the client is still sending: in all,
    #: and without a byte.
    linger: float = 30
    linger_silence: float = 2

    #: A tunnel in which no byte moves. Those who keep one open for long have something to say
    #: within that time; of peers that have gone, the kernel tells sooner.
    tunnel: float = 3600


DEFAULT_TIMEOUTS = Timeouts()


def forbid_core_dumps() -> None:
    """Disable core dumps, which would hold tokens and secrets."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def share_heaps() -> None:
    """Have all threads share two heaps, where the C library is glibc.

    It would keep one for nearly each thread, and each would grow to its own peak. What
    MALLOC_ARENA_MAX says counts more. Harmless when repeated.
    """
    if _ARENAS_VARIABLE not in os.environ:
        with contextlib.suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS)


def connection_limit(limits: Limits) -> int:
    """Raise the soft limit of descriptors, and return the connections that it is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
            soft = ceiling
        except (OSError, ValueError):
            pass  # A kernel with a limit of its own (macOS): the present limit stays.
    # Each thread may hold a connection to the target and a file, each tunnel a connection; 64
    # are for the rest.
    held = 4 * limits.threads + limits.tunnels + 64
    spare = _MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft - held
    return max(16, min(limits.connections, spare // 2))
