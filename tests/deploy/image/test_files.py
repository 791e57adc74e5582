"""What lies beside the Dockerfile agrees with it, and with the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import authproxy
from tests.support.source import ROOT
from tests.support.storage import MEBIBYTE, buffered_bytes, memory_bytes

DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = ROOT / "docker" / "compose.yaml"
PAGE = (ROOT / "docs" / "container.md").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]


def test_the_context_holds_what_the_dockerfile_copies_and_no_more() -> None:
    copied = {
        source.rstrip("/")
        for sources in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", DOCKERFILE, re.M)
        for source in sources.split()
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert "docker/healthcheck.py" in copied


def test_the_version_of_the_image_is_that_of_the_package() -> None:
    assert f"\nARG VERSION={authproxy.__version__}\n" in DOCKERFILE


def test_a_registry_of_azures_builds_the_same_image() -> None:
    text = (ROOT / "docker" / "acr-task.yaml").read_text()
    task = yaml.safe_load(text)
    build, push = task["steps"]
    image = f"$Registry/authproxy:{authproxy.__version__}"
    assert build["build"] == f"--tag {image} --file docker/Dockerfile ."
    assert push == {"push": [image]}
    # The alias for the registry is known from this version on.
    assert task["version"] == "v1.1.0"
    # Mounts need it, and BuildKit is what `az acr build` lacks.
    assert "RUN --mount" in DOCKERFILE
    assert build["env"] == ["DOCKER_BUILDKIT=1"]
    command = "az acr run --registry myregistry --file docker/acr-task.yaml ."
    assert all(command in each for each in (text, PAGE, (ROOT / "docs/kubernetes.md").read_text()))


def test_the_dockerfile_asks_for_nothing_newer_than_mounts() -> None:
    """BuildKit of Docker 20.10 knows them, and no other option of an instruction."""
    options = set(re.findall(r"^(?:RUN|COPY|ADD|FROM) (--\S+?)=", DOCKERFILE, re.M))
    assert options == {"--mount", "--from"}
    assert "<<" not in DOCKERFILE
    assert not DOCKERFILE.startswith("# syntax=")  # It would be fetched from Docker Hub.


def test_each_compose_service_is_hardened_and_outlives_its_own_drain() -> None:
    assert set(SERVICES) == {"ingestion", "query"}
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        tmpfs = re.fullmatch(r"/tmp:size=(\d+)m,mode=1777", service["tmpfs"][0])
        assert tmpfs
        size, limit = int(tmpfs[1]), int(service["mem_limit"].removesuffix("m"))
        assert size * MEBIBYTE > buffered_bytes()
        assert (limit - size) * MEBIBYTE > 2 * memory_bytes(1)
        assert f"--tmpfs /tmp:size={size}m,mode=1777 --memory {limit}m" in PAGE
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"] == ["CMD", "healthcheck"]
        assert int(service["stop_grace_period"].removesuffix("s")) > 25
        port = service["environment"]["LISTENING_PORT"]
        assert service["ports"] == [f"127.0.0.1:{port}:{port}"]


def valid(file: Path) -> subprocess.CompletedProcess[str]:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*checker, file], capture_output=True, text=True)


def test_the_service_with_routes_is_one_like_the_others(tmp_path: Path) -> None:
    before, begin, commented = COMPOSE.read_text().partition("  #proxy:")
    assert begin
    file = tmp_path / "compose.yaml"
    file.write_text(before + begin.replace("#", "") + commented.replace("\n  #", "\n  "))
    ended = valid(file)
    assert ended.returncode == 0, ended.stdout
    service, query = yaml.safe_load(file.read_text())["services"]["proxy"], SERVICES["query"]
    assert set(service) == set(query)
    assert set(query["volumes"]) < set(service["volumes"])
    config = service["environment"]["AUTHPROXY_CONFIG"]
    assert any(volume.split(":")[1:] == [config, "ro"] for volume in service["volumes"])
    assert "TARGET_HOST" not in service["environment"]


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    ended = valid(COMPOSE)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    ("good", "bad"), [("read_only", "readonly"), ("cap_drop: [ALL]", "cap_drop: ALL")]
)
def test_a_slip_in_the_compose_file_would_be_noticed(tmp_path: Path, good: str, bad: str) -> None:
    text = COMPOSE.read_text()
    assert good in text
    file = tmp_path / "compose.yaml"
    file.write_text(text.replace(good, bad))
    assert valid(file).returncode == 1
