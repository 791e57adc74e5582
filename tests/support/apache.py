"""A real Apache with the files of deploy/apache, driven as `authproxy serve` is."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from authproxy.settings import Settings
from tests.support import debian_python
from tests.support.debian_python import with_authproxy
from tests.support.process import ProxyProcess, clean_environment, free_port, wait_until
from tests.support.programs import completed
from tests.support.source import ROOT

APACHE = Path("/usr/sbin/apache2")
DEBIAN = Path("/etc/apache2")
DEPLOY = ROOT / "deploy" / "apache"

#: What Debian turns on when apache2 and libapache2-mod-wsgi-py3 are installed.
MODULES = (
    *("access_compat", "alias", "auth_basic", "authn_core", "authn_file", "authz_core"),
    *("authz_host", "authz_user", "autoindex", "deflate", "dir", "env", "filter", "mime"),
    *("mpm_event", "negotiation", "reqtimeout", "setenvif", "status", "wsgi"),
)
SNIPPETS = ("charset", "localized-error-pages", "other-vhosts-access-log", "security")

SETTINGS = set(Settings.declared)

_OWN_LINE = re.compile(r'(?:time="\d{4}-|\{"time": ).*')
_NOTICE = re.compile(r"\[[^]]*\] \[(?:core|mpm_event):notice\] ")


def daemon_user() -> tuple[str, str]:
    """Return whom the processes run as: root's Apache gives that up, others cannot."""
    if os.getuid() == 0:
        return "www-data", "www-data"
    return pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name


class ApacheProcess(ProxyProcess):
    """Debian's Apache with mod_wsgi and sites of deploy/apache, as docs/apache.md installs them.

    `edits` are replacements in those files, text by text, each of which has to
    apply; `server` is further configuration of Apache. {port}, {folder} and
    {venv} stand in both for the instance's own; the folder takes the place of
    /etc. `more_sites` are sites of a test's own, by name.
    """

    adds = frozenset({"server"})

    #: How the processes that serve are called (display-name).
    daemon_name = b"(wsgi:authproxy)"

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        options: Sequence[str] = (),
        unix_socket: Path | None = None,
        exit_status: int | None = 0,
        tracebacks: bool = False,
        sites: Sequence[str] = ("authproxy",),
        processes: int = 1,
        modules: Sequence[str] = (),
        edits: Mapping[str, str] | None = None,
        server: str = "",
        more_sites: Mapping[str, str] | None = None,
        routes: Sequence[Mapping[str, object]] = (),
    ) -> None:
        assert unix_socket is None, "Apache's own configuration says where it listens"
        super().__init__(settings, options=options, exit_status=exit_status, tracebacks=tracebacks)
        self.folder = Path(tempfile.mkdtemp(prefix="authproxy-apache-"))
        self.folder.chmod(0o755)
        self._sites = sites
        self.processes = processes
        self._modules = (*MODULES, *modules)
        self._edits = dict(edits or {})
        self._server = server
        self._more_sites = dict(more_sites or {})
        #: Those of the settings file.
        self.routes = routes
        self.notices: list[str] = []

    # -- what it is started with -------------------------------------------------

    def _spawn(self) -> None:
        self._require()
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self._install()
        own = {name: value for name, value in self.settings.items() if name not in SETTINGS}
        self._run(self._command(), self._environment() | self._readable(own))

    def _require(self) -> None:
        """Skip the test where there is no Apache to start."""
        if why := debian_python.missing(APACHE, debian_python.MOD_WSGI):
            pytest.skip(why)

    def _command(self) -> list[str]:
        return [str(APACHE), "-D", "FOREGROUND", "-d", str(self.etc), "-f", "apache2.conf"]

    def _environment(self) -> dict[str, str]:
        user, group = daemon_user()
        environ = clean_environment(self._home.name)
        del environ["PYTHONPATH"]  # the environment that python-home names has to do
        folders = {name: self.folder / name for name in ("run", "log")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        return environ | {
            "APACHE_RUN_USER": user,
            "APACHE_RUN_GROUP": group,
            "APACHE_RUN_DIR": str(folders["run"]),
            "APACHE_LOCK_DIR": str(folders["run"]),
            "APACHE_LOG_DIR": str(folders["log"]),
            "APACHE_PID_FILE": str(folders["run"] / "apache2.pid"),
        }

    def _install(self) -> None:
        self._install_apache()
        self._install_authproxy()

    @property
    def etc(self) -> Path:
        return self.folder / "apache2"

    def _install_apache(self) -> None:
        """Lay out a folder as Debian does /etc/apache2."""
        shutil.rmtree(self.etc, ignore_errors=True)
        for name in ("mods-enabled", "conf-enabled", "sites-enabled"):
            (self.etc / name).mkdir(parents=True)
        for name in ("apache2.conf", "magic"):
            shutil.copy(DEBIAN / name, self.etc)
        (self.etc / "ports.conf").touch()
        for module in self._modules:
            for file in (DEBIAN / "mods-available").glob(f"{module}.*"):
                (self.etc / "mods-enabled" / file.name).symlink_to(file)
        for name in SNIPPETS:
            file = DEBIAN / "conf-available" / f"{name}.conf"
            (self.etc / "conf-enabled" / file.name).symlink_to(file)
        (self.etc / "conf-enabled" / "test.conf").write_text(
            f"ServerName localhost\nErrorLog /dev/stderr\nKeepAliveTimeout 300ms\n"
            f"{self._filled(self._server)}\n"
        )

    def _install_authproxy(self) -> None:
        """Copy the deployed files, with the edits that every operator makes."""
        user, _ = daemon_user()
        files = {
            "conf-available/authproxy.conf": "conf-enabled/authproxy.conf",
            "authproxy-server.conf": "authproxy-server.conf",
            "authproxy-location.conf": "authproxy-location.conf",
            **{f"sites-available/{s}.conf": f"sites-enabled/{s}.conf" for s in self._sites},
        }
        edits = {
            "Define AUTHPROXY_VENV /opt/authproxy": (
                f"Define AUTHPROXY_VENV {with_authproxy(*debian_python.DEBIAN)}"
            ),
            "Define AUTHPROXY_ETC /etc/authproxy": f"Define AUTHPROXY_ETC {self.folder}/authproxy",
            "Define AUTHPROXY_USER authproxy": f"Define AUTHPROXY_USER {user}",
            "processes=2": f"processes={self.processes}",
            "threads=32": f"threads={self.settings.get('THREADS', '32')}",
            **self._limit_edits(),
            **{old: self._filled(new) for old, new in self._edits.items()},
        }
        if "authproxy" in self._sites:
            edits["127.0.0.1:8081"] = f"127.0.0.1:{self.port}"
        self._copy(files, edits, self.etc)
        for name, text in self._more_sites.items():
            (self.etc / "sites-enabled" / f"{name}.conf").write_text(text)
        self._install_script()

    def _filled(self, text: str) -> str:
        own = {
            "port": self.port,
            "folder": self.folder,
            "venv": with_authproxy(*debian_python.DEBIAN),
        }
        return re.sub(r"\{(port|folder|venv)\}", lambda match: str(own[match[1]]), text)

    def _limit_edits(self) -> dict[str, str]:
        limit = self.settings.get("MAX_REQUEST_BODY_BYTES", "67108864")
        return {"LimitRequestBody 67108864": f"LimitRequestBody {limit}"}

    def _copy(self, files: Mapping[str, str], edits: Mapping[str, str], folder: Path) -> None:
        """Copy files of deploy/apache/apache2 with `edits`, each of which has to apply."""
        unused = set(edits)
        for source, copy in files.items():
            text = (DEPLOY / "apache2" / source).read_text()
            for old, new in edits.items():
                if old in text:
                    unused.discard(old)
                    text = text.replace(old, new)
            (folder / copy).write_text(text)
        assert not unused, f"nothing to replace: {unused}"

    def _install_script(self) -> None:
        folder = self.folder / "authproxy"
        folder.mkdir(exist_ok=True)
        for name in ("authproxy.wsgi", "other.wsgi"):
            shutil.copy(DEPLOY / "authproxy" / "authproxy.wsgi", folder / name)
        self.write_settings()

    def write_settings(self) -> None:
        """Write the settings file anew."""
        given = {name: value for name, value in self.settings.items() if name in SETTINGS}
        routes = {"routes": [dict(route) for route in self.routes]} if self.routes else {}
        text = yaml.safe_dump({**self._readable(given), **routes}, allow_unicode=True)
        (self.folder / "authproxy" / "authproxy.yaml").write_text(text)

    def touch_script(self) -> None:
        """Have the settings read anew, as an operator does."""
        (self.folder / "authproxy" / "authproxy.wsgi").touch()

    def _readable(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return the values, with each file that one names copied to where all can read it."""
        readable = dict(values)
        for name, value in values.items():
            if os.path.isfile(value):
                copy = self.folder / "authproxy" / Path(value).name
                shutil.copy(value, copy)
                copy.chmod(0o644)
                readable[name] = str(copy)
        return readable

    def check(self) -> subprocess.CompletedProcess[str]:
        """Have Apache check what it would be started with (`apache2ctl configtest`)."""
        self._require()
        self.port = free_port()
        self._install()
        try:
            return completed([*self._command(), "-t"], self._environment())
        finally:
            self._remove()

    # -- its life ------------------------------------------------------------------

    def stop(self, *, strict: bool = True) -> None:
        try:
            super().stop(strict=strict)
        finally:
            self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._home.cleanup()

    @property
    def server_pid(self) -> int:
        """The process that is Apache, and that signals are for."""
        return super().pid

    @property
    def daemons(self) -> list[int]:
        """The processes that serve."""
        found = []
        server = self.server_pid
        children = Path(f"/proc/{server}/task/{server}/children").read_text()
        for child in children.split():
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except FileNotFoundError:
                continue  # it has ended meanwhile
            if command.startswith(self.daemon_name):
                found.append(int(child))
        return found

    @property
    def pid(self) -> int:
        """The one process that serves."""
        (daemon,) = self.daemons
        return daemon

    # -- its log -------------------------------------------------------------------

    def _take(self, line: str) -> None:
        """Take in a line without what Apache makes of it; keep Apache's notices apart.

        Apache puts time, module and client in front, doubles each backslash
        and escapes what is not printable ASCII.
        """
        if _NOTICE.match(line):
            self.notices.append(line)
            return
        found = _OWN_LINE.search(line)
        self.lines.append(found[0].replace("\\\\", "\\") if found else line)

    def restart_gracefully(self) -> int:
        """Have Apache begin a graceful restart; return a place in its notices."""
        mark = len(self.notices)
        self.signal(signal.SIGUSR1)
        self.wait_for_notice("Doing graceful restart", after=mark)
        return mark

    def wait_for_notice(self, text: str, *, after: int) -> None:
        """Return once Apache has given notice of `text`."""
        wait_until(text, lambda: any(text in line for line in self.notices[after:]))
