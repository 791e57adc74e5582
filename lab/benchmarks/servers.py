"""The servers of a measurement: the target, and the proxies in front of it."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import trustme

from lab.benchmarks.processes import Program, free_port
from lab.benchmarks.revision import THIS, Checkout

#: Responses whose body has this many bytes are at /bytes/<size>.
RESPONSE_SIZES = (100_000, 10_000_000)

_COMMON = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
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

#: Responds to a GET at once, and a POST when all of its body is there: `return`
#: alone would respond before that, so the body is read on behalf of a second
#: server, which is not sent it.
_TARGET = """
    access_log off;
    upstream sink {{ server unix:{folder}/sink; keepalive 64; keepalive_requests 10000000; }}
    server {{ listen unix:{folder}/sink; return 204; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        listen 127.0.0.1:{clear_port};
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{ return 200 "ok"; }}
        location /bytes/ {{ root {folder}; }}
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


def _nginx(name: str, http: str, folder: Path, cores: Iterable[int], **values: object) -> Program:
    port = free_port()
    section = http.format(folder=folder, port=port, **values)
    # As root, nginx would give its worker away to a user who cannot enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(_COMMON.format(user=user, folder=folder, http=section))
    command = ["nginx", "-e", str(folder / "error.log"), "-p", str(folder)]
    return Program(name, [*command, "-c", str(configuration)], port, folder, cores)


def target(
    certificate: Certificate, clear_port: int, folder: Path, cores: Iterable[int]
) -> Program:
    """Return the HTTPS server behind the proxies; it speaks plain HTTP on `clear_port`."""
    (folder / "bytes").mkdir(parents=True)
    for size in RESPONSE_SIZES:
        (folder / "bytes" / str(size)).write_bytes(os.urandom(size))
    values = {"certificate": certificate.chain, "key": certificate.key, "clear_port": clear_port}
    return _nginx("target", _TARGET, folder, cores, **values)


def nginx(
    target_port: int, token: str, certificate: Certificate, folder: Path, cores: Iterable[int]
) -> Program:
    """Return nginx as a reverse proxy: what the others' costs are divided by."""
    folder.mkdir()
    values = {"target_port": target_port, "token": token, "bundle": certificate.bundle}
    return _nginx("nginx", _PEER, folder, cores, **values)


def _environment(
    target_port: int, port: int, certificate: Certificate, home: Path
) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TARGET_HOST": f"localhost:{target_port}",
        "TARGET_CA_FILE": str(certificate.bundle),
        "LISTENING_HOST": "127.0.0.1",
        "LISTENING_PORT": str(port),
    }


def plain(
    target_port: int, token: str, certificate: Certificate, folder: Path, cores: Iterable[int]
) -> Program:
    """Return the plain proxy of Flask, requests and waitress."""
    folder.mkdir()
    port = free_port()
    environment = _environment(target_port, port, certificate, folder) | {"TOKEN": token}
    command = [sys.executable, str(Path(__file__).with_name("plain_proxy.py"))]
    return Program("plain", command, port, folder, cores, environment)


def authproxy(
    target_port: int,
    settings: Mapping[str, str],
    certificate: Certificate,
    folder: Path,
    cores: Iterable[int],
    *,
    checkout: Checkout = THIS,
    launcher: Sequence[str] = ("authproxy",),
) -> Program:
    """Return the proxy itself, its log in a file as nginx's is.

    `settings` holds the identity at least; `launcher` is the module that runs it, with arguments.
    """
    folder.mkdir()
    port = free_port()
    environment = {
        **_environment(target_port, port, certificate, folder),
        "PYTHONPATH": str(checkout.source),
        **settings,
    }
    command = [checkout.python, "-m", *launcher, "serve"]
    return Program(checkout.name, command, port, folder, cores, environment, "/ready")


def versions() -> dict[str, str]:
    """Return the versions of what is compared, for the report."""
    nginx_says = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return {
        "Python": sys.version.split()[0],
        "OpenSSL of Python": ssl.OPENSSL_VERSION,
        "nginx": nginx_says.strip().rpartition("/")[2],
    }
