"""`make release`: from a clean tree that agrees on its version, the same bytes each time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import authproxy
from tests.support.process import clean_environment
from tests.support.programs import completed
from tests.support.source import ROOT, copy_of_the_sources
from tools.release import archives, pyz, versions

EPOCH = 1767323045
NEXT = "7.8.9"


def git(repository: Path, *arguments: str) -> str:
    moment = {"GIT_AUTHOR_DATE": f"@{EPOCH} +0000", "GIT_COMMITTER_DATE": f"@{EPOCH} +0000"}
    person = ("-c", "user.name=A Person", "-c", "user.email=person@example.com")
    done = completed(["git", "-C", str(repository), *person, *arguments], {**os.environ, **moment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def make(repository: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make there; it has nothing to install for it."""
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    command = ["make", *arguments, "--old-file=install", f"BIN={Path(sys.executable).parent}"]
    return subprocess.run(
        command,
        cwd=repository,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose one commit is the release NEXT of these sources."""
    folder = copy_of_the_sources(tmp_path_factory.mktemp("repository"))
    changelog = folder / "CHANGELOG.md"
    heading = "## [Unreleased]\n"
    assert heading in changelog.read_text()
    changelog.write_text(changelog.read_text().replace(heading, f"{heading}\n- Something.\n", 1))
    bumped = make(folder, "bump", f"VERSION={NEXT}")
    assert bumped.returncode == 0, bumped.stdout
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Release")
    return folder


# -- the version ---------------------------------------------------------------------------


def test_the_version_is_the_same_wherever_it_stands() -> None:
    found = list(versions.found_in(ROOT))
    assert {each.version for each in found} == {authproxy.__version__}
    assert len({each.path for each in found}) > 10


def test_a_bump_leaves_a_tree_that_can_be_released(repository: Path) -> None:
    assert versions.disagreements(repository, NEXT) == []
    text = (repository / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[Unreleased\]\n\n## \[{NEXT}\] - \d{{4}}-\d\d-\d\d\n", text, re.M)
    assert versions.notes(repository, NEXT).startswith("- Something.\n")
    versions.check(repository, NEXT)


def test_all_that_speaks_against_a_release_is_said_at_once(tmp_path: Path) -> None:
    folder = copy_of_the_sources(tmp_path)
    git(folder, "init", "--quiet")
    chart = folder / "helm" / "authproxy" / "Chart.yaml"
    chart.write_text(
        chart.read_text().replace(f"\nversion: {authproxy.__version__}", "\nversion: 0.0.1")
    )
    changelog = folder / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## [Unreleased]\n\n- Something.\n")
    refused = make(folder, "release", f"VERSION={authproxy.__version__}")
    assert refused.returncode == 2
    for reason in (
        "release: another version stands in helm/authproxy/Chart.yaml: 0.0.1\n",
        f"release: CHANGELOG.md has no section [{authproxy.__version__}], or an empty one\n",
        "release: CHANGELOG.md has changes under [Unreleased] still\n",
        "release: the tree is not clean: ",
    ):
        assert reason in refused.stdout
    assert not (folder / "dist").exists()


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3-rc1", "01.2.3"])
def test_only_three_numbers_are_a_version(version: str) -> None:
    assert any(
        "say make release VERSION=" in line for line in versions.disagreements(ROOT, version)
    )


def test_make_release_wants_to_be_told_the_version(repository: Path) -> None:
    refused = make(repository, "release")
    assert refused.returncode == 2
    assert "release: VERSION is not given: say make release VERSION=1.2.3\n" in refused.stdout


def test_a_version_that_was_released_is_not_released_again(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "One")
    git(tmp_path, "tag", "v1.2.3")
    assert versions.uncommitted(tmp_path, "1.2.3") == []
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "Two")
    [problem] = versions.uncommitted(tmp_path, "1.2.3")
    assert problem.startswith("v1.2.3 is the tag of another commit")


# -- the same bytes ----------------------------------------------------------------------------


def packed(path: Path, names: list[str], mtime: int, mode: int) -> Path:
    """Write a .tar.gz as one machine or another would."""
    with gzip.GzipFile(path, "wb", mtime=mtime) as raw, tarfile.open(fileobj=raw, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(name), mtime, mode
            member.uid = member.gid = mtime % 1000
            member.uname = f"user{mtime}"
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def test_an_archive_tells_nothing_of_where_it_was_made(tmp_path: Path) -> None:
    here = packed(tmp_path / "here.tar.gz", ["x/a", "x/b"], 1, 0o600)
    there = packed(tmp_path / "there.tar.gz", ["x/b", "x/a"], 999, 0o664)
    for path in (here, there):
        archives.rewrite(path, EPOCH)
    assert here.read_bytes() == there.read_bytes()
    with tarfile.open(here) as tar:
        assert [(each.name, each.mode, each.mtime, each.uname) for each in tar] == [
            ("x/a", 0o644, EPOCH, ""),
            ("x/b", 0o644, EPOCH, ""),
        ]


def released(repository: Path, output: Path, **environment: str) -> dict[str, str]:
    """Make all but pyz, image and bill in `output`; return the digest of each file."""
    command = ["-m", "tools.release", "files", NEXT, "--output", str(output), "--architectures="]
    command += ["--build", f"{output}-build"]
    program = 'umask "$0"; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", program, environment.pop("umask"), sys.executable, *command],
        cwd=repository,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in output.iterdir()}


def test_two_releases_of_one_commit_are_the_same_bytes(repository: Path, tmp_path: Path) -> None:
    one = released(repository, tmp_path / "one", umask="022", TZ="UTC", PYTHONHASHSEED="1")
    other = released(repository, tmp_path / "two", umask="077", TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    assert one == other
    names = {
        f"entra_auth_proxy-{NEXT}.tar.gz",
        f"entra_auth_proxy-{NEXT}-py3-none-any.whl",
        f"authproxy-{NEXT}.tgz",
        "RELEASE_NOTES.md",
    }
    assert one.keys() == names
    with zipfile.ZipFile(tmp_path / "one" / f"entra_auth_proxy-{NEXT}-py3-none-any.whl") as wheel:
        members = wheel.namelist()
        metadata = wheel.read(f"entra_auth_proxy-{NEXT}.dist-info/METADATA").decode()
    assert {"authproxy/py.typed", "authproxy/admin/templates/status.html"} <= set(members)
    assert f"Name: entra-auth-proxy\nVersion: {NEXT}\n" in metadata
    with tarfile.open(tmp_path / "one" / f"entra_auth_proxy-{NEXT}.tar.gz") as sdist:
        assert {f"entra_auth_proxy-{NEXT}/{name}" for name in ("PKG-INFO", "setup.cfg")} <= set(
            sdist.getnames()
        )
    with tarfile.open(tmp_path / "one" / f"authproxy-{NEXT}.tgz") as chart:
        file = chart.extractfile("authproxy/Chart.yaml")
        assert file is not None
        assert f"appVersion: {NEXT}" in file.read().decode()


# -- for each architecture ---------------------------------------------------------------------


def test_a_file_for_each_supported_python() -> None:
    assert pyz.pythons(ROOT)[0] == "3.10"
    assert len(pyz.pythons(ROOT)) >= 4


@pytest.mark.parametrize("machine", pyz.ARCHITECTURES.values())
def test_a_machine_is_described_as_wheels_call_it(machine: str) -> None:
    described = pyz.described(machine, "3.11")
    assert json.loads(json.dumps(described)) == described
    wanted = [f"cp311-cp311-manylinux_2_28_{machine}", f"cp311-cp311-manylinux2014_{machine}"]
    wanted += [f"cp38-abi3-manylinux_2_17_{machine}", "py3-none-any"]
    listed = described["compatible_tags"]
    assert isinstance(listed, list)
    at = [listed.index(tag) for tag in wanted]
    assert at == sorted(at)
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[machine]
    assert not [tag for tag in listed if other in tag]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_release_has_all_its_files(repository: Path, tmp_path: Path) -> None:
    made = make(repository, "release", f"VERSION={NEXT}", "ENGINE=no-such-engine", CI="")
    assert made.returncode == 0, made.stdout
    assert "THE IMAGE IS NOT MADE: no-such-engine does not work here." in made.stdout
    dist = repository / "dist"
    programs = [f"authproxy-{NEXT}-linux-{one}.pyz" for one in pyz.ARCHITECTURES]
    names = {path.name for path in dist.iterdir()}
    assert names == {
        f"entra_auth_proxy-{NEXT}.tar.gz",
        f"entra_auth_proxy-{NEXT}-py3-none-any.whl",
        f"authproxy-{NEXT}.tgz",
        f"authproxy-{NEXT}.cdx.json",
        *programs,
        "RELEASE_NOTES.md",
        "SHA256SUMS",
    }
    summed = completed(["sh", "-c", f"cd {dist} && sha256sum --check --strict SHA256SUMS"])
    assert summed.returncode == 0, summed.stdout
    assert len(summed.stdout.splitlines()) == len(names) - 1
    bill = json.loads((dist / f"authproxy-{NEXT}.cdx.json").read_text())
    assert bill["metadata"]["component"]["version"] == NEXT
    for program, machine in zip(programs, pyz.ARCHITECTURES.values(), strict=True):
        with zipfile.ZipFile(dist / program) as file:
            native = [name for name in file.namelist() if name.endswith(".so")]
        for minor in pyz.pythons(ROOT):
            tag = f"cpython-{minor.replace('.', '')}-{machine}-linux-gnu.so"
            assert any(tag in name for name in native), (program, tag)
        assert not [name for name in native if "linux-gnu" in name and machine not in name]
    environment = clean_environment(str(tmp_path))
    del environment["PYTHONPATH"]
    shown = completed([sys.executable, str(dist / programs[0]), "--version"], environment)
    assert (shown.returncode, shown.stdout) == (0, f"authproxy, version {NEXT}\n"), shown.stderr


# -- the image -----------------------------------------------------------------------------


def test_docker_is_asked_for_an_archive_of_every_platform(tmp_path: Path) -> None:
    """What it is asked for, as no docker runs here; `make image-test` makes one with Buildah."""
    called = tmp_path / "called"
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$*" >> {called}\n')
    docker.chmod(0o755)
    platforms = "--platform linux/amd64,linux/arm64"
    made = make(
        *(ROOT, "image-archive", f"IMAGE_ARGS={platforms}", f"ARCHIVE={tmp_path}/image.tar"),
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        SOURCE_DATE_EPOCH=str(EPOCH),
    )
    assert made.returncode == 0, made.stdout
    info, build = called.read_text().splitlines()
    assert info == "info"
    assert build.startswith("buildx build --file docker/Dockerfile ")
    for argument in (
        f"--tag authproxy:{authproxy.__version__}",
        f"--build-arg SOURCE_DATE_EPOCH={EPOCH}",
        f"{platforms} --output type=oci,dest={tmp_path}/image.tar,rewrite-timestamp=true",
    ):
        assert f" {argument} " in f"{build} "


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 2)])
def test_a_release_without_an_image_is_loud_and_under_ci_a_failure(ci: str, status: int) -> None:
    made = make(ROOT, "image-archive", "ENGINE=no-such-engine", CI=ci)
    assert made.returncode == status, made.stdout
    assert "THE IMAGE IS NOT MADE: no-such-engine does not work here." in made.stdout
