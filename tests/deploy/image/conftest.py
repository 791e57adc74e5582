"""The image, built twice from the same sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import build
from tests.support.source import ROOT


@dataclass(frozen=True)
class Images:
    """The names of two builds, of what they stand on, and the time that their files bear."""

    first: str
    second: str
    base: str
    epoch: int = 1767323045


def copy_of_the_sources(folder: Path) -> Path:
    """Return the tracked files as a careful person's clone has them: with other times and modes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
            target.chmod(0o600)
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o700)
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Build the image here and, at the same time, from a copy of the sources.

    The second build gets no help from the builder in giving files their time.
    """
    cache = os.environ.get("IMAGE_TEST_CACHE")
    if cache is None:
        pytest.skip("needs what `make image-test` prepares: buildah, podman and a base image")
    folder = tmp_path_factory.mktemp("image")
    base = os.environ["IMAGE_TEST_BASE"]
    images = Images("localhost/first", "localhost/second", base)
    same = {"REVISION": "0" * 40, "SOURCE_DATE_EPOCH": str(images.epoch)}
    unaided = {"OTHER_ENGINE": "--format docker"}
    builds = [
        build(images.first, base, ROOT, Path(cache), folder, same),
        build(
            images.second,
            base,
            copy_of_the_sources(folder / "copy"),
            Path(cache),
            folder,
            same | unaided,
        ),
    ]
    for running in builds:
        output, _ = running.communicate()
        assert running.returncode == 0, output
    return images
