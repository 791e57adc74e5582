#!/usr/bin/env -S python3 -I -S -X pycache_prefix=/opt/authproxy/pycache
"""Ask the proxy in this container how it is: `healthcheck`, or `healthcheck /ready`.

Ends with 0 when the response has status 200, with 1 otherwise, and prints its body.
It runs for each probe, for as long as the container does: hence an interpreter
without site-packages, and no module that takes long to load.
"""

from __future__ import annotations

import os
import sys

# What `socket` stands on. That takes as long to load as all else that happens here: it
# brings enum, selectors and re.
from _socket import AF_UNIX, SOCK_STREAM, getaddrinfo, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from ssl import SSLSocket

#: Less than the timeout of HEALTHCHECK, so that the reason can still be told.
SECONDS = 4.0
MAX_RESPONSE_BYTES = 65536

#: Where the proxy listens if it is told nothing else, or "everywhere".
LOOPBACK = {"": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",), "::": ("::1",)}


def listening_settings() -> Mapping[str, str]:
    """Return the settings that the proxy, process 1, was started with.

    The environment has them, before any file, unless there is an option besides
    or a file may add to them. Then the proxy's own reading of all three tells,
    at ten times the cost.
    """
    options = arguments_of_process_1()
    by_option = any(option.startswith(("--config", "--listening-")) for option in options)
    if not by_option and (not os.environ.get("AUTHPROXY_CONFIG") or is_complete(os.environ)):
        return os.environ
    import json
    import subprocess

    asked = subprocess.run(["authproxy", "settings", "--json", *options], stdout=subprocess.PIPE)
    if asked.returncode != 0:
        raise OSError("the settings cannot be read any more")
    return {name: setting["value"] for name, setting in json.loads(asked.stdout).items()}


def is_complete(settings: Mapping[str, str]) -> bool:
    """Tell whether a settings file, which comes after the environment, has nothing to add."""
    return bool(
        settings.get("LISTENING_SOCKET")
        or (settings.get("LISTENING_PORT") and settings.get("LISTENING_HOST"))
    )


def arguments_of_process_1() -> list[str]:
    """Return what follows `serve` in the command line of process 1, an init before it or not."""
    with open("/proc/1/cmdline", "rb") as file:
        arguments = os.fsdecode(file.read()).split("\0")[:-1]
    return arguments[arguments.index("serve") + 1 :] if "serve" in arguments else []


def connect(settings: Mapping[str, str]) -> socket:
    """Return a connection to where the proxy listens; raises OSError."""
    path = settings.get("LISTENING_SOCKET", "").strip()
    if path:
        return connected(AF_UNIX, path)
    port = settings.get("LISTENING_PORT", "").strip()
    if not port:
        raise OSError("neither LISTENING_PORT nor LISTENING_SOCKET is set")
    host = settings.get("LISTENING_HOST", "").strip()
    problem = OSError(f"{host} has no address")
    for candidate in LOOPBACK.get(host, (host,)):
        # As bytes: text would load the codec of international names.
        for family, _, _, _, address in getaddrinfo(candidate.encode(), int(port), 0, SOCK_STREAM):
            try:
                return connected(family, address)
            except OSError as error:
                problem = error  # This machine may have only the other kind of address.
    raise problem


def encrypted(connection: socket) -> SSLSocket:
    """Return the connection with TLS. Whose certificate it is does not matter in here."""
    import ssl  # most proxies do without, and it takes long to load
    from socket import socket as wrappable

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = wrappable(fileno=connection.detach())
    plain.settimeout(SECONDS)
    return context.wrap_socket(plain)


def connected(family: int, address: tuple[object, ...] | str) -> socket:
    """Return a connection to one address; raises OSError."""
    connection = socket(family, SOCK_STREAM)
    connection.settimeout(SECONDS)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def ask(plain: socket, target: str, *, tls: bool) -> tuple[bool, str]:
    """Return whether the status was 200, and the response's body; closes the connection."""
    connection = encrypted(plain) if tls else plain
    lines = (f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close", "", "")
    connection.sendall("\r\n".join(lines).encode())
    response = b""
    while len(response) < MAX_RESPONSE_BYTES and (more := connection.recv(MAX_RESPONSE_BYTES)):
        response += more
    connection.close()
    head, _, body = response.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0]
    good = status.startswith(b"HTTP/1.1 200 ")
    return good, (body or status or b"the connection was closed").decode(errors="replace").strip()


def main() -> int:
    """Return the exit status; the body, or what is wrong, goes to standard output."""
    try:
        settings = listening_settings()
        target = sys.argv[1] if len(sys.argv) > 1 else "/health"
        tls = bool(settings.get("LISTENING_TLS_CERTIFICATE_FILE", "").strip())
        good, text = ask(connect(settings), target, tls=tls)
        if not tls and "This port speaks HTTPS" in text:  # as a settings file has it, not read here
            good, text = ask(connect(settings), target, tls=True)
    except (OSError, ValueError) as error:
        good, text = False, f"no response: {error}"
    sys.stdout.write(f"{text}\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
