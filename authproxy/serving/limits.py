"""What the server may take: waitress's parameters, each with its reason."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from waitress.adjustments import Adjustments

from authproxy.serving.listening import BACKLOG

#: Connections held at most; each may take a second descriptor for a body that
#: went to a temporary file.
MAX_CONNECTIONS = 4096
_MAX_DESCRIPTORS = 65536


@dataclass(frozen=True)
class Limits:
    """The settings that the server itself needs; seconds and bytes.

    `queue` requests may wait for one of the threads.
    """

    threads: int = 32
    queue: int = 128
    body_bytes: int = 64 * 1024 * 1024
    header_bytes: int = 64 * 1024
    shutdown_delay: float = 0
    shutdown_grace: float = 25


def adjustments_for(limits: Limits) -> Adjustments:
    """Return waitress's parameters; raises the soft limit of descriptors."""
    return Adjustments(
        threads=limits.threads,
        connection_limit=_connection_limit(limits.threads),
        backlog=BACKLOG,
        # select() fails beyond descriptor 1023.
        asyncore_use_poll=True,
        # waitress refuses what reaches the limit; ours is what is still allowed.
        max_request_header_size=limits.header_bytes + 1,
        max_request_body_size=limits.body_bytes + 1,
        # Eight times the default: bodies of megabytes take fewer turns.
        recv_bytes=65536,
        # Bodies beyond this go to a temporary file: 512 KiB times many senders.
        inbuf_overflow=512 * 1024,
        # Responses up to this leave their thread at once, however slowly the
        # client reads; beyond it the thread waits, `Timeouts.stall` at most.
        outbuf_high_watermark=4 * 1024 * 1024,
        # ... and what waits beyond this waits on disk, not in memory.
        outbuf_overflow=256 * 1024,
        # Reading on while a request runs is how a client that went away is noticed.
        channel_request_lookahead=1,
        # Nothing of our own in responses: neither Server nor tracebacks.
        ident=None,
        expose_tracebacks=False,
        # A client that goes away is no error.
        log_socket_errors=False,
        # X-Forwarded-* pass on as they came.
        clear_untrusted_proxy_headers=False,
    )


def forbid_core_dumps() -> None:
    """Have a crash leave no file: it would hold tokens and secrets."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _connection_limit(threads: int) -> int:
    """Connections that the descriptors are enough for; raises their soft limit first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
            soft = ceiling
        except (OSError, ValueError):
            pass  # A kernel with a limit of its own (macOS): what there is has to do.
    # Each thread may hold a connection to the target and a file; 64 are for the rest.
    spare = _MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft - 4 * threads - 64
    return max(16, min(MAX_CONNECTIONS, spare // 2))
