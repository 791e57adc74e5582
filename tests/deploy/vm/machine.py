"""A Debian with systemd as process 1, in a container with a network of its own."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.process import wait_until

_CLONE_NEWNET = 0x40000000
_BOOT_SECONDS = 60
_COMMAND_SECONDS = 60


@dataclass
class Machine:
    """A booted one: `root` is its root filesystem, seen from outside."""

    root: Path
    leader: int

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run these lines of bash in it, as root in /root, and stop at the first that fails."""
        # All of its namespaces, and so its own systemd, journal and network.
        enter = ["nsenter", f"--target={self.leader}", "--all"]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as Debian has it
        environment = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
        result = subprocess.run(
            [*enter, "bash", "-euo", "pipefail", "-c", f"cd\n{script}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        assert not check or result.returncode == 0, f"{script}\n{result.stdout}\n{self.journal()}"
        return result

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of its files, and the folders above."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def property(self, name: str, unit: str = "authproxy.service") -> str:
        """Return what `systemctl show` says of a unit."""
        return self.run(f"systemctl show --value --property={name} {unit}").stdout.strip()

    def journal(self, *arguments: str) -> str:
        """Return the journal's lines, as plain messages."""
        command = shlex.join(["journalctl", "--no-pager", "--output=cat", *arguments])
        return self.run(command, check=False).stdout

    def entries(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the journal's entries, with all their fields."""
        command = shlex.join(["journalctl", "--no-pager", "--output=json", *arguments])
        return [json.loads(line) for line in self.run(command).stdout.splitlines()]

    def cursor(self) -> str:
        """Return an argument that makes the journal begin here."""
        command = "journalctl --sync; journalctl --no-pager --lines=1 --output=json"
        last = json.loads(self.run(command).stdout.splitlines()[-1])
        return f"--after-cursor={last['__CURSOR']}"


@contextmanager
def booted(base: Path, folder: Path) -> Iterator[Machine]:
    """Boot one on a writable layer over `base`; it is powered off at the end."""
    root, upper, work = (folder / name for name in ("root", "upper", "work"))
    for path in (root, upper, work):
        path.mkdir()
    layers = f"lowerdir={base},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", root], check=True)
    try:
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        command = ["systemd-nspawn", "--boot", "--quiet", "--register=no", "--keep-unit"]
        command += ["--private-network", "--console=pipe", "--directory", str(root)]
        with (folder / "console").open("w") as console:
            container = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        try:
            machine = Machine(root, _leader_of(container))
            wait_until("it has booted", lambda: _is_up(machine), deadline=_BOOT_SECONDS)
            yield machine
            machine.run("systemctl poweroff", check=False)
            container.wait(_COMMAND_SECONDS)
        finally:
            if container.poll() is None:
                container.kill()
                container.wait()
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


def _leader_of(container: subprocess.Popen[bytes]) -> int:
    """Return the pid, seen from outside, of the container's process 1."""
    found: list[int] = []

    def search() -> bool:
        assert container.poll() is None, "the container has ended"
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text()
        for pid in children.split():
            # Others, short-lived, prepare its way.
            try:
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    found.append(int(pid))
            except OSError:
                pass  # it has ended
        return bool(found)

    wait_until("its process 1 is there", search, deadline=_BOOT_SECONDS)
    return found[0]


def _is_up(machine: Machine) -> bool:
    state = machine.run("systemctl is-system-running", check=False).stdout.strip()
    return state in ("running", "degraded")


@contextmanager
def in_network_of(machine: Machine) -> Iterator[None]:
    """Have sockets that this thread, and those it starts, make be in the machine's network."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{machine.leader}/ns/net", os.O_RDONLY)
    try:
        enter(other)
        yield
    finally:
        enter(own)
        os.close(own)
        os.close(other)
