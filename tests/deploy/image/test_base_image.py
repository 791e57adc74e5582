"""The base image is pinned by digest, in one place, and `make base-image` renews it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response
from tests.support.source import ROOT

DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
PINNED = r"docker\.io/library/python:3\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}"
INDEX = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [],
}


def test_the_base_is_pinned_by_digest_in_one_place() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert bases == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    [pinned] = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", DOCKERFILE, re.M)
    assert re.fullmatch(PINNED, pinned)


class Registry:
    """A stand-in for docker.io: its tags, each with the bytes of its index."""

    def __init__(self) -> None:
        self.tags: dict[str, bytes] = {}
        self.server = LoopbackServer(self._answer)

    def _answer(self, request: Request) -> Response:
        if request.path == "/v2/":
            return Response(200)
        tag = request.path.removeprefix("/v2/library/python/manifests/")
        if tag not in self.tags:
            return Response.of_json(404, {"errors": [{"code": "MANIFEST_UNKNOWN"}]})
        return Response(200, self.tags[tag], {"Content-Type": str(INDEX["mediaType"])})

    def publish(self, tag: str, **more: str) -> str:
        """Put an index there; return its digest."""
        self.tags[tag] = json.dumps({**INDEX, "annotations": more}).encode()
        return f"sha256:{hashlib.sha256(self.tags[tag]).hexdigest()}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    registry.server.start()
    yield registry
    registry.server.stop()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the script needs of the repository."""
    for name in ("scripts/base-image", "docker/Dockerfile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def renew(
    checkout: Path, *arguments: str, registry: Registry | None = None, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the script, with docker.io led to the stand-in."""
    environment = {"HOME": str(checkout), "PATH": os.defpath if path is None else path}
    if registry is not None:
        configuration = checkout / ".config" / "containers" / "registries.conf"
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text(
            '[[registry]]\nprefix = "docker.io"\ninsecure = true\n'
            f'location = "127.0.0.1:{registry.server.port}"\n'
        )
    return subprocess.run(
        ["bash", checkout / "scripts" / "base-image", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )


def pinned_in(checkout: Path) -> str:
    [pinned] = re.findall(
        r"^ARG PYTHON_IMAGE=(.*)$", (checkout / "docker" / "Dockerfile").read_text(), re.M
    )
    return str(pinned)


@pytest.mark.real("skopeo")
def test_the_digest_is_renewed_from_the_registry(checkout: Path, registry: Registry) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    before = pinned_in(checkout)
    name, tag = before.partition("@")[0].rsplit(":", 1)
    others = (checkout / "docker" / "Dockerfile").read_text().replace(before, "")

    digest = registry.publish(tag, built="today")
    ended = renew(checkout, registry=registry)
    assert (ended.returncode, pinned_in(checkout)) == (0, f"{name}:{tag}@{digest}"), ended.stderr
    assert (checkout / "docker" / "Dockerfile").read_text().replace(
        pinned_in(checkout), ""
    ) == others
    assert before in ended.stdout

    ended = renew(checkout, registry=registry)
    assert "has the newest already" in ended.stdout

    digest = registry.publish("3.14-slim-trixie")
    renew(checkout, "3.14-slim-trixie", registry=registry)
    assert pinned_in(checkout) == f"{name}:3.14-slim-trixie@{digest}"
    assert re.fullmatch(PINNED, pinned_in(checkout))


@pytest.mark.real("skopeo")
def test_an_unknown_tag_leaves_the_digest_as_it_is(checkout: Path, registry: Registry) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    before = pinned_in(checkout)
    ended = renew(checkout, "3.99-slim-none", registry=registry)
    assert ended.returncode != 0
    assert "manifest unknown" in ended.stderr.lower()
    assert pinned_in(checkout) == before


def test_without_a_program_to_ask_with_it_says_what_is_missing(checkout: Path) -> None:
    programs = checkout / "bin"
    programs.mkdir()
    for program in ("bash", "dirname", "sed"):
        found = shutil.which(program)
        assert found
        (programs / program).symlink_to(found)
    ended = renew(checkout, path=str(programs))
    assert ended.returncode == 1
    assert "MISSING: crane, skopeo or docker with buildx" in ended.stderr
