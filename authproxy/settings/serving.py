"""The settings of listening and serving, and their limits."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from grp import getgrnam
from pathlib import Path
from typing import TYPE_CHECKING, Any

from authproxy.errors import Fault, Unusable
from authproxy.settings.declaration import Group, OneOf, Required, Setting, derived, rule
from authproxy.settings.declared import Declared
from authproxy.settings.kinds import FilePath, Integer, Kind, Number, Text
from authproxy.settings.rules import Draft

if TYPE_CHECKING:
    from authproxy.files.server_certificate import ServerFiles

#: Bytes of a Unix socket's path: sun_path without its final NUL (unix(7)).
_MAX_SOCKET_PATH = 107

#: What the system takes for no group at all, chown(2).
_NO_GROUP = 2**32 - 1

#: Kept of bodies and waiting responses, besides the room for one largest body.
_BUFFERED_BYTES = 192 * 1024 * 1024

_BIND_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?")


def bind_host(text: str) -> str:
    """Take an address or name to listen on; the brackets of IPv6 may be there."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not _BIND_HOST.fullmatch(bare):
        raise ValueError("it is neither an IP address nor a host name")
    return bare


class Mode(Kind[int]):
    """Permissions of a socket, in octal."""

    hint = "Give three octal digits, such as 0660: who may write may connect."

    def parse(self, text: str) -> int:
        if not re.fullmatch("0?[0-7]{3}", text):
            raise ValueError("it is no mode of a file")
        if not int(text, 8) & 0o222:
            raise ValueError("it lets no user connect")
        return int(text, 8)

    def show(self, value: int) -> str:
        return f"{value:04o}"


class ServingSettings(Declared, group=Group.SERVING):
    """On what to listen, and with how many processes and threads."""

    listening_port = Setting(
        Integer(1, 65535),
        None,
        "Port to listen on. Not where systemd passes sockets.",
        only_serve=True,
        chart_default="8081",
    )
    listening_host = Setting(
        Text(
            bind_host, "Give an address such as 127.0.0.1 or ::1, and the port in LISTENING_PORT."
        ),
        None,
        "Address to listen on.",
        unset="all interfaces, IPv4 and IPv6",
        only_serve=True,
    )
    listening_socket = Setting(
        FilePath(), None, "Unix socket to listen on instead of a port.", only_serve=True
    )
    listener: OneOf[Any] = OneOf(
        listening_port,
        listening_socket,
        required=Required(
            "Set it to a port, such as 8081, or LISTENING_SOCKET to a path",
            because="nothing says where to listen",
            to_serve=True,
        ),
    )
    listening_socket_mode = Setting(
        Mode(),
        0o660,
        "Permissions of that socket, in octal: users who may write to it may connect.",
        needs=listening_socket,
        only_serve=True,
    )
    listening_socket_group = Setting(
        Text(),
        None,
        "Group of that socket, by name or number: how programs of other users are let in.",
        unset="the process's",
        needs=listening_socket,
        only_serve=True,
    )
    listening_tls_certificate_file = Setting(
        FilePath(),
        None,
        "PEM file of the certificate, with its chain, that clients are shown: the proxied port "
        "then speaks HTTPS alone, TLS 1.2 and 1.3. A replaced file is used from the next "
        "connection on.",
        unset="plain HTTP",
        only_serve=True,
        chart_key="listeningTls.certificateKey",
    )
    listening_tls_key_file = Setting(
        FilePath(private=True),
        None,
        "PEM file of its private key, where the certificate's file does not hold it.",
        needs=listening_tls_certificate_file,
        only_serve=True,
        chart_key="listeningTls.privateKeyKey",
    )
    listening_tls_client_ca_file = Setting(
        FilePath(),
        None,
        "PEM file of certificate authorities: a client has to show a certificate of one of them. "
        "Without one only /health and /ready respond, for probes; all else gets 403.",
        needs=listening_tls_certificate_file,
        only_serve=True,
        chart_key="listeningTls.clientCaKey",
    )
    workers = Setting(
        Integer(1, 256),
        1,
        "Processes that serve. Where there are as many as the cores that may be used, each keeps "
        "to one of them.",
        only_serve=True,
    )
    threads = Setting(
        Integer(1, 1024),
        32,
        "Threads in each process: requests that it works on at the same time.",
    )

    @property
    def tls_files(self) -> ServerFiles | None:
        """The files of the certificate to show; None where the port speaks plain HTTP."""
        if self.listening_tls_certificate_file is None:
            return None
        # Here and not above: cryptography takes a while to load, and few need it.
        from authproxy.files.server_certificate import ServerFiles

        return ServerFiles(
            self.listening_tls_certificate_file,
            self.listening_tls_key_file,
            self.listening_tls_client_ca_file,
        )

    @property
    def socket_group(self) -> int | None:
        """The number of the Unix socket's group; None where there is none."""
        group = self.listening_socket_group or ""
        if re.fullmatch("[0-9]{1,10}", group):
            return int(group) if int(group) < _NO_GROUP else None
        try:
            return getgrnam(group).gr_gid
        except (KeyError, ValueError):
            return None

    @rule(per_route=False)
    def sockets_that_are_passed(self, draft: Draft) -> Iterator[Fault]:
        """Where systemd passes sockets, nothing else is listened on."""
        for one in ServingSettings.listener.members:
            if draft.has_sockets and draft.gives(one):
                yield draft.fault(
                    one,
                    "it is set, although systemd passes sockets to listen on (LISTEN_FDS)",
                    f"Remove {one.variable}, or disable the socket unit.",
                )

    @rule(per_route=False)
    def placeable_socket(self, draft: Draft) -> Iterator[Fault]:
        """A Unix socket can be made at its path."""
        path = self.listening_socket
        if path is None or not draft.serving:
            return
        problem = ""
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            problem = f"it is longer than {_MAX_SOCKET_PATH} bytes"
        elif not Path(path).absolute().parent.is_dir():
            problem = "its directory does not exist"
        elif not _free_for_socket(path):
            problem = "something that is no socket is there"
        if problem:
            hint = "Name a path in an existing directory that authproxy may write to."
            yield draft.fault(ServingSettings.listening_socket, problem, hint)

    @rule(per_route=False)
    def usable_tls_files(self, draft: Draft) -> Iterator[Fault]:
        """Certificate, private key and the clients' authorities load, and belong together."""
        files = self.tls_files
        if files is None:
            return
        from authproxy.files.server_certificate import load_server_certificate

        try:
            load_server_certificate(files)
        except Unusable as error:
            yield draft.fault(draft.settings.declared[error.setting], str(error), error.hint)

    @rule(per_route=False)
    def usable_group(self, draft: Draft) -> Iterator[Fault]:
        """The Unix socket can be given to its group."""
        one, number = ServingSettings.listening_socket_group, self.socket_group
        if self.listening_socket_group is None or not draft.serving:
            return
        if number is None:
            hint = "Give the name or the number of a group of this machine."
            yield draft.fault(one, "there is no such group", hint)
        elif os.geteuid() != 0 and number not in {os.getegid(), *os.getgroups()}:
            hint = "Add that user to the group, or choose one of its own."
            yield draft.fault(one, "the user that authproxy runs as is not in it", hint)


def _free_for_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True  # nothing there, or what binding will tell


class LimitSettings(ServingSettings, group=Group.LIMITS):
    """What requests may cost, and how serving ends."""

    max_request_body_bytes = Setting(
        Integer(1, 2**40, "bytes"), 64 * 1024 * 1024, "A request with a larger body gets 413."
    )
    max_request_header_bytes = Setting(
        Integer(1024, 2**24, "bytes"),
        64 * 1024,
        "A request with a larger header gets 431.",
        only_serve=True,
    )
    max_buffered_bytes = Setting(
        Integer(1, 2**44, "bytes"),
        derived(
            max_request_body_bytes,
            lambda body: body + _BUFFERED_BYTES,
            "MAX_REQUEST_BODY_BYTES and 192 MiB",
        ),
        "Bytes of request bodies and of responses that wait for slow clients, in memory and in "
        "the temporary directory, that each process keeps at the same time. Past it no body is "
        "read until there is room. MAX_REQUEST_BODY_BYTES of it are kept for the body that has "
        "waited longest, so it has to be at least that.",
        only_serve=True,
    )
    request_body_timeout_seconds = Setting(
        Number("seconds", most=3600),
        300.0,
        "How long a client may take to send a request's body, from the end of its header on, "
        "before it is disconnected. Time in which there was no room for the body does not count.",
        only_serve=True,
    )
    max_queued_requests = Setting(
        Integer(0, 100_000),
        derived(ServingSettings.threads, lambda threads: 4 * threads, "4 times THREADS"),
        "Requests that wait for a thread in each process; more get 503 and Retry-After at once, "
        "instead of waiting for long.",
        only_serve=True,
    )
    max_tunnels = Setting(
        Integer(0, 4096),
        32,
        "Connections in each process whose protocol a client and the target have changed, to "
        "WebSocket for one, at a time; more get 503 and Retry-After. 0: a request's Upgrade is "
        "left out, as RFC 9110 section 7.8 allows.",
    )
    shutdown_delay_seconds = Setting(
        Number("seconds", least=0, most=3600),
        0.0,
        "On SIGTERM, how long to go on accepting requests while /ready already says 503, so that "
        "load balancers notice first.",
        only_serve=True,
    )
    shutdown_grace_seconds = Setting(
        Number("seconds", least=0, most=3600),
        25.0,
        "After that, how long requests in flight may take to finish.",
        only_serve=True,
    )

    @rule(per_route=False)
    def room_for_a_body(self, draft: Draft) -> Iterator[Fault]:
        """What is kept in all has room for one largest body, or that one could never be read."""
        largest = self.max_request_body_bytes
        if self.max_buffered_bytes < largest:
            yield draft.fault(
                LimitSettings.max_buffered_bytes,
                f"it is less than MAX_REQUEST_BODY_BYTES ({largest})",
                "Raise it, or lower MAX_REQUEST_BODY_BYTES.",
            )
