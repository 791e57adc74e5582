"""Several targets in one release: what the value `routes` becomes, and what is refused."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from authproxy.settings import Settings
from tests.deploy.chart.test_network import IMDS, INTERNET, Peer, allows, policy_of
from tests.deploy.chart.test_settings import sample
from tests.support.helm import (
    CHART,
    Document,
    Helm,
    kinds,
    only,
    plain_environment,
    proxy_container,
)
from tests.support.pod import Pod
from tests.support.process import clean_environment
from tests.support.programs import LIMIT
from tools.chart_values import camel_case, chart_values

pytestmark = pytest.mark.real("helm")

VALUES = Path(__file__).parent / "values"
LEAST = VALUES / "default-identity.yaml"
EXAMPLE = CHART / "examples" / "routes.yaml"
SECRET = "s3cr3t~value"

Route = dict[str, Any]


def to(**values: Any) -> Route:
    return {"targetHost": "metrics.example.com", **values}


def arguments(*routes: Route, **outside: Any) -> list[str]:
    """Return what to give helm besides the least values."""
    values = {"targetHost": "", **outside, "routes": list(routes)}
    return [
        part
        for name, value in values.items()
        for part in ("--set-json", f"{name}={json.dumps(value)}")
    ]


def rendered(helm: Helm, *routes: Route, **outside: Any) -> list[Document]:
    return helm.render_file(LEAST, *arguments(*routes, **outside))


def entries(documents: list[Document]) -> list[Route]:
    """Return the routes of the settings file that is rendered."""
    if "ConfigMap" in kinds(documents):
        text = only(documents, "ConfigMap")["data"]["authproxy.yaml"]
    else:
        text = base64.b64decode(only(documents, "Secret")["data"]["authproxy.yaml"])
    found: list[Route] = yaml.safe_load(text)["routes"]
    return found


def volumes(documents: list[Document]) -> dict[str, Any]:
    every = only(documents, "Deployment")["spec"]["template"]["spec"]["volumes"]
    return {volume["name"]: volume for volume in every}


def test_every_setting_of_a_route_arrives_as_it_was_given(helm: Helm) -> None:
    instead = ("INGESTION_URL", "OVERRIDE_REQUEST_HEADERS")
    every = [one for one in chart_values() if one.setting.per_route and one.is_value]
    plain = [(one, *sample(one)) for one in every if one.setting.variable not in instead]
    headers = {"X-Scope-OrgID": "team"}
    route = {
        **{one.name: given for one, given, _ in plain},
        "identityType": "azureCli",  # The one type that needs nothing else.
        "overrideRequestHeaders": headers,
        "path": "/x",
    }
    (entry,) = entries(rendered(helm, route))
    assert json.loads(entry.pop("override_request_headers")) == headers
    expected = {one.setting.variable.lower(): text for one, _, text in plain}
    assert entry == {**expected, "identity_type": "azureCli", "path": "/x"}
    declared = Settings.declared.items()
    per_route = {name for name, one in declared if one.per_route and not one.kind.secret}
    assert {one.setting.variable for one, _, _ in plain} == per_route - set(instead)


def test_numbers_from_a_values_file_arrive_in_digits(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    route = to(path="/x", targetPoolSize=10000, targetConnectTimeoutSeconds=0.5)
    values.write_text(yaml.safe_dump({"targetHost": "", "routes": [route]}))
    (entry,) = entries(helm.render_file(LEAST, "--values", str(values)))
    assert entry["target_pool_size"] == "10000"
    assert entry["target_connect_timeout_seconds"] == "0.5"


def test_what_a_route_empties_is_not_inherited(helm: Helm) -> None:
    routes = [
        to(path="/a", inboundTokenFile="", aadTenantId=None),
        to(path="/b", inboundTokens=None),
        to(path="/c"),
    ]
    documents = rendered(helm, *routes, inboundTokens={"existingSecret": "x"}, aadTenantId="y")
    first, second, third = entries(documents)
    assert (first["inbound_token_file"], first["aad_tenant_id"]) == ("", "")
    assert second["inbound_token_file"] == ""
    assert "inbound_token_file" not in third


def test_the_file_is_mounted_read_only_and_named(helm: Helm) -> None:
    documents = helm.render_file(EXAMPLE)
    container = proxy_container(documents)
    path = Path(plain_environment(container)["AUTHPROXY_CONFIG"])
    (mount,) = (one for one in container["volumeMounts"] if one["mountPath"] == str(path.parent))
    assert mount["readOnly"] is True
    name = only(documents, "ConfigMap")["metadata"]["name"]
    assert volumes(documents)[mount["name"]]["configMap"]["name"] == name
    assert list(only(documents, "ConfigMap")["data"]) == [path.name]
    assert "TARGET_HOST" not in plain_environment(container)


def test_without_routes_there_is_no_such_file(helm: Helm) -> None:
    documents = helm.render_file(LEAST)
    assert "ConfigMap" not in kinds(documents)
    assert "AUTHPROXY_CONFIG" not in plain_environment(proxy_container(documents))
    assert set(volumes(documents)) == {"tmp"}


def test_a_change_of_a_route_is_a_new_rollout(helm: Helm) -> None:
    def annotations(**values: Any) -> Any:
        documents = rendered(helm, to(path="/x", **values))
        return only(documents, "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations(cluster="a") == annotations(cluster="a")
    assert annotations(cluster="a") != annotations(cluster="b")


def test_secrets_of_a_route_are_files_of_its_own(helm: Helm) -> None:
    application = {"identityType": "aadApplication", "aadClientId": "a", "aadTenantId": "b"}
    routes = [
        to(path="/a", **application, clientSecret={"existingSecret": "one"}),
        to(
            path="/b",
            **application,
            clientCertificate={"existingSecret": "two", "key": "x.pfx", "passwordKey": "p"},
            inboundTokens={"existingSecret": "three"},
        ),
    ]
    documents = rendered(helm, *routes)
    first, second = entries(documents)
    assert first["aad_client_secret_file"] == "/etc/authproxy/routes/0/client-secret/client-secret"
    folder = "/etc/authproxy/routes/1"
    assert second["aad_client_certificate_path"] == f"{folder}/client-certificate/x.pfx"
    assert second["aad_client_certificate_password_file"] == f"{folder}/client-certificate/p"
    assert second["inbound_token_file"] == f"{folder}/inbound-tokens/tokens"
    mounted = {
        mount["mountPath"]: volumes(documents)[mount["name"]]
        for mount in proxy_container(documents)["volumeMounts"]
    }
    for path, name, keys in (
        ("0/client-secret", "one", ["client-secret"]),
        ("1/client-certificate", "two", ["x.pfx", "p"]),
        ("1/inbound-tokens", "three", ["tokens"]),
    ):
        secret = mounted[f"/etc/authproxy/routes/{path}"]["secret"]
        assert (secret["secretName"], secret["defaultMode"]) == (name, 0o440)
        assert [item["key"] for item in secret["items"]] == keys


def test_a_certificate_of_a_route_has_no_password_of_another_one(helm: Helm) -> None:
    routes = [to(path="/a"), to(path="/b", clientCertificate={"existingSecret": "two"})]
    outside = {
        "clientCertificate": {"existingSecret": "one", "passwordKey": "p"},
        **{"identityType": "aadApplication", "aadClientId": "a", "aadTenantId": "b"},
    }
    first, second = entries(rendered(helm, *routes, **outside))
    assert "aad_client_certificate_password_file" not in first
    assert second["aad_client_certificate_password_file"] == ""


def test_header_fields_of_a_route_are_in_a_secret_and_nowhere_else(helm: Helm) -> None:
    documents = rendered(helm, to(path="/a", overrideRequestHeaders={"X-Key": SECRET}), to())
    assert "ConfigMap" not in kinds(documents)
    assert json.loads(entries(documents)[0]["override_request_headers"]) == {"X-Key": SECRET}
    assert SECRET not in json.dumps([one for one in documents if one["kind"] != "Secret"])
    secret = volumes(documents)["routes"]["secret"]
    assert secret["secretName"] == only(documents, "Secret")["metadata"]["name"]
    assert secret["defaultMode"] == 0o440


def test_the_example_is_what_authproxy_settings_shows(helm: Helm, tmp_path: Path) -> None:
    pod = Pod(helm.render_file(EXAMPLE), tmp_path, {})
    token_file = tmp_path / "token"
    token_file.write_text("x.y.z")
    environment = {
        **clean_environment(str(tmp_path)),
        **pod.webhook(token_file, "00000000-0000-0000-0000-000000000000"),
        **pod.environment,
    }
    command = [sys.executable, "-m", "authproxy", "settings"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert result.returncode == 0, result.stderr
    for shown in ("ingestion", "query", "https://monitor.azure.com/.default"):
        assert shown in result.stdout
    assert "https://prometheus.monitor.azure.com/.default" in result.stdout


def test_every_targets_port_is_open_and_the_node_where_any_route_needs_it(helm: Helm) -> None:
    workload = {"identityType": "workloadIdentity", "aadClientId": "x"}
    routes = [
        to(path="/a", **workload, targetHost="a.example.com:8443"),
        to(path="/b", **workload, targetHost="http://b.example.com"),
    ]
    policy = policy_of(helm, LEAST, *arguments(*routes))
    for port in (443, 8443, 80):
        assert allows(policy, "egress", INTERNET, port)
    assert not allows(policy, "egress", INTERNET, 8080)
    assert {"port": 80, "protocol": "TCP"} in policy["spec"]["egress"][1]["ports"]
    policy = policy_of(helm, LEAST, *arguments(to(path="/a", **workload)))
    assert not allows(policy, "egress", Peer(address=IMDS), 80)
    policy = policy_of(helm, LEAST, *arguments(to(path="/a", **workload), to(path="/b")))
    assert allows(policy, "egress", Peer(address=IMDS), 80)
    assert not allows(policy, "egress", INTERNET, 80)


def test_a_workload_identity_of_a_route_labels_the_pods_and_names_the_account(helm: Helm) -> None:
    routes = [to(path="/a"), to(path="/b", identityType="workloadIdentity", aadClientId="x")]
    documents = rendered(helm, *routes, identityType="systemAssigned")
    labels = only(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["azure.workload.identity/use"] == "true"
    annotations = only(documents, "ServiceAccount")["metadata"]["annotations"]
    assert annotations == {"azure.workload.identity/client-id": "x"}


#: Routes and what is outside of them, and what helm has to say.
TABLE: dict[str, tuple[list[Any], dict[str, Any], str, str]] = {
    "no list": (["x"], {}, "routes.0: Invalid type", "object"),
    "no target": ([{"path": "/a"}], {}, "routes[0].targetHost: it is required", "ingestionUrl"),
    "two targets": (
        [to(ingestionUrl="https://x.example.com/api/v1/write")],
        {},
        "routes[0].ingestionUrl='https://x.example.com/api/v1/write': it is set besides",
        "Keep ingestionUrl for remote write alone",
    ),
    "a target outside": (
        [to(path="/a")],
        {"targetHost": "b.example.com"},
        "targetHost='b.example.com': it is set besides routes",
        "Move it into a route",
    ),
    "an unknown value": (
        [to(), to(path="/a", targetHosts="x")],
        {},
        "routes[1].targetHosts: there is no such value",
        "Did you mean targetHost?",
    ),
    "a value of the release": (
        [to(listeningPort=1)],
        {},
        "routes[0].listeningPort: it is a value of the whole release",
        "Move it out of the route",
    ),
    "headers from a Secret": (
        [to(overrideRequestHeadersSecret={"name": "x"})],
        {},
        "routes[0].overrideRequestHeadersSecret: it is a value of the whole release",
        "Move it out of the route",
    ),
    "a secret as a value": (
        [to(aadClientSecret=SECRET)],
        {},
        "routes[0].aadClientSecret: there is no such value",
        "name that in clientSecret.existingSecret",
    ),
    "a wrong number": (
        [to(targetReadTimeoutSeconds="0")],
        {},
        "routes[0].targetReadTimeoutSeconds='0': it is out of range",
        "above 0, up to 3600",
    ),
    "a wrong type": ([to(aadClientId=[1])], {}, "routes.0.aadClientId: Invalid type", "string"),
    "a mistyped key of a Secret": (
        [to(clientSecret={"existingSecrets": "x"})],
        {},
        "existingSecrets is not allowed",
        "routes.0.clientSecret",
    ),
    "an unknown identity": (
        [to(identityType="managed")],
        {},
        "routes[0].identityType='managed': it is none of the known values",
        "Give one of: default",
    ),
    "no client id": (
        [to(identityType="userAssigned")],
        {},
        "routes[0].aadClientId: it is required with identityType=userassigned",
        "Set it to the client id",
    ),
    "nothing to show": (
        [to(identityType="aadApplication", aadClientId="a", aadTenantId="b")],
        {},
        "routes[0].clientCertificate.existingSecret: identityType=aadapplication needs",
        "Name a Secret",
    ),
    "a path besides a mounted Secret": (
        [to(inboundTokenFile="/x", inboundTokens={"existingSecret": "y"})],
        {},
        "routes[0].inboundTokenFile='/x': it is set besides what is mounted",
        "Keep one of them",
    ),
    "headers that are no JSON": (
        [to(overrideRequestHeaders=f"X-Key: {SECRET}")],
        {},
        "routes[0].overrideRequestHeaders='***': it is no JSON object",
        "or a mapping",
    ),
    "a path without a slash": (
        [to(path="query")],
        {},
        "routes[0].path='query': it does not begin with a slash",
        "such as /query",
    ),
    "neither true nor false": (
        [to(stripPath="perhaps")],
        {},
        "routes[0].stripPath='perhaps': it is neither",
        "Give true or false",
    ),
    "the same requests": (
        [to(name="a", path="/x", host="A.example.com"), to(path="/x/", host="a.example.com")],
        {},
        "routes[1].path='/x': the requests of this route are those of route a already",
        "Give each a host or path of its own",
    ),
    "the same name": (
        [to(name="/x"), to(path="/x")],
        {},
        "routes[1].name='/x': two routes have this name",
        "Give each a name of its own",
    ),
    "a settings file besides": (
        [to()],
        {"extraEnv": [{"name": "AUTHPROXY_CONFIG", "value": "/x.yaml"}]},
        "extraEnv.AUTHPROXY_CONFIG: the chart sets it already",
        "Remove it here, or routes",
    ),
}


@pytest.mark.parametrize("row", TABLE)
def test_a_wrong_route_is_refused_with_its_name_and_its_hint(helm: Helm, row: str) -> None:
    routes, outside, named, hint = TABLE[row]
    given = arguments(*routes, **outside)
    said = " ".join(helm.faults("--values", str(LEAST), *given).replace('"', "'").split())
    assert named in said
    assert hint in said
    assert SECRET not in said
    assert "nil pointer" not in said


def test_what_a_route_inherits_is_no_fault_and_what_it_displaces_neither(helm: Helm) -> None:
    shown = {"clientCertificate": {"existingSecret": "x"}, "aadClientId": "a", "aadTenantId": "b"}
    routes = [to(path="/a"), to(path="/b", clientSecret={"existingSecret": "y"})]
    assert rendered(helm, *routes, **shown, identityType="aadApplication")
    # Where all have their own, there need be none outside.
    own = [to(path="/a", aadClientId="a", aadTenantId="b", clientSecret={"existingSecret": "y"})]
    assert rendered(helm, *own, identityType="aadApplication")


def test_a_settings_file_of_ones_own_may_say_everything(helm: Helm) -> None:
    settings_file = [{"name": "AUTHPROXY_CONFIG", "value": "/etc/own/authproxy.yaml"}]
    assert rendered(helm, extraEnv=settings_file)


def test_the_names_of_a_route_are_settings_in_camel_case() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    described = schema["properties"]["routes"]["items"]["properties"]
    beside = {"name", "host", "path", "stripPath", "clientSecret", "clientCertificate"}
    names = {camel_case(one.variable) for one in Settings.declared.values() if one.per_route}
    secrets = {"aadClientSecret", "aadClientCertificatePassword"}
    assert set(described) == (names - secrets) | beside | {"inboundTokens"}
