"""Probes as the kubelet makes them: a request to the pod, or a command within the container."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.process import ProxyProcess
from tests.support.source import ROOT

SCRIPT = ROOT / "docker" / "healthcheck.py"


def healthcheck(settings: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run the image's `healthcheck` with only `settings` in its environment; return its end."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    ended = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, *arguments],
        env={"PATH": programs, **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    return ended.returncode, ended.stdout


def passes(probe: Mapping[str, Any], proxy: ProxyProcess, environment: Mapping[str, str]) -> bool:
    """Tell whether a declared probe of `proxy` succeeds; `environment` is the container's."""
    if "httpGet" in probe:
        # Its port is LISTENING_PORT, which other tests see to.
        return proxy.get(probe["httpGet"]["path"]).status == 200
    program, *arguments = probe["exec"]["command"]
    assert program == "healthcheck"
    status, _ = healthcheck({**environment, **where(proxy)}, *arguments)
    return status == 0


def where(proxy: ProxyProcess) -> dict[str, str]:
    """Return the setting that tells where `proxy` listens in this run."""
    if proxy.unix_socket is not None:
        return {"LISTENING_SOCKET": str(proxy.unix_socket)}
    return {"LISTENING_PORT": str(proxy.port)}
