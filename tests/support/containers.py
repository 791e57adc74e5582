"""The container image, and the proxy in a container of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.process import ProxyProcess

#: How the documentation says that a container should be run.
HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp:size=64m,mode=1777",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--memory=256m",
)

_CA = "/run/secrets/ca.pem"


def podman(*arguments: str, status: int = 0) -> str:
    """Run podman, which has to end with `status`; return what it prints."""
    ended = subprocess.run(["podman", *arguments], capture_output=True, text=True)
    assert ended.returncode == status, f"{arguments}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def inspect(image: str) -> dict[str, Any]:
    """Return what is known of an image."""
    found: list[dict[str, Any]] = json.loads(podman("image", "inspect", image))
    return found[0]


def build(
    image: str, base: str, source: Path, cache: Path, secrets: Path, variables: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start `make image` on `base` with `variables` in `source`; return the running process.

    The build reaches a package index as the tests' own environment does.
    """
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    arguments = ["--isolation=chroot", "--pull-never", "--no-cache", *_index_of(secrets)]
    arguments.append(f"--build-arg=PYTHON_IMAGE={base}")
    settings = {"ENGINE": "buildah", "IMAGE": image, "IMAGE_ARGS": " ".join(arguments), **variables}
    return subprocess.Popen(
        ["make", "image", *(f"{name}={value}" for name, value in settings.items())],
        cwd=source,
        env={**environment, "TMPDIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _index_of(folder: Path) -> list[str]:
    """Return options that give a build the package index and the CA that pip uses here."""
    lines = ["[global]"]
    options = []
    index = os.environ.get("PIP_INDEX_URL") or _pip_option("global.index-url")
    if index:
        lines.append(f"index-url = {index}")
    bundle = (
        os.environ.get("PIP_CERT")
        or os.environ.get("REQUESTS_CA_BUNDLE")
        or _pip_option("global.cert")
    )
    if bundle:
        lines.append(f"cert = {_CA}")
        options.append(f"--secret=id=ca.pem,src={bundle}")
    configuration = folder / "pip.conf"
    configuration.write_text("\n".join([*lines, ""]))
    return [*options, f"--secret=id=pip.conf,src={configuration}"]


def _pip_option(name: str) -> str:
    command = [sys.executable, "-m", "pip", "config", "get", name]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


class ContainerProxy(ProxyProcess):
    """The proxy as the image starts it, hardened, on the network of the tests.

    `files` are mounted, by their path in the container; `listening` says how
    it is told its port: by "environment", "option" or "file". podman itself
    tells in the log that there is no systemd to run the health check.
    """

    def __init__(
        self,
        image: str,
        settings: Mapping[str, str],
        *,
        files: Mapping[str, Path] | None = None,
        listening: str = "environment",
        unix_socket: Path | None = None,
    ) -> None:
        super().__init__(settings, unix_socket=unix_socket)
        self._image = image
        self._files = dict(files or {})
        self._listening = listening
        self.name = f"proxy-{id(self):x}"

    def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        environment = dict(environment)
        told = {*self.settings, "LISTENING_PORT", "LISTENING_SOCKET"} & set(environment)
        files, arguments = dict(self._files), list(command[command.index("serve") :])
        if self._listening == "option":
            arguments += ["--listening-port", environment["LISTENING_PORT"]]
            told.remove("LISTENING_PORT")
        elif self._listening == "file":
            configuration = Path(self._home.name) / "authproxy.yaml"
            configuration.write_text(f"listening_port: {environment['LISTENING_PORT']}\n")
            files["/etc/authproxy.yaml"] = configuration
            environment["AUTHPROXY_CONFIG"] = "/etc/authproxy.yaml"
            told = told - {"LISTENING_PORT"} | {"AUTHPROXY_CONFIG"}
        if self.unix_socket is not None:
            folder = self.unix_socket.parent
            files[str(folder)] = folder
        options = [
            *(f"--env={name}={environment[name]}" for name in sorted(told)),
            *(f"--volume={path}:{inside}" for inside, path in files.items()),
        ]
        run = ["podman", "run", "--rm", f"--name={self.name}", "--network=host", *HARDENED]
        super()._run([*run, *options, self._image, *arguments], os.environ)

    @property
    def process_1(self) -> int:
        """The pid of the container's process 1, seen from here."""
        return int(podman("container", "inspect", "--format={{.State.Pid}}", self.name))

    def execute(self, *command: str, status: int = 0) -> str:
        """Run a command in the container; return what it prints."""
        return podman("exec", self.name, *command, status=status)

    def health(self, status: int = 0) -> str:
        """Run the health check that the image declares."""
        return podman("healthcheck", "run", self.name, status=status)

    def podman_stop(self) -> int:
        """Have podman stop it, with the image's stop signal; return its exit status."""
        podman("stop", "--time=20", self.name)
        return self.wait()
