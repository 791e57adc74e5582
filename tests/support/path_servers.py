"""Real web servers with something at /secret, to see from where they serve a path.

nginx and Apache httpd as their packages come: they decode a path, merge its slashes and
resolve its dot segments before they look for a location. `/secret` and what is below it
gets 403 there, everything else 404.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.process import STOP_DEADLINE, free_port, wait_until
from tests.support.wire import Client, message

#: What both answer a request with that they take for one of /secret.
SECRET_STATUS = 403

_NGINX = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{}}
http {{
    access_log off;
    large_client_header_buffers 4 128k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /secret {{ return 403; }}
        location /secret/ {{ return 403; }}
        location / {{ return 404; }}
    }}
}}
"""

_APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/httpd.pid
ErrorLog {folder}/error.log
LogLevel crit
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
{user}
DocumentRoot {folder}/empty
AllowEncodedSlashes {slashes}
<Location "/secret">
    Require all denied
</Location>
"""


def _nginx(folder: Path, port: int) -> list[str]:
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, user=user))
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def _apache(folder: Path, port: int, *, slashes: str) -> list[str]:
    (folder / "empty").mkdir()
    user = "User www-data" if os.geteuid() == 0 else f"User {pwd.getpwuid(os.getuid()).pw_name}"
    modules = "/usr/lib/apache2/modules"
    text = _APACHE.format(folder=folder, port=port, user=user, modules=modules, slashes=slashes)
    (folder / "httpd.conf").write_text(text)
    return ["apache2", "-D", "FOREGROUND", "-f", str(folder / "httpd.conf")]


#: How each is started in a folder, on a port.
SERVERS: dict[str, Callable[[Path, int], Sequence[str]]] = {
    "nginx": _nginx,
    "apache2": lambda folder, port: _apache(folder, port, slashes="Off"),
    "apache2-decoding-slashes": lambda folder, port: _apache(folder, port, slashes="On"),
}


@contextmanager
def serving_secret(name: str, folder: Path) -> Iterator[int]:
    """Run one of SERVERS; yield the port on loopback where it speaks plain HTTP."""
    program = name.partition("-")[0]
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    if shutil.which(program, path=path) is None:
        pytest.skip(f"no {program} is installed")
    folder.chmod(0o755)
    port = free_port()
    command = SERVERS[name](folder, port)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": path})

    def listens() -> bool:
        assert process.poll() is None, (folder / "error.log").read_text()
        try:
            Client(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    try:
        wait_until(f"{program} listens", listens)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def asks_for_secret(port: int, path: bytes) -> bool:
    """Tell whether the server takes a path for one of /secret."""
    with Client(("127.0.0.1", port)) as client:
        return client.ask(message(b"GET " + path)).status == SECRET_STATUS
