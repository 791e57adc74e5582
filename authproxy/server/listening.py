"""Binding the sockets that the proxy listens on, before anything is forked."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

from authproxy.errors import AuthProxyError
from authproxy.settings.socket_activation import VARIABLES, passed_descriptors

#: Connections that wait for accept; the kernel takes its own limit if lower.
BACKLOG = 4096

#: Owner and group may connect: the group is how a neighbour is let in.
SOCKET_MODE = 0o660

#: The address family, or the address, does not exist on this machine.
_NOT_HERE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class ListenError(AuthProxyError):
    """An address cannot be listened on; the message names setting and address."""


def listen_tcp(
    host: str | None, port: int, *, port_setting: str = "LISTENING_PORT"
) -> list[socket.socket]:
    """Return listening sockets for each address that `host` stands for.

    `port_setting` is where the port comes from, for messages.

    No host means all interfaces, IPv4 and IPv6. An IPv6 socket takes IPv6
    only, so that IPv4 clients keep their addresses as they are written. Of
    several addresses, those that this machine does not have are passed over.

    Raises ListenError.
    """
    setting = "LISTENING_HOST" if host else port_setting
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise ListenError(f"LISTENING_HOST: cannot resolve {host!r}: {reason}") from error
    addresses = dict.fromkeys((family, address) for family, _, _, _, address in found)
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in addresses:
        try:
            sockets.append(_listening(family, address))
        except OSError as error:
            if error.errno in _NOT_HERE:
                absent = error
                continue
            _close(sockets)
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                setting = port_setting
            raise ListenError(_sentence(setting, _name(*address[:2]), error)) from error
    if absent is not None and not sockets:
        raise ListenError(_sentence(setting, _name(host or "*", port), absent)) from absent
    return sockets


@contextlib.contextmanager
def listen_unix(
    path: str, mode: int = SOCKET_MODE, group: int | None = None
) -> Iterator[socket.socket]:
    """Yield a listening Unix socket, which is removed at the end.

    A socket file without a listener is replaced. Raises
    ListenError for a live one, or any other file in its place.
    """

    def permit() -> None:
        try:
            if group is not None:
                os.chown(path, -1, group)
            os.chmod(path, mode)
        except OSError as error:
            Path(path).unlink(missing_ok=True)
            raise ListenError(_sentence("LISTENING_SOCKET_GROUP", path, error)) from error

    try:
        _remove_stale(path)
        sock = _listening(socket.AF_UNIX, path, permit)
    except OSError as error:
        raise ListenError(_sentence("LISTENING_SOCKET", path, error)) from error
    ours = os.stat(path)
    owner = os.getpid()
    try:
        yield sock
    finally:
        sock.close()
        # Not in a forked worker, and not if another file is there.
        if os.getpid() == owner:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(path), ours):
                    os.unlink(path)


def take_passed_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that the service manager passed, none if it passed none.

    They stay open in the service manager, so that what connects during a restart
    waits. Their variables are removed from the environment: no child process is
    to take them too. Raises ListenError where one is not for listening.
    """
    descriptors = passed_descriptors(environ)
    for variable in VARIABLES:
        environ.pop(variable, None)
    sockets: list[socket.socket] = []
    for descriptor in descriptors:
        try:
            sock = socket.socket(fileno=descriptor)
            sockets.append(sock)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            listens = 0
        if not listens or sock.type != socket.SOCK_STREAM:
            _close(sockets)
            raise ListenError(
                f"LISTEN_FDS: descriptor {descriptor} is no listening stream socket: "
                "the socket unit needs ListenStream= and Accept=no"
            )
        sock.set_inheritable(False)
        sock.setblocking(False)
    return sockets


def address_of(sock: socket.socket) -> str:
    """Return `host:port` or the path that a socket is bound to; `@name` for an abstract one."""
    address = sock.getsockname()
    if isinstance(address, bytes):
        return address.replace(b"\0", b"@", 1).decode(errors="replace")
    return str(address) if sock.family == socket.AF_UNIX else _name(*address[:2])


def _listening(
    family: int, address: object, bound: Callable[[], None] = lambda: None
) -> socket.socket:
    """Return a socket that listens; `bound` is called before a client can connect."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if family != socket.AF_UNIX:  # connections of a former process may linger
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)  # type: ignore[arg-type]  # str for a Unix socket, else a tuple
        bound()
        # Now, not in the workers: with SO_REUSEADDR the kernel reports a port
        # that is taken only here.
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except (OSError, ListenError):
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:  # no listener: left by a process that was killed
            Path(path).unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, "another process listens on it")


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _sentence(setting: str, address: str, error: OSError) -> str:
    return f"{setting}: cannot listen on {address}: {error.strerror or error}"
