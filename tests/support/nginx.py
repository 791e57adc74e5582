"""A real nginx before a recording target: what it understands is what it sends on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.process import STOP_DEADLINE, free_port, wait_until
from tests.support.wire import Client

_CONFIGURATION = """
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
    log_format seen escape=json
        '{{"line":"$request","target":"$request_uri","fields":"$http_x $http_x_case",'
        '"status":"$status"}}';
    access_log {folder}/access.log seen;
    large_client_header_buffers 8 128k;
    proxy_buffer_size 16k;
    proxy_buffers 8 16k;
    merge_slashes off;
    upstream recorder {{ server {recorder}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://recorder;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Seen:
    """A line of its log: what it took for a request, also where it refused it."""

    line: str
    target: str
    fields: str
    status: int


class Nginx:
    """nginx over TLS on a port of its own; leaving ends it."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path], recorder: str) -> None:
        if shutil.which("nginx") is None:
            pytest.skip("no nginx is installed")
        self._folder = folder
        self.port = free_port()
        self.authority = f"localhost:{self.port}"
        text = _CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            recorder=recorder,
            port=self.port,
            chain=certificate[0],
            key=certificate[1],
        )
        (folder / "nginx.conf").write_text(text)

    def __enter__(self) -> Nginx:
        command = ["nginx", "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        command += ["-e", str(self._folder / "error.log")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait_until("nginx listens", self._listens)
        return self

    def _listens(self) -> bool:
        assert self._process.poll() is None, (self._folder / "error.log").read_text()
        try:
            Client(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def seen(self) -> list[Seen]:
        """Return its log so far."""
        lines = (self._folder / "access.log").read_bytes().decode("latin-1").split("\n")[:-1]
        entries = [json.loads(line) for line in lines]
        return [Seen(e["line"], e["target"], e["fields"], int(e["status"])) for e in entries]
