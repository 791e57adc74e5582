"""What is locked has hashes, known vulnerabilities fail the check, and the SBOM is complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import authproxy
from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response, free_port
from tests.support.source import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
RUNTIME = ROOT / "requirements" / "runtime.txt"


def pins(lock: Path) -> dict[str, list[str]]:
    """Return each pinned `name==version` with its hashes."""
    entries = re.findall(r"^([^\s#]+==[^\s;]+)(.*(?:\n    .*)*)", lock.read_text(), re.M)
    return {pin: re.findall(r"--hash=sha256:([0-9a-f]{64})", rest) for pin, rest in entries}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_of_a_lock_has_a_hash(lock: Path) -> None:
    pinned = pins(lock)
    assert len(pinned) == len(re.findall(r"^[^\s#]+==\S+", lock.read_text(), re.M)) > 0
    assert [pin for pin, hashes in pinned.items() if not hashes] == []


@pytest.mark.parametrize("file", ["docker/Dockerfile", "Makefile"])
def test_whatever_installs_from_a_lock_requires_the_hashes(file: str) -> None:
    text = (ROOT / file).read_text().replace("\\\n", " ")
    commands = [
        command
        for line in text.splitlines()
        for command in re.split(r"&&", line)
        if re.search(r"\bpip\b.* (install|download) .*requirements/", command)
    ]
    assert len(commands) >= 2
    assert [command for command in commands if "--require-hashes" not in command] == []


# -- known vulnerabilities ------------------------------------------------------------------


class Advisories:
    """A stand-in for OSV: knows what `known` has, by package and version."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.server = LoopbackServer(self._answer)

    def _answer(self, request: Request) -> Response:
        query = json.loads(request.body)
        assert query["package"]["ecosystem"] == "PyPI"
        asked = query["package"]["name"], query["version"]
        self.asked.append(asked)
        found = self.known.get(asked)
        return Response.of_json(200, {"vulns": [found]} if found else {})


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    stand_in = Advisories()
    stand_in.server.start()
    yield stand_in
    stand_in.server.stop()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock of two of our packages, as our own are written."""
    path = tmp_path / "lock.txt"
    text = RUNTIME.read_text()
    entries = [
        re.search(rf"^{name}==.*\n(?:    .*\n)+", text, re.M) for name in ("flask", "requests")
    ]
    path.write_text("".join(entry[0] for entry in entries if entry))
    return path


def audit(lock: Path, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run what `make check` runs, asking the service at `url` and no other."""
    return subprocess.run(
        [sys.executable, "scripts/audit.py", str(lock)],
        cwd=ROOT,
        env={**os.environ, "AUDIT_SERVICES": "osv", "AUDIT_OSV_URL": url, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_known_vulnerability_fails_the_check_and_is_told_with_its_mend(
    advisories: Advisories, lock: Path
) -> None:
    name, version = next(pin for pin in pins(lock) if pin.startswith("flask")).split("==")
    events = [{"introduced": "0"}, {"fixed": "99.1"}]
    advisories.known[name, version] = {
        "id": "PYSEC-2026-1",
        "aliases": ["CVE-2026-11111"],
        "summary": "Cookies crumble.",
        "affected": [
            {
                "package": {"name": name, "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
            }
        ],
    }
    run = audit(lock, advisories.server.url)
    assert run.returncode == 1, run.stderr
    assert f"VULNERABLE: flask {version}: PYSEC-2026-1, CVE-2026-11111; fixed in 99.1" in run.stderr
    assert "Cookies crumble." in run.stderr
    assert "make lock" in run.stderr
    ignoring = audit(lock, advisories.server.url, AUDIT_IGNORE="PYSEC-2026-1")
    assert ignoring.returncode == 0, ignoring.stderr


def test_with_no_advisory_known_the_check_says_what_it_asked_for(
    advisories: Advisories, lock: Path
) -> None:
    run = audit(lock, advisories.server.url)
    assert (run.returncode, run.stderr) == (
        *(0, "No advisory is known for the 2 locked packages (osv).\n"),
    )
    assert {f"{name}=={version}" for name, version in advisories.asked} == set(pins(lock))


def test_without_advisories_the_check_is_skipped_loudly(lock: Path) -> None:
    run = audit(lock, f"http://127.0.0.1:{free_port()}")
    assert run.returncode == 0
    assert "AUDIT SKIPPED" in run.stderr
    assert "NOTHING was audited" in run.stderr
    assert "No advisory is known" not in run.stderr


def test_make_check_audits_what_users_install() -> None:
    run = subprocess.run(
        ["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (command,) = [line for line in run.stdout.splitlines() if "audit.py" in line]
    assert "requirements/runtime.txt" in command
    assert "requirements/build.txt" in command


# -- the bill of materials ----------------------------------------------------------------


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The SBOM, made twice at a time under different circumstances."""
    folder = tmp_path_factory.mktemp("sbom")
    runs = []
    for number, zone in enumerate(("UTC", "Asia/Tokyo")):
        environment = {"SOURCE_DATE_EPOCH": "1700000000", "TZ": zone, "PYTHONHASHSEED": str(number)}
        command = [sys.executable, "-m", "tools.sbom", "--no-validate", str(folder / str(number))]
        runs.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}))
    assert [run.wait() for run in runs] == [0, 0]
    return [(folder / str(number)).read_bytes() for number in range(len(runs))]


def test_the_sbom_is_the_same_each_time(bills: list[bytes]) -> None:
    assert bills[0] == bills[1]
    assert json.loads(bills[0])["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"


def test_the_sbom_is_valid_cyclonedx(bills: list[bytes]) -> None:
    # Slow to load, and of no use to who only collects tests.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert json.loads(bills[0])["specVersion"] == "1.6"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bills[0].decode()) is None


def test_the_sbom_lists_all_that_is_locked_with_hashes_and_licences(bills: list[bytes]) -> None:
    components = json.loads(bills[0])["components"]
    listed = {
        f"{each['name']}=={each['version']}": sorted(
            digest["content"]
            for reference in each["externalReferences"]
            for digest in reference.get("hashes", [])
        )
        for each in components
    }
    assert listed == {pin: sorted(hashes) for pin, hashes in pins(RUNTIME).items()}
    assert [each["name"] for each in components if not each.get("licenses")] == []


def test_the_sbom_says_what_needs_what(bills: list[bytes]) -> None:
    content = json.loads(bills[0])
    root = content["metadata"]["component"]
    assert (root["name"], root["type"]) == ("entra-auth-proxy", "application")
    assert root["purl"] == f"pkg:generic/entra-auth-proxy@{authproxy.__version__}"
    needs = {each["ref"]: each["dependsOn"] for each in content["dependencies"]}
    known = {each["bom-ref"] for each in content["components"]}
    assert {one for needed in needs.values() for one in needed} <= known
    names = {ref.partition("@")[0] for ref in needs[root["bom-ref"]]}
    assert {"pkg:pypi/flask", "pkg:pypi/waitress"} <= names
    assert "pkg:pypi/cramjam" not in names


def test_the_sbom_tells_nothing_of_the_machine_it_was_made_on(bills: list[bytes]) -> None:
    assert b"file:" not in bills[0]
    assert str(ROOT).encode() not in bills[0]
