"""Each identity type asks its own source, and whose token came is told."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response
from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.client_certificates import ClientAuthority
from tests.support.diagnosing import Check
from tests.support.endpoints import Endpoint, whole
from tests.support.identity import AUDIENCE, SECRET, labelled_pod
from tests.support.logfmt import parse_line
from tests.support.process import free_port
from tests.support.routes import to, write_routes
from tests.support.scrape import get
from tests.support.stand_ins.applications import (
    Application,
    FederatedCredential,
    ServiceAccountIssuer,
)
from tests.support.stand_ins.entra import StandInEntra
from tests.support.stand_ins.machine import IMDS_PATH, MACHINE, TOKEN_EXCHANGE, ManagedIdentity
from tests.support.status import status_of
from tests.support.upstream import Upstream

#: What the base settings lead to App Service's endpoint with.
APP_SERVICE = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")


PASSWORD = "pass word"


@pytest.fixture
def entra() -> Iterator[StandInEntra]:
    with StandInEntra() as own:
        yield own


@pytest.fixture
def pod(entra: StandInEntra, tmp_path: Path) -> dict[str, str]:
    """A pod with the webhook's label, on a node whose endpoint can be reached."""
    return {**labelled_pod(entra, tmp_path), **entra.machine_environment()}


Run = Callable[..., Check]


@pytest.fixture
def check(base_settings: dict[str, str], tmp_path: Path) -> Run:
    """Start a check on a machine without App Service's endpoint."""

    def start(**settings: str) -> Check:
        base = {name: text for name, text in base_settings.items() if name not in APP_SERVICE}
        return Check(tmp_path, {**base, **settings})

    return start


def bearer(entra: StandInEntra, target: Upstream) -> dict[str, Any]:
    """Return the claims of the token in the latest request that the target got."""
    sent = (target.requests[-1].one("Authorization") or "").removeprefix("Bearer ")
    [issued] = [each for each in entra.issued if each.value == sent]
    return issued.claims


# The identity that was asked for, and no other.

#: The settings that name a user-assigned identity, and what they have of it.
IDS = {
    "AAD_CLIENT_ID": "client_id",
    "AAD_RESOURCE_ID": "resource_id",
    "AAD_OBJECT_ID": "object_id",
}


def test_routes_in_a_labelled_pod_get_each_the_token_of_its_own_identity(
    launch: Launch, target: Upstream, entra: StandInEntra, pod: dict[str, str], tmp_path: Path
) -> None:
    assert entra.system_assigned is not None
    assigned, other = entra.assign(), entra.assign()
    wanted = {
        "/system": entra.system_assigned.client_id,
        "/user": assigned.client_id,
        "/by-resource": other.client_id,
        "/by-object": other.client_id,
        "/pod": pod["AZURE_CLIENT_ID"],
    }
    routes = [
        to(target, path="/system", identity_type="systemAssigned"),
        to(target, path="/user", identity_type="userAssigned", aad_client_id=assigned.client_id),
        to(
            target,
            path="/by-resource",
            identity_type="userAssigned",
            aad_resource_id=other.resource_id,
        ),
        to(target, path="/by-object", identity_type="userAssigned", aad_object_id=other.object_id),
        to(target, path="/pod", identity_type="workloadIdentity"),
    ]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    without = ("TARGET_HOST", "IDENTITY_TYPE", *APP_SERVICE)
    port = free_port()
    proxy = launch(without=without, AUTHPROXY_CONFIG=str(config), METRICS_PORT=str(port), **pod)
    proxy.wait_for_every_route()
    for path, client_id in wanted.items():
        assert proxy.get(f"{path}/x").status == 200
        assert bearer(entra, target)["appid"] == client_id, path
        proxy.wait_for_line(f"Token refreshed.*{client_id}")
    # Who gave each is told, in the log and on the page.
    lines = [line for line in proxy.log.splitlines() if "Token refreshed" in line]
    events = {event["AppID"]: event for event in map(parse_line, lines)}
    imds = entra.machine_environment()["AZURE_POD_IDENTITY_AUTHORITY_HOST"] + IMDS_PATH
    for path, client_id in wanted.items():
        endpoint = f"{entra.authority_host}/{entra.tenant}/oauth2/v2.0/token"
        assert events[client_id]["Endpoint"] == (endpoint if path == "/pod" else imds)
    assert events[assigned.client_id]["ObjectID"] == assigned.object_id
    tokens = [token for route in status_of(port)["routes"] for token in route["tokens"]]
    assert {token["appid"]: token["endpoint"] for token in tokens} == {
        client_id: event["Endpoint"] for client_id, event in events.items()
    }
    assert imds in get(port, "/status").body


def test_check_says_who_gave_the_token(
    check: Run, target: Upstream, entra: StandInEntra, pod: dict[str, str]
) -> None:
    assert entra.system_assigned is not None
    done = check(**pod)
    assert done.status == 0, done.output
    facts = done.step("token")["facts"]
    assert facts["endpoint"].endswith(IMDS_PATH)
    assert facts["claims"]["appid"] == entra.system_assigned.client_id


def test_check_fails_where_the_machine_gives_a_user_assigned_identity_for_its_own(
    check: Run, target: Upstream, entra: StandInEntra
) -> None:
    """As virtual machines do that have one user-assigned identity and none of their own."""
    entra.system_assigned = None
    only = entra.assign()
    done = check(**entra.machine_environment())
    assert done.status == 1
    assert done.outcomes["token"] == "failed"
    advice = done.advice("token")
    assert only.resource_id in advice
    assert f"IDENTITY_TYPE=userassigned and AAD_CLIENT_ID={only.client_id}" in advice


def test_serve_warns_once_of_a_token_of_another_identity_and_says_what_check_says(
    launch: Launch, check: Run, target: Upstream, entra: StandInEntra
) -> None:
    entra.system_assigned = None
    only = entra.assign()
    machine, port = entra.machine_environment(), free_port()
    checked = check(**machine)
    proxy = launch(without=APP_SERVICE, METRICS_PORT=str(port), **machine)
    target.on("/refused", actions.raw(actions.answer(401)))
    assert proxy.get("/refused").status == 401
    proxy.wait_for_tokens(2)  # the second one for that 401
    proxy.mark()
    assert proxy.log.count('"Token refreshed"') == 2
    assert proxy.log.count('"Token of another identity"') == 1
    event = proxy.wait_for_event("Token of another identity")
    assert (event["level"], event["AppID"]) == ("warning", only.client_id)
    status = status_of(port)
    assert status["state"] == "ready, with trouble"
    told = status["routes"][0]["tokens"][0]["mismatch"]
    assert only.resource_id in told["cause"]
    assert event["Cause"] == f"{told['cause']} ({told['code']}). {told['hint']}."
    assert f"{told['cause']} ({told['code']})\n{told['hint']}" in checked.advice("token")
    assert "trouble amber" in get(port, "/status").body


def test_on_service_fabric_the_cluster_may_choose_a_user_assigned_identity(
    check: Run, target: Upstream, entra: StandInEntra, authority: Authority
) -> None:
    user = ManagedIdentity()
    token = entra.issue(AUDIENCE, user.client_id, user.object_id, xms_mirid=user.resource_id)
    content = {"access_token": token.value, "expires_on": str(int(time.time()) + 3600)}
    response = whole(json.dumps(content).encode())
    with Endpoint(lambda: iter([response]), authority.context()) as endpoint:
        done = check(
            IDENTITY_TYPE="systemAssigned",
            IDENTITY_ENDPOINT=f"{endpoint.url}/token",
            IDENTITY_HEADER="header",
            IDENTITY_SERVER_THUMBPRINT=endpoint.thumbprint,
        )
        assert done.step("token")["facts"]["claims"]["appid"] == user.client_id
        assert done.step("token")["outcome"] == "ok"


def test_check_fails_where_the_token_is_anothers(
    check: Run, target: Upstream, entra: StandInEntra
) -> None:
    another = ManagedIdentity(resource_id=MACHINE)
    absent = ManagedIdentity()
    token = entra.issue(
        AUDIENCE, another.client_id, another.object_id, xms_mirid=another.resource_id
    )
    content = {"access_token": token.value, "expires_in": 3600, "token_type": "Bearer"}
    with Endpoint(lambda: iter([whole(json.dumps(content).encode())])) as endpoint:
        checks = {
            name: check(
                IDENTITY_TYPE="userassigned",
                AZURE_POD_IDENTITY_AUTHORITY_HOST=endpoint.url,
                **{name: getattr(absent, attribute)},
            )
            for name, attribute in IDS.items()
        }
        for name, done in checks.items():
            assert done.status == 1
            of_the_token = getattr(another, IDS[name])
            assert f"{name} is {getattr(absent, IDS[name])}" in done.advice("token")
            assert f"and the token is for {of_the_token}" in done.advice("token")


# Certificates and secrets as people have them.


def test_an_applications_credential_is_taken_in_every_form_that_people_have(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    issued = ClientAuthority().issue()
    pem = issued.pem()
    start = pem.index(b"-----BEGIN CERTIFICATE")
    files = {
        "tls.key": pem[:start],
        "tls.crt": pem[start:],
        "key-vault": b64encode(issued.pfx(PASSWORD.encode())),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    registered = Application(secret=SECRET, certificates=(issued.certificate,))
    given = entra.application_environment(entra.register(registered), tmp_path / "entra-ca.pem")
    routes = [
        to(
            target,
            path="/files",
            aad_client_certificate_path=str(tmp_path / "tls.crt"),
            aad_client_certificate_key_path=str(tmp_path / "tls.key"),
        ),
        to(target, path="/key-vault", aad_client_certificate_path=str(tmp_path / "key-vault")),
        to(target, path="/secret"),
    ]
    proxy = launch(
        without=("TARGET_HOST", *APP_SERVICE),
        AUTHPROXY_CONFIG=str(write_routes(tmp_path / "authproxy.yaml", routes)),
        **{**given, "IDENTITY_TYPE": "aadApplication"},
        AZURE_CLIENT_CERTIFICATE_PASSWORD=PASSWORD,
        AZURE_CLIENT_SECRET=SECRET,
    )
    proxy.wait_for_every_route()
    for path, proof in {"/files": "2", "/key-vault": "2", "/secret": "1"}.items():
        assert proxy.get(f"{path}/x").status == 200
        assert bearer(entra, target)["appidacr"] == proof, path
    for secret in (PASSWORD, SECRET):
        assert secret not in proxy.log


def test_a_resource_id_for_a_client_id_and_an_ec_key_are_faults_that_say_so(
    check: Run, entra: StandInEntra, tmp_path: Path
) -> None:
    misplaced = check(IDENTITY_TYPE="userAssigned", AAD_CLIENT_ID=ManagedIdentity().resource_id)
    issued = trustme.CA().issue_cert("client.example.com", key_type=trustme.KeyType.ECDSA)
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "ec.pem")
    given = entra.application_environment(Application(), tmp_path / "entra-ca.pem")
    of_ec = check(
        **given,
        IDENTITY_TYPE="aadApplication",
        AAD_CLIENT_CERTIFICATE_PATH=str(tmp_path / "ec.pem"),
    )
    assert (misplaced.status, of_ec.status) == (2, 2)
    assert "AAD_CLIENT_ID: it is a resource id" in misplaced.advice("settings")
    assert "AAD_RESOURCE_ID" in misplaced.advice("settings")
    assert "not an RSA key" in of_ec.advice("settings")


# A managed identity as an application's credential.


def test_a_managed_identity_proves_applications_of_its_own_and_of_another_tenant(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    assert entra.system_assigned is not None
    user = entra.assign()
    with StandInEntra() as abroad:
        abroad.tenant = "00000000-0000-4000-8000-00000000cccc"
        here = entra.register(Application(federated=(entra.trust_in(entra.system_assigned),)))
        there = abroad.register(Application(federated=(entra.trust_in(user),)))
        both = (entra, abroad)
        bundles = [each.authority.write_bundle(tmp_path / "ca.pem").read_text() for each in both]
        (tmp_path / "ca.pem").write_text("".join(bundles))
        routes = [
            to(
                target,
                path="/here",
                aad_tenant_id=entra.tenant,
                aad_client_id=here.client_id,
                aad_authority_host=entra.authority_host,
                aad_federated_identity="systemAssigned",
            ),
            to(
                target,
                path="/there",
                aad_tenant_id=abroad.tenant,
                aad_client_id=there.client_id,
                aad_authority_host=abroad.authority_host,
                aad_federated_identity=user.client_id,
            ),
        ]
        proxy = launch(
            without=("TARGET_HOST", *APP_SERVICE),
            AUTHPROXY_CONFIG=str(write_routes(tmp_path / "authproxy.yaml", routes)),
            **{**entra.machine_environment(), "IDENTITY_TYPE": "aadApplication"},
            REQUESTS_CA_BUNDLE=str(tmp_path / "ca.pem"),
        )
        proxy.wait_for_every_route()
        for path, giver, application in (("/here", entra, here), ("/there", abroad, there)):
            assert proxy.get(f"{path}/x").status == 200
            claims = bearer(giver, target)
            assert (claims["appid"], claims["tid"]) == (application.client_id, giver.tenant)
        proofs = [each.value for each in entra.issued if each.claims["aud"] == TOKEN_EXCHANGE]
        assert len(proofs) == 2
        assert not any(proof in proxy.log for proof in proofs)


def test_check_tells_which_federated_credential_the_application_lacks(
    check: Run, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    assert entra.system_assigned is not None
    application = entra.register(Application())
    done = check(
        **entra.machine_environment(),
        **entra.application_environment(application, tmp_path / "ca.pem"),
        IDENTITY_TYPE="aadApplication",
        AAD_FEDERATED_IDENTITY="systemAssigned",
    )
    assert done.status == 1
    told = done.step("token")["facts"]["assertion"]
    assert told["sub"] == entra.system_assigned.object_id
    advice = done.advice("token")
    assert "AAD_FEDERATED_IDENTITY" in advice
    assert "service account" not in advice
    assert f"az ad app federated-credential create --id {application.client_id}" in advice


# AKS identity bindings.


@pytest.fixture
def bound_pod(entra: StandInEntra, pod: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A pod of an identity binding: Entra cannot be reached, but through the API server."""
    token = ServiceAccountIssuer().token(
        "system:serviceaccount:monitoring:authproxy",
        now=time.time(),
        audience="api://AKSIdentityBinding",
    )
    Path(pod["AZURE_FEDERATED_TOKEN_FILE"]).write_text(token)
    ca_file = tmp_path / "cluster-ca.pem"
    Path(pod["REQUESTS_CA_BUNDLE"]).replace(ca_file)
    del pod["REQUESTS_CA_BUNDLE"]
    return {
        **pod,
        "IDENTITY_TYPE": "workloadIdentity",
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com",
        "AZURE_KUBERNETES_CA_FILE": str(ca_file),
        "AZURE_KUBERNETES_SNI_NAME": "localhost",
        # Nothing goes through it.
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "NO_PROXY": "localhost",
    }


def api_server(
    entra: StandInEntra, pod: dict[str, str], refusal: dict[str, str] | None = None
) -> LoopbackServer:
    """Return a server that exchanges the pod's token, as the API server of its cluster does."""

    def answer(request: Request) -> Response:
        assert request.path == f"/proxy/{entra.tenant}/oauth2/v2.0/token", request.path
        assert request.headers["Host"].startswith("127.0.0.1")
        if refusal is not None:
            return Response.of_json(401, refusal)
        proof = Path(pod["AZURE_FEDERATED_TOKEN_FILE"]).read_text()
        assert request.form["client_assertion"] == proof
        resource = request.form["scope"].removesuffix("/.default")
        token = entra.issue(resource, request.form["client_id"], "object-id")
        content = {"access_token": token.value, "expires_in": 3600, "token_type": "Bearer"}
        return Response.of_json(200, content)

    return LoopbackServer(answer, tls=entra.authority.server_context())


def test_a_bound_pod_gets_its_token_through_the_api_server_alone(
    launch: Launch, target: Upstream, entra: StandInEntra, bound_pod: dict[str, str]
) -> None:
    server = api_server(entra, bound_pod)
    server.start()
    try:
        url = f"{server.url}/proxy"
        proxy = launch(without=APP_SERVICE, AZURE_KUBERNETES_TOKEN_PROXY=url, **bound_pod)
        assert proxy.get("/x").status == 200
        assert bearer(entra, target)["appid"] == bound_pod["AZURE_CLIENT_ID"]
        endpoint = proxy.wait_for_event("Token refreshed")["Endpoint"]
        assert endpoint == f"{url}/{entra.tenant}/oauth2/v2.0/token"
    finally:
        server.stop()


def test_what_a_binding_refuses_is_not_blamed_on_a_federated_credential(
    check: Run, target: Upstream, entra: StandInEntra, bound_pod: dict[str, str]
) -> None:
    said = "AADSTS700212: No matching federated identity record found for presented assertion"
    refusal = {"error": "invalid_client", "error_description": said}
    server = api_server(entra, bound_pod, refusal)
    server.start()
    try:
        done = check(AZURE_KUBERNETES_TOKEN_PROXY=f"{server.url}/proxy", **bound_pod)
        assert done.status == 1
    finally:
        server.stop()
    token = done.step("token")
    assert token["facts"]["code"] == "AADSTS700212"
    assert token["facts"]["assertion"]["aud"] == "api://AKSIdentityBinding"
    advice = done.advice("token")
    assert "use-managed-identity" in advice
    assert "federated-credential create" not in advice


def test_the_default_identity_of_a_pod_is_its_workload_identity_or_none(
    check: Run, target: Upstream, entra: StandInEntra, bound_pod: dict[str, str]
) -> None:
    """Neither the node's, nor that of a binding, which the SDK's chain does not use."""
    given = {
        **bound_pod,
        "IDENTITY_TYPE": "default",
        "AZURE_AUTHORITY_HOST": entra.authority_host,
        "REQUESTS_CA_BUNDLE": bound_pod["AZURE_KUBERNETES_CA_FILE"],
        "HTTPS_PROXY": "",
    }
    done = check(AZURE_KUBERNETES_TOKEN_PROXY="https://127.0.0.1:1", **given)
    assert done.status == 1
    assert done.step("token")["facts"]["code"] == "AADSTS70021"
    assert "Set IDENTITY_TYPE=workloadIdentity" in done.advice("token")
    assert "federated-credential" not in done.advice("token")
    assert not entra.issued


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"AZURE_KUBERNETES_TOKEN_PROXY": "http://10.0.0.1"}, "AZURE_KUBERNETES_TOKEN_PROXY"),
        ({"AZURE_KUBERNETES_TOKEN_PROXY": ""}, "AZURE_KUBERNETES_SNI_NAME"),
        ({"AZURE_KUBERNETES_CA_DATA": "x"}, "AZURE_KUBERNETES_CA_FILE"),
        ({"AZURE_KUBERNETES_CA_FILE": "/absent"}, "AZURE_KUBERNETES_CA_FILE"),
    ],
)
def test_an_environment_of_a_binding_that_cannot_be_used_is_a_fault(
    check: Run, bound_pod: dict[str, str], changes: dict[str, str], variable: str
) -> None:
    given = {"AZURE_KUBERNETES_TOKEN_PROXY": "https://10.0.0.1", **bound_pod, **changes}
    done = check(**given)
    assert done.status == 2
    [fault] = done.step("settings")["facts"]["faults"]
    assert fault["setting"] == variable


# A route has an identity of its own, with everything.


def test_routes_may_be_other_workloads_than_the_pod(
    launch: Launch, target: Upstream, entra: StandInEntra, pod: dict[str, str], tmp_path: Path
) -> None:
    cluster, subject = ServiceAccountIssuer("https://other.example.com/"), "system:other"
    other = entra.register(Application(federated=(FederatedCredential(cluster, subject),)))
    file = tmp_path / "other-token"
    file.write_text(cluster.token(subject, now=time.time()))
    routes = [
        to(target, path="/pod"),
        to(
            target,
            path="/other",
            aad_client_id=other.client_id,
            aad_federated_token_file=str(file),
        ),
    ]
    config = write_routes(tmp_path / "authproxy.yaml", routes)
    given = {**pod, "IDENTITY_TYPE": "workloadIdentity", "AUTHPROXY_CONFIG": str(config)}
    proxy = launch(without=("TARGET_HOST", *APP_SERVICE), **given)
    proxy.wait_for_every_route()
    for path, client_id in {"/pod": pod["AZURE_CLIENT_ID"], "/other": other.client_id}.items():
        assert proxy.get(f"{path}/x").status == 200
        assert bearer(entra, target)["appid"] == client_id


def test_a_regional_endpoint_is_asked_where_the_sdk_is_told_so(
    check: Run, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    application = entra.register(Application(secret=SECRET))
    done = check(
        **entra.machine_environment(),
        **entra.application_environment(application, tmp_path / "ca.pem"),
        IDENTITY_TYPE="aadApplication",
        AAD_CLIENT_SECRET=SECRET,
        AZURE_REGIONAL_AUTHORITY_NAME="westeurope",
    )
    assert done.status == 1
    assert "westeurope.127.0.0.1" in done.step("token")["facts"]["message"]
