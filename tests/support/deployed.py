"""The proxy as it is deployed: a published environment, an identity, a workspace's real name.

Environments are taken as they are published, with ids and host names. Real host
names lead to stand-ins on loopback by way of a forward proxy, so that there is no
DNS; ports, where a certificate lies, and SHUTDOWN_DELAY_SECONDS are all that
changes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from authproxy.demo.stand_ins.certificates import EphemeralCertificate
from authproxy.demo.stand_ins.loopback import Request
from authproxy.demo.stand_ins.loopback import Response as StoreResponse
from authproxy.demo.stand_ins.remote_write import HEADERS, Sample, encode
from authproxy.demo.stand_ins.store import WRITE_PATH
from tests.support.authority import Authority
from tests.support.client_certificates import client_authority
from tests.support.forward_proxy import ForwardProxy
from tests.support.process import ProxyProcess, free_port
from tests.support.stand_ins.applications import (
    Application,
    FederatedCredential,
    ServiceAccountIssuer,
)
from tests.support.stand_ins.entra import StandInEntra
from tests.support.stand_ins.machine import ManagedIdentity
from tests.support.stand_ins.store import StandInStore
from tests.support.wire import Response, message

#: Whom the webhook of workload identity makes a pod, and which one, unless a test says otherwise.
CLIENT = "a711a6a4-1052-44eb-bcad-182e2b604c7f"
SERVICE_ACCOUNT = "observability:aad-auth-proxy-sa"

#: Resources of other clouds: two that settings/audiences.py derives, and somebody's own.
SOVEREIGN = frozenset(
    {"https://monitor.azure.us", "https://monitor.azure.cn", "https://monitor.cloud.example"}
)

Started = Callable[[str], "Deployed"]


class Deployed:
    """One proxy, and an Entra and a workspace of its own."""

    def __init__(
        self,
        settings: Mapping[str, str],
        authority: Authority,
        folder: Path,
        *,
        client: str = CLIENT,
        service_account: str = SERVICE_ACCOUNT,
    ) -> None:
        self.settings = dict(settings)
        self.host = target_of(settings)
        self.entra = StandInEntra()
        self.entra.resources |= SOVEREIGN
        self.store = Workspace(self.entra, authority, self.host)
        self._authority = authority
        self._folder = folder
        self._webhook = (client, service_account)
        self._stack = ExitStack()

    def start(self) -> Deployed:
        """Return once the proxy is ready."""
        with ExitStack() as stack:
            stack.enter_context(self.entra)
            stack.enter_context(self.store)
            way = stack.enter_context(way_to(self.host, self._authority))
            around = identity_of(self.settings, self.entra, self._folder, *self._webhook)
            self.proxy = ProxyProcess({**way, **around, **self._relocated()})
            stack.push(self.proxy.__exit__)
            self.proxy.start()
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """End the proxy, which has to end in order."""
        self._stack.close()

    def _relocated(self) -> dict[str, str]:
        """Return the settings with this machine's ports and paths, without the listening port."""
        own = {
            "METRICS_PORT": str(free_port()),
            "SHUTDOWN_DELAY_SECONDS": "0",  # No load balancer has to notice.
            "AAD_CLIENT_CERTIFICATE_PATH": str(self._folder / "certificate"),
            "AZURE_CLIENT_CERTIFICATE_PATH": str(self._folder / "certificate"),
        }
        port = self.store.url.rpartition(":")[2]
        return {
            name: own[name] if name in own else value.replace(self.host, f"{self.host}:{port}")
            for name, value in self.settings.items()
            if name != "LISTENING_PORT"
        }

    @property
    def metrics_port(self) -> int:
        return int(self.proxy.settings["METRICS_PORT"])

    def write(self) -> Response:
        """Send a remote write of one sample of `up`."""
        body = encode([Sample.of("up", 1.0, int(time.time() * 1000), job="sample")])
        lines = [f"{name}: {value}" for name, value in HEADERS.items()]
        return self.proxy.ask(message(f"POST {WRITE_PATH}", *lines, body=body))

    @property
    def scopes(self) -> set[str]:
        """What tokens were asked for, as scopes."""
        return {
            # The App Service protocol has resources, the v2.0 endpoint has scopes.
            request.form.get("scope") or f"{request.query['resource']}/.default"
            for request in self.entra.requests
            if request.path.endswith("/token")
        }


class Workspace(StandInStore):
    """A store of a real workspace's name, which responds to a write as Azure does: with 200."""

    def __init__(self, entra: StandInEntra, authority: Authority, host: str) -> None:
        super().__init__(entra.signing_key, authority=_Names(authority, host))

    def _respond(self, request: Request) -> StoreResponse:
        response = super()._respond(request)
        return StoreResponse(200) if response.status == 204 else response


class _Names(EphemeralCertificate):
    """Has another authority issue the certificate, for `host`."""

    def __init__(self, authority: Authority, host: str) -> None:
        super().__init__()
        self._context = authority.context(host)

    def server_context(self) -> ssl.SSLContext:
        return self._context


@contextmanager
def started(make: Callable[[str], Deployed]) -> Iterator[Started]:
    """Start the one of a name when it is first asked for; all end together."""
    running: dict[str, Deployed] = {}

    def start(name: str) -> Deployed:
        if name not in running:
            running[name] = make(name).start()
        return running[name]

    # Each end may take seconds, where a collector is named that is not there.
    with ThreadPoolExecutor() as pool:
        try:
            yield start
        finally:
            ends = [pool.submit(each.stop) for each in running.values()]
    for end in ends:
        end.result()


def identity_of(
    settings: Mapping[str, str],
    entra: StandInEntra,
    folder: Path,
    client: str = CLIENT,
    service_account: str = SERVICE_ACCOUNT,
) -> dict[str, str]:
    """Give whoever has these settings an identity; return what else is in its environment.

    That is where the machine's managed identities are, or where Entra is, and for
    a workload identity what the webhook adds.
    """
    kind = settings.get("IDENTITY_TYPE", "").lower()
    client_id = settings.get("AAD_CLIENT_ID") or settings.get("AZURE_CLIENT_ID") or client
    if kind == "userassigned":
        entra.assign(ManagedIdentity(client_id))
    if kind in ("userassigned", "systemassigned"):
        return entra.managed_identity_environment()
    entra.tenant = settings.get("AAD_TENANT_ID") or settings.get("AZURE_TENANT_ID") or entra.tenant
    authority = {
        "AZURE_AUTHORITY_HOST": f"{entra.authority_host}/",
        "REQUESTS_CA_BUNDLE": str(entra.authority.write_bundle(folder / "entra-ca.pem")),
    }
    if kind == "aadapplication":
        certificate = client_authority().issue()
        entra.register(Application(client_id, certificates=(certificate.certificate,)))
        pem = settings.get("AAD_CLIENT_CERTIFICATE_PATH", "").endswith(".pem")
        # Else as the Secrets Store CSI driver writes it, under the certificate's bare name.
        (folder / "certificate").write_bytes(certificate.pem() if pem else certificate.pfx())
        return authority
    cluster = ServiceAccountIssuer()
    subject = f"system:serviceaccount:{service_account}"
    entra.register(Application(client, federated=(FederatedCredential(cluster, subject),)))
    token_file = folder / "azure-identity-token"
    token_file.write_text(cluster.token(subject, now=time.time()))
    return {
        **authority,
        "AZURE_CLIENT_ID": client,
        "AZURE_TENANT_ID": entra.tenant,
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
    }


def target_of(settings: Mapping[str, str]) -> str:
    """Return the host that requests go to."""
    url = settings.get("TARGET_HOST") or settings["INGESTION_URL"]
    host = urlsplit(url if "://" in url else f"//{url}").hostname
    assert host, url
    return host


@contextmanager
def way_to(host: str, authority: Authority) -> Iterator[dict[str, str]]:
    """Give the settings by which a port of `host` leads to that port on loopback.

    Nobody else may be asked for.
    """
    with ForwardProxy() as forward:
        yield {
            "HTTPS_PROXY": f"http://127.0.0.1:{forward.port}",
            "NO_PROXY": "127.0.0.1",
            "TARGET_CA_FILE": str(authority.bundle),
        }
        for head in forward.heads:
            assert head.startswith(f"CONNECT {host}:".encode()), head
