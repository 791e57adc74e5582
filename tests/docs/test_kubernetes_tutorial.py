"""docs/kubernetes.md, followed word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import authproxy
from tests.support import tutorial
from tests.support.logfmt import parse_line
from tests.support.manifests import MANIFESTS, Manifest, check_object
from tests.support.pages import Block, blocks
from tests.support.source import ROOT
from tests.support.tutorial import Shell

PAGE = ROOT / "docs" / "kubernetes.md"
COMMANDS = blocks(PAGE, "bash")

NODES = "deploy/kubernetes"
PODS = "deploy/kubernetes/workload-identity"
IDENTITIES = {
    "The kubelet's identity": (
        NODES,
        tutorial.KUBELET["clientId"],
        tutorial.KUBELET["objectId"],
    ),
    "A user-assigned identity": (NODES, tutorial.OWN["clientId"], tutorial.OWN["principalId"]),
    "A workload identity": (PODS, tutorial.OWN["clientId"], tutorial.OWN["principalId"]),
}


def under(heading: str) -> list[Block]:
    found = [block for block in COMMANDS if block.heading == heading]
    assert found, heading
    return found


def follow(shell: Shell, *headings: str) -> None:
    """Paste the commands under these headings, one block after the other, into one shell."""
    shell.run("\n".join(block.code for heading in headings for block in under(heading)))


@pytest.fixture(scope="module", params=IDENTITIES)
def identity(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shell(identity: str, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Where someone has followed all the steps for `identity`."""
    shell = Shell(tmp_path_factory.mktemp("tutorial"), ROOT)
    follow(
        shell,
        "1. Build the image",
        "2. Find the workspace",
        identity,
        "4. Assign the role",
        "5. Deploy",
        "Both through one deployment",
        "As a sidecar",
    )
    return shell


@pytest.mark.parametrize("name", ["ingestion.yaml", "query.yaml", "routes.yaml", "sidecar.yaml"])
def test_what_is_applied_is_the_manifest_with_ones_own_values(
    shell: Shell, identity: str, name: str
) -> None:
    folder, client, _ = IDENTITIES[identity]
    folder = NODES if name in ("routes.yaml", "sidecar.yaml") else folder
    assert [name] == [
        each["--filename"] for each in shell.given("kubectl", "apply") if each["--filename"] == name
    ]
    applied = Manifest(shell.read(name))
    for document in applied.objects:
        check_object(document)
    assert applied.proxy["image"] == f"myregistry.azurecr.io/authproxy:{authproxy.__version__}"
    environment = applied.environment
    if name == "routes.yaml":
        settings_file = yaml.safe_load(applied.one("ConfigMap")["data"]["authproxy.yaml"])
        targets = [route["target_host"] for route in settings_file["routes"]]
        assert targets == [tutorial.INGESTION_URL, tutorial.QUERY_ENDPOINT]
    elif name == "query.yaml":
        assert environment["TARGET_HOST"] == tutorial.QUERY_ENDPOINT
    else:
        assert environment["INGESTION_URL"] == tutorial.INGESTION_URL
    assert client == (applied.client_id or environment["AAD_CLIENT_ID"])
    # Nothing else was changed, and nothing was left that has to be.
    original = MANIFESTS[str((ROOT / folder / name).relative_to(ROOT / NODES))]
    assert environment.keys() == original.environment.keys()
    left = re.findall("example.com|workspace-abcd|1{8}", shell.read(name).read_text())
    assert left == []


def test_the_roles_are_assigned_where_they_count(shell: Shell, identity: str) -> None:
    principal = IDENTITIES[identity][2]
    given = shell.given("az", "role", "assignment", "create")
    assert {each["--assignee-object-id"] for each in given} == {principal}
    assert {each["--assignee-principal-type"] for each in given} == {"ServicePrincipal"}
    assert {each["--role"]: each["--scope"] for each in given} == {
        "Monitoring Metrics Publisher": tutorial.RULE_ID,
        "Monitoring Data Reader": tutorial.WORKSPACE_ID,
    }


def test_the_identity_gets_to_where_the_pods_are(shell: Shell, identity: str) -> None:
    assigned = shell.given("az", "vmss", "identity", "assign")
    trusted = shell.given("az", "identity", "federated-credential", "create")
    if identity == "A user-assigned identity":
        assert [each["--name"] for each in assigned] == tutorial.SCALE_SETS
        assert {each["--identities"] for each in assigned} == {tutorial.IDENTITY_ID}
    if identity != "A workload identity":
        assert not trusted
        return
    labelled = [manifest for manifest in MANIFESTS.values() if manifest.client_id]
    subjects = {f"system:serviceaccount:{manifest.service_account}" for manifest in labelled}
    assert {each["--subject"] for each in trusted} == subjects
    assert {each["--issuer"] for each in trusted} == {tutorial.ISSUER}
    assert {each["--audiences"] for each in trusted} == {"api://AzureADTokenExchange"}


def test_the_rollouts_that_are_waited_for_are_those_of_the_manifests(shell: Shell) -> None:
    waited = {each["status"] for each in shell.given("kubectl", "rollout", "status")}
    applied = [
        Manifest(shell.read(name)) for name in ("ingestion.yaml", "query.yaml", "routes.yaml")
    ]
    applied.append(Manifest(shell.read("sidecar.yaml")))
    assert waited == {
        f"{each.workload['kind'].lower()}/{each.workload['metadata']['name']}" for each in applied
    }


def test_the_services_that_clients_are_pointed_at_are_those_of_the_manifests() -> None:
    names = {
        f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
        for manifest in MANIFESTS.values()
        for service in manifest.all("Service")
    }
    told = set(re.findall(r"http://([\w.-]+\.svc)", PAGE.read_text()))
    assert told == {
        "authproxy-ingestion.observability.svc",
        "authproxy-query.observability.svc",
        "authproxy.observability.svc",
    }
    assert told <= names


def test_the_names_in_other_commands_are_those_of_the_manifests() -> None:
    text = "\n".join(block.code for block in COMMANDS)
    workloads = {
        f"{manifest.workload['kind'].lower()}/{manifest.workload['metadata']['name']}"
        for manifest in MANIFESTS.values()
    }
    assert set(re.findall(r"(?:deployment|statefulset)/[\w-]+", text)) == workloads
    apps = {manifest.template["metadata"]["labels"]["app"] for manifest in MANIFESTS.values()}
    assert set(re.findall(r"app=([\w-]+)", text)) <= apps
    ports = re.search(r"deployment/authproxy-query (\d+):(\d+)", text)
    assert ports
    assert int(ports[2]) == MANIFESTS["query.yaml"].ports["http"]


def test_the_log_line_that_is_promised_has_the_form_of_the_real_one() -> None:
    [line] = [block.code for block in blocks(PAGE, "text") if "StatusCode=200" in block.code]
    event = parse_line(line.strip())
    assert event["msg"] == "Successfully sent request, returning response back."
    # tests/e2e/test_manifests.py sees it come; the order is the retired proxy's.
    assert list(event) == [
        *("time", "level", "msg", "ContentLength", "Request", "StatusCode"),
        *("DurationMs", "Method", "Attempts", "Client"),
    ]


def test_each_file_is_linked(tmp_path: Path) -> None:
    linked = set(re.findall(r"\]\(\.\./deploy/kubernetes/([\w/.-]+)\)", PAGE.read_text()))
    assert linked == set(MANIFESTS)
