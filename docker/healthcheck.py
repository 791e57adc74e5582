#!/usr/bin/env -S python3 -I -S -X pycache_prefix=/opt/authproxy/pycache
"""Ask the proxy in this container how it is: `healthcheck`, or `healthcheck /ready`.

Ends with 0 when the answer is 200, with 1 otherwise, and prints what was said.
It runs twice a minute for as long as the container does, hence nothing but
sockets, and an interpreter without site-packages: 25 ms of one core.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping

#: Less than the timeout of HEALTHCHECK, so that the reason can still be told.
SECONDS = 4.0
LONGEST_ANSWER = 65536

#: Where the proxy listens if it is told nothing else, or "everywhere".
LOOPBACK = {"": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",), "::": ("::1",)}


def listening_settings() -> Mapping[str, str]:
    """Return the settings that the proxy, process 1, was started with.

    The environment tells them unless there is a file or an option besides;
    then the proxy's own reading of all three does, at ten times the cost.
    """
    options = arguments_of_process_1()
    elsewhere = any(option.startswith(("--config", "--listening-")) for option in options)
    if not elsewhere and not os.environ.get("AUTHPROXY_CONFIG"):
        return os.environ
    import json
    import subprocess

    asked = subprocess.run(["authproxy", "settings", "--json", *options], stdout=subprocess.PIPE)
    if asked.returncode != 0:
        raise OSError("the settings cannot be read any more")
    return {name: setting["value"] for name, setting in json.loads(asked.stdout).items()}


def arguments_of_process_1() -> list[str]:
    """Return what follows `serve` in the command line of process 1, an init before it or not."""
    with open("/proc/1/cmdline", "rb") as file:
        arguments = os.fsdecode(file.read()).split("\0")[:-1]
    return arguments[arguments.index("serve") + 1 :] if "serve" in arguments else []


def connect(settings: Mapping[str, str]) -> socket.socket:
    """Return a connection to where the proxy listens; raises OSError."""
    path = settings.get("LISTENING_SOCKET", "").strip()
    if path:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        connection.connect(path)
        return connection
    port = settings.get("LISTENING_PORT", "").strip()
    if not port:
        raise OSError("neither LISTENING_PORT nor LISTENING_SOCKET is set")
    host = settings.get("LISTENING_HOST", "").strip()
    hosts = LOOPBACK.get(host, (host,))
    for candidate in hosts[:-1]:
        try:
            return socket.create_connection((candidate, int(port)), SECONDS)
        except OSError:
            pass  # This machine may have only the other kind of address.
    return socket.create_connection((hosts[-1], int(port)), SECONDS)


def ask(connection: socket.socket, target: str) -> tuple[bool, str]:
    """Return whether the answer was 200, and the answer's body."""
    lines = (f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close", "", "")
    connection.sendall("\r\n".join(lines).encode())
    answer = b""
    while len(answer) < LONGEST_ANSWER and (more := connection.recv(LONGEST_ANSWER)):
        answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0]
    good = status.startswith(b"HTTP/1.1 200 ")
    return good, (body or status or b"the connection was closed").decode(errors="replace").strip()


def main() -> int:
    """Return the exit status; the answer, or what is wrong, goes to standard output."""
    try:
        with connect(listening_settings()) as connection:
            good, answer = ask(connection, sys.argv[1] if len(sys.argv) > 1 else "/health")
    except (OSError, ValueError) as error:
        good, answer = False, f"no answer: {error}"
    sys.stdout.write(f"{answer}\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
