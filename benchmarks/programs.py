"""The programs of a comparison: each a process of its own, pinned, with its costs read."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType

import trustme

import authproxy as package

START_DEADLINE = 30.0
STOP_DEADLINE = 20.0

_TICKS = os.sysconf("SC_CLK_TCK")

_COMMON = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    keepalive_requests 10000000;
    {http}
}}
"""

#: Answers a GET at once, and a POST when all of its body is there: `return`
#: alone would answer before that, so the body is read on behalf of a second
#: server, which is not sent it.
_TARGET = """
    access_log off;
    upstream sink {{ server unix:{folder}/sink; keepalive 64; keepalive_requests 10000000; }}
    server {{ listen unix:{folder}/sink; return 204; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{ return 200 "ok"; }}
        location = /api/v1/write {{
            proxy_pass http://sink;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Connection "";
            proxy_http_version 1.1;
        }}
    }}
"""

#: Does what authproxy does as far as nginx can: a token on each request (a
#: fixed one), verified TLS on kept connections, one log line for each request.
_PEER = """
    access_log {folder}/access.log combined;
    upstream target {{
        server 127.0.0.1:{target_port};
        keepalive 64;
        keepalive_requests 10000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass https://target;
            proxy_http_version 1.1;
            proxy_set_header Host localhost:{target_port};
            proxy_set_header Connection "";
            proxy_set_header Authorization "Bearer {token}";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_ssl_trusted_certificate {bundle};
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
        }}
    }}
"""


class Certificate:
    """A certificate for localhost, and the CA that clients are to trust."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.bundle = folder / "ca.pem"
        self.chain = folder / "server.crt"
        self.key = folder / "server.key"
        authority.cert_pem.write_to_path(str(self.bundle))
        self.chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(self.key))


@contextmanager
def pinned(cores: Iterable[int]) -> Iterator[None]:
    """Run what is started meanwhile on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Return a port that the system had free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Program:
    """A server process with its children; leaving the context ends it."""

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int,
        folder: Path,
        cores: Iterable[int],
        environment: Mapping[str, str] | None = None,
        ready_path: str | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self._ready_path = ready_path
        self._log = folder / "stderr.log"
        with self._log.open("wb") as log, pinned(cores):
            self._process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stderr=log
            )

    def __enter__(self) -> Program:
        give_up = time.monotonic() + START_DEADLINE
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process in order; kill it where it does not end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ready(self) -> bool:
        """Tell whether it listens, and says so on `ready_path` where there is one."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            if self._ready_path is None:
                connection.connect()
                return True
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _processes(self) -> Iterator[int]:
        """Yield the process and all that descend from it."""
        waiting = [self._process.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far."""
        ticks = 0
        for pid in self._processes():
            # Behind the name, which may hold anything: fields 14 and 15 of proc(5).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def memory_mib(self) -> float:
        """Return the proportional set size of all its processes."""
        kib = 0
        for pid in self._processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
        return kib / 1024


def _nginx(name: str, http: str, folder: Path, cores: Iterable[int], **values: object) -> Program:
    folder.mkdir()
    port = free_port()
    section = http.format(folder=folder, port=port, **values)
    # As root, nginx would give its worker away to a user who cannot enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(_COMMON.format(user=user, folder=folder, http=section))
    command = ["nginx", "-e", str(folder / "error.log"), "-p", str(folder)]
    return Program(name, [*command, "-c", str(configuration)], port, folder, cores)


def target(certificate: Certificate, folder: Path, cores: Iterable[int]) -> Program:
    """Return the HTTPS server behind both proxies."""
    return _nginx(
        "target", _TARGET, folder, cores, certificate=certificate.chain, key=certificate.key
    )


def nginx(
    target_port: int, token: str, certificate: Certificate, folder: Path, cores: Iterable[int]
) -> Program:
    """Return the reverse proxy to compare with."""
    values = {"target_port": target_port, "token": token, "bundle": certificate.bundle}
    return _nginx("nginx", _PEER, folder, cores, **values)


def authproxy(
    target_port: int,
    identity: Mapping[str, str],
    certificate: Certificate,
    folder: Path,
    cores: Iterable[int],
) -> Program:
    """Return the proxy itself, with ordinary settings, its log in a file as nginx's is."""
    folder.mkdir()
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(Path(package.__file__).resolve().parent.parent),
        "TARGET_HOST": f"localhost:{target_port}",
        "TARGET_CA_FILE": str(certificate.bundle),
        "LISTENING_HOST": "127.0.0.1",
        "LISTENING_PORT": str(port),
        **identity,
    }
    command = [sys.executable, "-m", "authproxy", "serve"]
    return Program("authproxy", command, port, folder, cores, environment, "/ready")


def versions() -> dict[str, str]:
    """Return the versions of what is compared, for the report."""
    nginx_says = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return {
        "Python": sys.version.split()[0],
        "OpenSSL of Python": ssl.OPENSSL_VERSION,
        "nginx": nginx_says.strip().rpartition("/")[2],
    }
