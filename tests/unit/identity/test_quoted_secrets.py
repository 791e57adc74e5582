"""An identity endpoint that quotes what it was sent, or gave out, in whatever form."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from authproxy.identity.credentials import FetchError
from tests.support import actions
from tests.support.authority import Authority
from tests.support.client_certificates import client_authority
from tests.support.fetching import fetcher
from tests.support.planted import left
from tests.support.quoting import QUOTED
from tests.support.upstream import Exchange, Upstream

#: As long as Entra's are, and an Azure App Service's header.
SECRET = "q8Q~Zx3kV9rT.u1W_yB5nM7cD2fG4hJ6kL8pR0sA"
HEADER = "853B9A84-5BFA-4B22-A3F3-0B9A43D9AD8A"

MANAGED = ["App Service", "Azure ML"]
KINDS = ["secret", "certificate", "workloadidentity", *MANAGED]


#: For all but one kind, as what masks is the same: tests/unit/redaction tries it with every form.
FEW = ["as it is", "base64 in lines", "hex", "percent-encoded, every third", "JSON in JSON"]


class QuotingEndpoint:
    """Entra and a managed identity endpoint in one: gives out a token, then only quotes."""

    def __init__(self, upstream: Upstream) -> None:
        self.form: str | None = None
        self.token = "opaque-" + SECRET[::-1] * 5
        #: With the latest request for a token.
        self.sent: set[str] = set()
        self._url = upstream.url
        upstream.respond(self._respond)

    def _respond(self, exchange: Exchange) -> None:
        form = parse_qs(exchange.read_body().decode())
        request = exchange.request
        if b"openid-configuration" in request.target:
            authority = f"{self._url}/tenant"
            names = ("authorization_endpoint", "token_endpoint", "issuer")
            self._say(exchange, 200, {name: f"{authority}/{name}" for name in names})
            return
        fields = ("client_secret", "client_assertion")
        self.sent = {value for name in fields for value in form.get(name, [])}
        self.sent |= {*request.all("X-IDENTITY-HEADER"), *request.all("secret")}
        if self.form is None:
            token = {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"}
            self._say(exchange, 200, {**token, "expires_on": 4102444800, "resource": "x"})
            return
        said = " and ".join(f"[[ {QUOTED[self.form](each)} ]]" for each in (*self.sent, self.token))
        self._say(exchange, 400, {"error": "invalid_client", "error_description": said})

    @staticmethod
    def _say(exchange: Exchange, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        exchange.send(actions.answer(status, "Content-Type: application/json", body=body))


@pytest.fixture
def upstream(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Upstream]:
    kind = request.node.callspec.params["kind"]
    upstream = Upstream(None if kind in MANAGED else authority.context())
    yield upstream
    upstream.close()


@pytest.fixture
def fetch(
    request: pytest.FixtureRequest,
    upstream: Upstream,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[], object]:
    for name in os.environ:
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_", "IMDS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    kind = request.node.callspec.params["kind"]
    settings: dict[str, Any] = {
        "aad_client_id": "11111111-1111-1111-1111-111111111111",
        "aad_tenant_id": "tenant",
        "aad_authority_host": upstream.url,
    }
    if kind == "secret":
        settings["aad_client_secret"] = SECRET
    elif kind == "certificate":
        (tmp_path / "client.pem").write_bytes(client_authority().issue().pem())
        settings["aad_client_certificate_path"] = str(tmp_path / "client.pem")
    elif kind == "workloadidentity":
        (tmp_path / "federated").write_text("kubernetes-" + SECRET * 3)
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "federated"))
    else:
        settings = {}
        names = {
            "App Service": ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"),
            "Azure ML": ("MSI_ENDPOINT", "MSI_SECRET"),
        }
        for name, value in zip(names[kind], (f"{upstream.url}/token", HEADER), strict=True):
            monkeypatch.setenv(name, value)
    types = {"workloadidentity": kind, **dict.fromkeys(MANAGED, "systemassigned")}
    return fetcher(types.get(kind, "aadapplication"), **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_has_any_of_it(kind: str, upstream: Upstream, fetch: Callable[[], object]) -> None:
    endpoint = QuotingEndpoint(upstream)
    assert fetch()
    for endpoint.form in QUOTED if kind == "secret" else FEW:
        with pytest.raises(FetchError) as raised:
            fetch()
        error = raised.value
        assert "***" in error.detail
        for text in (str(error), error.detail, error.summary):
            for secret in (*endpoint.sent, endpoint.token):
                assert not left(secret, text), (endpoint.form, text)
