"""Settings files with routes, for proxies in front of several targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from tests.support.client_certificates import replace_file
from tests.support.upstream import Upstream

Given = Mapping[str, object]


def to(target: Upstream, **settings: object) -> dict[str, object]:
    """Return a route to a target."""
    return {"target_host": target.authority, **settings}


def write_routes(path: Path, routes: Iterable[Given], **outside: object) -> Path:
    """Replace a settings file by one with these routes."""
    replace_file(
        path, yaml.safe_dump({**outside, "routes": [dict(each) for each in routes]}).encode()
    )
    return path
