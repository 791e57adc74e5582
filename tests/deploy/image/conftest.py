"""The image, built twice from the same sources."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import build
from tests.support.source import ROOT, copy_of_the_sources


@dataclass(frozen=True)
class Images:
    """The names of two builds, of what they stand on, and the time that their files bear."""

    first: str
    second: str
    base: str
    epoch: int = 1767323045


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
