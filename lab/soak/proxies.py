"""The proxy under soak, from one start to the next."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.benchmarks.processes import tree
from lab.soak.front import GENERATION
from tests.support.process import ProxyProcess, free_port

#: Runs a command that finds `$0` at /etc/hosts, in a mount namespace of its own.
_WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'

NAME = "target.test"


class Hosts:
    """A hosts file of the proxy's own, in which the target's address can change."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hosts"
        self.point_to("127.0.0.1")

    def point_to(self, address: str) -> None:
        """Change the address in place: what is mounted is the file, not its name."""
        line = f"{address:<15} {NAME}\n".encode()
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, line, 0)
        finally:
            os.close(file)


class SoakedProxy(ProxyProcess):
    """`authproxy serve` with two workers, whose log lines are counted, not kept."""

    def __init__(
        self, settings: Mapping[str, str], hosts: Hosts | None, note: Callable[[str], None]
    ) -> None:
        super().__init__(settings)
        self._hosts = hosts
        self._note = note

    def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        if self._hosts is not None:
            script = [_WITH_HOSTS, str(self._hosts.path)]
            command = ["unshare", "--mount", "sh", "-c", *script, *command]
        super()._run(command, environment)

    def _take(self, line: str) -> None:
        self._note(line)
        # What says why a start failed is wanted whole.
        self.lines.append(line)
        del self.lines[:-500]


class Proxies:
    """One proxy after the other, on the same ports and with the same settings file."""

    def __init__(self, folder: Path, settings: Mapping[str, str], hosts: Hosts | None) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.events: Counter[str] = Counter()
        self.tracebacks: list[str] = []
        self.starts = 0
        self.generation = 0
        self._config = folder / "authproxy.yaml"
        self._hosts = hosts
        self._settings = {
            **settings,
            "AUTHPROXY_CONFIG": str(self._config),
            "LISTENING_HOST": "127.0.0.1",
            "LISTENING_PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "WORKERS": "2",
            "TARGET_CONNECT_TIMEOUT_SECONDS": "2",
            "TARGET_READ_TIMEOUT_SECONDS": "3",
            "SHUTDOWN_GRACE_SECONDS": "5",
        }
        self._proxy: SoakedProxy | None = None

    def start(self) -> None:
        self._configure()
        self._proxy = SoakedProxy(self._settings, self._hosts, self._note)
        self._proxy.start()
        self.starts += 1

    def stop(self) -> None:
        """End it as a service manager does. Raises AssertionError if it did not end well."""
        proxy, self._proxy = self._proxy, None
        if proxy is not None:
            proxy.stop()

    def reload(self, number: int) -> None:
        """Change what its settings file says, and send it a signal."""
        assert self._proxy is not None
        self.generation += 1
        self._configure()
        self._proxy.signal(number)

    def _configure(self) -> None:
        content = {"override_request_headers": {GENERATION: str(self.generation)}}
        self._config.with_suffix(".new").write_text(json.dumps(content))
        self._config.with_suffix(".new").replace(self._config)

    def pid(self) -> int | None:
        return self._proxy.pid if self._proxy is not None and self._proxy.running else None

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live."""
        pid = self.pid()
        return [] if pid is None else [each for each in tree(pid) if each != pid]

    def _note(self, line: str) -> None:
        found = re.search(r'\bmsg=("(?:[^"\\]|\\.)*"|\S+)', line)
        self.events[found[1].strip('"') if found else "(no event)"] += 1
        if "Traceback" in line:
            self.tracebacks.append(line)
