"""docker/compose.yaml, started by a real compose program from the image."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from authproxy.demo.stand_ins.certificates import EphemeralCertificate
from authproxy.demo.stand_ins.directory import METRICS_INGESTION, METRICS_QUERY
from authproxy.demo.stand_ins.remote_write import HEADERS, Sample, encode
from tests.deploy.image.conftest import Images
from tests.deploy.image.test_files import COMPOSE, SERVICES
from tests.support.authority import Authority
from tests.support.client_certificates import client_authority
from tests.support.containers import podman
from tests.support.forward_proxy import ForwardProxy
from tests.support.process import START_DEADLINE, free_port, wait_until
from tests.support.stand_ins.applications import Application
from tests.support.stand_ins.entra import StandInEntra
from tests.support.stand_ins.store import StandInStore
from tests.support.wire import exchange, message

pytestmark = [pytest.mark.image, pytest.mark.real("buildah"), pytest.mark.timeout(600)]

INGESTION, QUERY = (SERVICES[name]["environment"] for name in ("ingestion", "query"))
HOSTS = [urlsplit(INGESTION["INGESTION_URL"]).netloc, urlsplit(QUERY["TARGET_HOST"]).netloc]


class WorkspaceAuthority(EphemeralCertificate):
    """Issues the stand-in store a certificate for the names in the compose file."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._issuer = authority

    def server_context(self) -> ssl.SSLContext:
        return self._issuer.context(*HOSTS)


@dataclass
class Project:
    """A started compose project, and where its services listen."""

    ports: dict[str, int]

    @staticmethod
    def container(service: str) -> str:
        return podman("ps", f"--filter=name={service}", "--format={{.Names}}").strip()

    def healthy(self, service: str) -> bool:
        command = ["podman", "healthcheck", "run", self.container(service)]
        return subprocess.run(command, capture_output=True).returncode == 0


def compose(folder: Path, *arguments: str) -> None:
    """Run podman-compose with the file as it is and what the tests lay over it."""
    files = ["--file", "compose.yaml", "--file", "here.yaml"]
    ended = subprocess.run(
        [sys.executable, "-m", "podman_compose", "--in-pod=false", *files, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def store(authority: Authority, entra: StandInEntra) -> Iterator[StandInStore]:
    with StandInStore(entra.signing_key, authority=WorkspaceAuthority(authority)) as store:
        yield store


@pytest.fixture
def project(
    images: Images,
    authority: Authority,
    entra: StandInEntra,
    store: StandInStore,
    tmp_path: Path,
) -> Iterator[Project]:
    """Start the file's services with the world of the tests around them.

    What differs from the file: the image is there already, real names lead to
    the stand-in store by way of a forward proxy, and ports are free ones of
    this machine, whose network the containers share.
    """
    certificate = client_authority().issue()
    entra.tenant = INGESTION["AAD_TENANT_ID"]
    entra.register(Application(INGESTION["AAD_CLIENT_ID"], certificates=(certificate.certificate,)))
    (tmp_path / "compose.yaml").write_bytes(COMPOSE.read_bytes())
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "client.pem").write_bytes(certificate.pem())
    (tmp_path / "certs" / "client.pem").chmod(0o400)
    os.chown(tmp_path / "certs" / "client.pem", 10001, 10001)
    (tmp_path / "certs" / "target.pem").write_bytes(authority.bundle.read_bytes())
    entra.authority.write_bundle(tmp_path / "certs" / "entra.pem")

    port = store.url.rpartition(":")[2]
    ports = {name: free_port() for name in SERVICES}
    with ForwardProxy() as forward:
        here: dict[str, dict[str, Any]] = {
            name: {
                "image": images.first,
                "network_mode": "host",
                "environment": {
                    "LISTENING_HOST": "127.0.0.1",
                    "LISTENING_PORT": str(ports[name]),
                    "HTTPS_PROXY": f"http://127.0.0.1:{forward.port}",
                    "NO_PROXY": "127.0.0.1",
                    "AAD_AUTHORITY_HOST": entra.authority_host,
                    "REQUESTS_CA_BUNDLE": "/certs/entra.pem",
                    "TARGET_CA_FILE": "/certs/target.pem",
                },
            }
            for name in SERVICES
        }
        for name, variable in (("ingestion", "INGESTION_URL"), ("query", "TARGET_HOST")):
            url = urlsplit(SERVICES[name]["environment"][variable])
            here[name]["environment"][variable] = url._replace(
                netloc=f"{url.netloc}:{port}"
            ).geturl()
        (tmp_path / "here.yaml").write_text(yaml.safe_dump({"services": here}))
        try:
            compose(tmp_path, "up", "--detach")
            yield Project(ports)
        finally:
            compose(tmp_path, "down", "--timeout=20")


def test_the_compose_file_starts_an_ingestion_and_a_query_proxy(
    project: Project, store: StandInStore
) -> None:
    for service in SERVICES:
        wait_until(
            f"{service} is healthy",
            lambda service=service: project.healthy(service),  # type: ignore[misc]
            deadline=START_DEADLINE,
        )
    ingestion, query = (("127.0.0.1", project.ports[name]) for name in ("ingestion", "query"))
    for address in (ingestion, query):
        wait_until(
            f"{address} is ready",
            lambda address=address: exchange(address, message("GET /ready")).status == 200,  # type: ignore[misc]
            deadline=START_DEADLINE,
        )

    store.audiences = (METRICS_INGESTION,)
    body = encode([Sample.of("up", 1.0, int(time.time() * 1000), job="compose")])
    lines = [f"{name}: {value}" for name, value in HEADERS.items()]
    written = exchange(ingestion, message("POST /api/v1/write", *lines, body=body))
    assert written.status == 204

    store.audiences = (METRICS_QUERY,)
    answer = exchange(query, message("GET /api/v1/query?query=up"))
    assert answer.status == 200
    assert b'"job": "compose"' in answer.body

    for service in SERVICES:
        container = project.container(service)
        limits = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"
        shown = podman("container", "inspect", f"--format={limits}", container).strip()
        assert shown == f"true {512 * 1024 * 1024} 256"
        status = podman("exec", container, "cat", "/proc/1/status")
        assert "CapBnd:\t0000000000000000\n" in status
        assert "NoNewPrivs:\t1\n" in status
