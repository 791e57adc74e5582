"""PyPI's mod_wsgi-express with the files of deploy/apache."""

from __future__ import annotations

import pytest

from tests.support import debian_python
from tests.support.apache import DEPLOY, ApacheProcess, daemon_user
from tests.support.debian_python import with_authproxy
from tests.support.process import clean_environment


class ExpressProcess(ApacheProcess):
    """`deploy/apache/mod_wsgi-express.sh`, whose Apache serves nothing but the proxy."""

    daemon_name = b"(wsgi:127.0.0.1"

    def _require(self) -> None:
        if why := debian_python.missing(debian_python.APXS):
            pytest.skip(why)

    def _install(self) -> None:
        self._install_script()
        files = {name: name for name in ("authproxy-server.conf", "authproxy-location.conf")}
        self._copy(files, self._limit_edits(), self.folder / "authproxy")

    def _command(self) -> list[str]:
        user, group = daemon_user()
        options = {
            "--port": str(self.port),
            "--user": user,
            "--group": group,
            "--processes": str(self.processes),
            "--threads": self.settings.get("THREADS", "32"),
            "--server-root": str(self.folder / "express"),
        }
        brief = self.folder / "brief.conf"
        brief.write_text("KeepAliveTimeout 300ms\n")
        options["--include-file"] = str(brief)
        words = [word for option in options.items() for word in option]
        return [str(DEPLOY / "mod_wsgi-express.sh"), *words, *self.options]

    def _environment(self) -> dict[str, str]:
        environ = clean_environment(self._home.name)
        del environ["PYTHONPATH"]
        venv = with_authproxy(*debian_python.EXPRESS)
        return environ | {
            "PATH": f"{venv}/bin:/usr/bin:/bin",
            "AUTHPROXY_ETC": str(self.folder / "authproxy"),
        }
