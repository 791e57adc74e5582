"""docs/identities.md: with its settings, `authproxy check` prints the lines that it shows."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.authority import Authority
from tests.support.client_certificates import ClientAuthority
from tests.support.diagnosing import Check
from tests.support.endpoints import Endpoint, whole
from tests.support.process import SOURCE
from tests.support.source import ROOT
from tests.support.stand_ins.applications import (
    Application,
    FederatedCredential,
    ServiceAccountIssuer,
)
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream

PAGE = (ROOT / "docs" / "identities.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
Place = Callable[["Ground"], dict[str, str]]


class Ground:
    """What places are made of: stand-ins, and a folder."""

    def __init__(self, entra: StandInEntra, authority: Authority, folder: Path) -> None:
        self.entra, self.folder = entra, folder
        self._authority = authority
        self.stack = ExitStack()

    def endpoint(self, *, tls: bool = False, before: bytes = b"") -> Endpoint:
        """Open an endpoint of managed identities; `before` is its first response."""
        expires = {"expires_in": "3600", "expires_on": str(int(time.time()) + 3600)}
        token = whole(json.dumps({"access_token": "the-token", **expires}).encode())
        responses = [token, before] if before else [token]
        pieces = lambda: iter([responses.pop() if len(responses) > 1 else token])  # noqa: E731
        context = self._authority.context() if tls else None
        return self.stack.enter_context(Endpoint(pieces, context))

    def entra_for(self, application: Application) -> dict[str, str]:
        self.entra.register(application)
        return self.entra.application_environment(application, self.folder / "entra.pem")


def machine(ground: Ground) -> dict[str, str]:
    return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": ground.endpoint().url}


def platform(ground: Ground) -> dict[str, str]:
    return {"IDENTITY_ENDPOINT": f"{ground.endpoint().url}/msi/token", "IDENTITY_HEADER": "header"}


def arc(ground: Ground) -> dict[str, str]:
    (ground.folder / "a1b2.key").write_text("key")
    # MSAL reads keys in one folder alone, which is the agent's.
    (ground.folder / "sitecustomize.py").write_text(
        "import msal.managed_identity as m\n"
        f"m._supported_arc_platforms_and_their_prefixes['linux'] = {str(ground.folder)!r}\n"
    )
    challenge = b"WWW-Authenticate: Basic realm=/var/opt/azcmagent/tokens/a1b2.key"
    first = whole(b"", challenge).replace(b" 200 OK", b" 401 Unauthorized", 1)
    url = ground.endpoint(before=first).url
    return {
        "IDENTITY_ENDPOINT": f"{url}/metadata/identity/oauth2/token",
        "IMDS_ENDPOINT": url,
        "PYTHONPATH": f"{ground.folder}:{SOURCE}",
    }


def service_fabric(ground: Ground) -> dict[str, str]:
    endpoint = ground.endpoint(tls=True)
    return {
        "IDENTITY_ENDPOINT": f"{endpoint.url}/metadata/identity/oauth2/token",
        "IDENTITY_HEADER": "header",
        "IDENTITY_SERVER_THUMBPRINT": endpoint.thumbprint,
    }


def pod(ground: Ground) -> dict[str, str]:
    cluster, subject = ServiceAccountIssuer(), "system:serviceaccount:monitoring:authproxy"
    token = ground.folder / "token"
    token.write_text(cluster.token(subject, now=time.time()))
    trusted = Application(federated=(FederatedCredential(cluster, subject),))
    return {**ground.entra_for(trusted), "AZURE_FEDERATED_TOKEN_FILE": str(token)}


def bound_pod(ground: Ground) -> dict[str, str]:
    given = pod(ground)
    return {
        **given,
        "AZURE_KUBERNETES_TOKEN_PROXY": given["AAD_AUTHORITY_HOST"],
        "AZURE_KUBERNETES_CA_FILE": given.pop("REQUESTS_CA_BUNDLE"),
    }


def federated(ground: Ground) -> dict[str, str]:
    entra = ground.entra
    assert entra.system_assigned is not None
    trusting = Application(federated=(entra.trust_in(entra.system_assigned),))
    return {**entra.machine_environment(), **ground.entra_for(trusting)}


def anywhere(ground: Ground) -> dict[str, str]:
    ours = ClientAuthority().issue()
    (ground.folder / "client.pem").write_bytes(ours.pem())
    return ground.entra_for(Application(certificates=(ours.certificate,)))


PLACES: dict[str, Place] = {
    "AKS, kubelet identity": machine,
    "AKS, workload identity": pod,
    "AKS, identity bindings": bound_pod,
    "Virtual machine": machine,
    "Scale set": machine,
    "Azure Arc": arc,
    "Container Apps": platform,
    "App Service": platform,
    "Service Fabric": service_fabric,
    "Anywhere, with a certificate": anywhere,
    "A managed identity as an application": federated,
}


@pytest.fixture
def ground(shared_entra: StandInEntra, authority: Authority, tmp_path: Path) -> Iterator[Ground]:
    made = Ground(shared_entra, authority, tmp_path)
    with made.stack:
        yield made


def test_each_section_is_a_place() -> None:
    assert SECTIONS.keys() == PLACES.keys()
    listed = re.findall(r"^\| \[([^]]+)\]\(#([\w-]+)\)", PAGE, re.M)
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in SECTIONS]
    assert [anchor for _, anchor in listed] == anchors


@pytest.mark.parametrize("name", PLACES)
def test_check_prints_the_lines(
    ground: Ground, target: Upstream, base_settings: dict[str, str], name: str
) -> None:
    section = SECTIONS[name]
    (block,) = re.findall(r"```dotenv\n(.*?)```", section, re.S)
    ((shown, endpoint),) = re.findall(
        r"```text\n✓ token +\d+ ms  (.*)\n +given by (.*)\n```", section
    )
    base = {key: text for key, text in base_settings.items() if "IDENTITY" not in key}
    own = dict(line.split("=", 1) for line in block.splitlines())
    check = Check(ground.folder, {**base, **own, **PLACES[name](ground)})
    assert check.step("token")["outcome"] == "ok", check.output
    assert check.step("token")["summary"] == shown
    given = check.step("token")["notes"][0].removeprefix("given by ")
    assert parts(given.replace(ground.entra.tenant, "TENANT")) == parts(endpoint)


def parts(url: str) -> tuple[str, str]:
    """Return what of an endpoint's URL is the same everywhere: its scheme and path."""
    return urlsplit(url).scheme, urlsplit(url).path
