"""Who may connect to a pod, and where it may connect to: the NetworkPolicy, evaluated."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import StandInCluster
from tests.support.helm import NAMESPACE, RELEASE, Helm, is_test, only

pytestmark = pytest.mark.real("helm")

VALUES = Path(__file__).parent / "values"
LEAST = VALUES / "default-identity.yaml"
IMDS = "169.254.169.254"


@dataclass(frozen=True)
class Peer:
    """The other end: a pod of a namespace, or an address outside."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    address: str = ""

    def fits(self, peer: dict[str, Any]) -> bool:
        """Tell whether a rule's peer means this one (NetworkPolicyPeer)."""
        if "ipBlock" in peer:
            network = ipaddress.ip_network(peer["ipBlock"]["cidr"])
            return bool(self.address) and ipaddress.ip_address(self.address) in network
        if self.address:
            return False
        if "namespaceSelector" in peer:
            wanted = peer["namespaceSelector"].get("matchLabels", {})
            if not wanted.items() <= {"kubernetes.io/metadata.name": self.namespace}.items():
                return False
        elif self.namespace != NAMESPACE:
            return False
        selector = peer.get("podSelector", {})
        assert set(selector) <= {"matchLabels"}
        return bool(selector.get("matchLabels", {}).items() <= self.labels.items())


NEIGHBOUR = Peer(NAMESPACE, {"app": "neighbour"})
STRANGER = Peer("elsewhere", {"app": "stranger"})
PROMETHEUS = Peer("monitoring", {"app.kubernetes.io/name": "prometheus"})
INTERNET = Peer(address="203.0.113.1")
EVERYBODY = {
    "client": Peer(NAMESPACE, {"app": "writer", f"{RELEASE}-authproxy-client": "true"}),
    "another release's client": Peer(NAMESPACE, {"other-authproxy-client": "true"}),
    "neighbour": NEIGHBOUR,
    "prometheus here": Peer(NAMESPACE, {"app.kubernetes.io/name": "prometheus"}),
    "stranger": STRANGER,
    "a stranger with the label": Peer("elsewhere", {f"{RELEASE}-authproxy-client": "true"}),
    "prometheus": PROMETHEUS,
    "internet": INTERNET,
}


def allows(policy: dict[str, Any], way: str, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Tell whether a policy lets a connection pass: `way` is ingress or egress."""
    spec = policy["spec"]
    if way.capitalize() not in spec["policyTypes"]:
        return True
    end = {"ingress": "from", "egress": "to"}[way]
    return any(
        (end not in rule or any(peer.fits(one) for one in rule[end]))
        and ("ports" not in rule or {"port": port, "protocol": protocol} in rule["ports"])
        for rule in spec[way]
    )


def policy_of(helm: Helm, values: Path, *arguments: str) -> dict[str, Any]:
    return only(helm.render_file(values, *arguments), "NetworkPolicy")


def who_may_connect(policy: dict[str, Any], port: int) -> set[str]:
    """Return the names of those among EVERYBODY who may connect."""
    return {name for name, peer in EVERYBODY.items() if allows(policy, "ingress", peer, port)}


METRICS = ("--set", "metricsPort=9090")


def test_it_is_closed_to_all_but_those_who_are_named(helm: Helm) -> None:
    policy = policy_of(helm, LEAST, *METRICS)
    assert who_may_connect(policy, 8081) == {"client"}
    assert who_may_connect(policy, 9090) == {"prometheus here"}
    assert who_may_connect(policy_of(helm, LEAST), 9090) == set()


def test_one_value_opens_it_to_the_namespace(helm: Helm) -> None:
    policy = policy_of(helm, LEAST, *METRICS, "--set", "networkPolicy.allowSameNamespace=true")
    here = {name for name, peer in EVERYBODY.items() if peer.namespace == NAMESPACE}
    assert who_may_connect(policy, 8081) == who_may_connect(policy, 9090) == here


def test_who_sends_requests_and_who_scrapes_are_two_matters(helm: Helm) -> None:
    named = '{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}'
    policy = policy_of(helm, LEAST, *METRICS, "--set-json", f"networkPolicy.allowFrom=[{named}]")
    assert who_may_connect(policy, 8081) == {"client", "prometheus"}
    assert who_may_connect(policy, 9090) == {"prometheus here"}
    arguments = ("--set-json", f"networkPolicy.allowMetricsFrom=[{named}]")
    policy = policy_of(helm, LEAST, *METRICS, *arguments)
    assert who_may_connect(policy, 8081) == {"client"}
    assert who_may_connect(policy, 9090) == {"prometheus"}


@pytest.mark.parametrize("empty", ["[]", "null"])
def test_a_list_of_nobody_lets_in_nobody(helm: Helm, empty: str) -> None:
    """A rule without peers would let in everybody."""
    arguments = ("--set-json", f"networkPolicy.allowMetricsFrom={empty}")
    policy = policy_of(helm, LEAST, *METRICS, *arguments)
    assert who_may_connect(policy, 9090) == set()
    assert all(rule["from"] for rule in policy["spec"]["ingress"])


def test_others_are_let_in_by_name(helm: Helm) -> None:
    policy = policy_of(helm, VALUES / "everything-on.yaml")
    assert allows(policy, "ingress", PROMETHEUS, 8082)
    assert allows(policy, "ingress", Peer(address="192.0.2.7"), 9090)
    assert not allows(policy, "ingress", Peer(address="192.0.2.7"), 8082)
    for port in (8082, 9090):
        assert not allows(policy, "ingress", NEIGHBOUR, port)
        assert not allows(policy, "ingress", Peer("monitoring", {"app": "other"}), port)


def test_the_pod_of_helm_test_may_connect(helm: Helm, values: Path) -> None:
    documents = helm.render_file(values)
    pods = [one for one in documents if is_test(one)]
    policies = [one for one in documents if one["kind"] == "NetworkPolicy"]
    if not (pods and policies):
        assert values.stem in ("everything-off", "socket")
        return
    peer = Peer(NAMESPACE, pods[0]["metadata"]["labels"])
    container = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert allows(policies[0], "ingress", peer, container["ports"][0]["containerPort"])
    # And no policy keeps it from connecting.
    assert not policies[0]["spec"]["podSelector"]["matchLabels"].items() <= peer.labels.items()


@pytest.mark.parametrize(
    ("identity", "needs_imds"),
    [
        ("", True),
        ("default", True),
        ("SystemAssigned", True),
        ("userAssigned", True),
        ("workloadIdentity", False),
        ("azureCli", False),
        ("aadApplication,aadTenantId=t,aadClientSecretFile=/secret", False),
        ("aadApplication,aadTenantId=t,aadFederatedIdentity=systemAssigned", True),
    ],
)
def test_the_pod_may_reach_what_it_needs_and_nothing_else(
    helm: Helm, identity: str, needs_imds: bool
) -> None:
    policy = policy_of(helm, LEAST, "--set", f"identityType={identity},aadClientId=x")
    for protocol in ("UDP", "TCP"):
        assert allows(policy, "egress", Peer("kube-system"), 53, protocol)
    assert allows(policy, "egress", INTERNET, 443)
    assert allows(policy, "egress", Peer(address=IMDS), 80) is needs_imds
    assert not allows(policy, "egress", INTERNET, 80)
    assert not allows(policy, "egress", STRANGER, 4317)
    assert not allows(policy, "egress", NEIGHBOUR, 8080)


@pytest.mark.parametrize(
    ("target", "port"),
    [
        ("metrics.example.com", 443),
        ("metrics.example.com:8443", 8443),
        ("https://metrics.example.com:8443/a:1/b?c=d:2", 8443),
        ("http://metrics.example.com/", 80),
        ("HTTPS://metrics.example.com/x", 443),
        ("[2001:db8::1]:8443", 8443),
        ("[2001:db8::1]", 443),
    ],
)
def test_the_targets_port_is_open(helm: Helm, target: str, port: int) -> None:
    policy = policy_of(helm, LEAST, "--set-json", f'targetHost="{target}"')
    assert allows(policy, "egress", INTERNET, port)
    assert allows(policy, "egress", INTERNET, 443)
    opened = [one["port"] for one in policy["spec"]["egress"][1]["ports"]]
    assert set(opened) == {443, port}


@pytest.mark.parametrize(
    ("endpoint", "port", "reached", "barred"),
    [
        ("otel-collector.tracing.svc.cluster.local:4317", 4317, Peer("tracing"), STRANGER),
        ("https://otel.tracing.svc:4318/", 4318, Peer("tracing"), INTERNET),
        ("collector.example.com:4317", 4317, INTERNET, None),
        ("otel-collector:4317", 4317, NEIGHBOUR, None),
    ],
)
def test_the_collector_may_be_reached(
    helm: Helm, endpoint: str, port: int, reached: Peer, barred: Peer | None
) -> None:
    policy = policy_of(helm, LEAST, "--set", f"otelGrpcEndpoint={endpoint}")
    assert allows(policy, "egress", reached, port)
    assert barred is None or not allows(policy, "egress", barred, port)


def test_a_collector_in_the_pod_opens_nothing(helm: Helm) -> None:
    for endpoint in ("localhost:4317", "http://127.0.0.1:4317", "http://[::1]:4317"):
        policy = policy_of(helm, LEAST, "--set-json", f'otelGrpcEndpoint="{endpoint}"')
        assert not allows(policy, "egress", STRANGER, 4317)


def test_egress_can_be_widened_or_left_alone(helm: Helm) -> None:
    policy = policy_of(helm, VALUES / "everything-on.yaml")
    assert allows(policy, "egress", Peer(address="198.51.100.7"), 3128)
    assert not allows(policy, "egress", INTERNET, 3128)
    policy = policy_of(helm, LEAST, "--set", "networkPolicy.restrictEgress=false")
    assert allows(policy, "egress", INTERNET, 1234)
    assert not allows(policy, "ingress", STRANGER, 8081)


def test_nobody_is_let_in_to_a_socket(helm: Helm) -> None:
    policy = policy_of(helm, VALUES / "socket.yaml", "--set", "metricsPort=null")
    assert policy["spec"]["ingress"] == []
    assert not allows(policy, "ingress", NEIGHBOUR, 8081)


@pytest.fixture
def cluster() -> Iterator[StandInCluster]:
    cluster = StandInCluster()
    cluster.server.start()
    yield cluster
    cluster.server.stop()


def release_there(helm: Helm, *arguments: str, policy: bool = True) -> list[dict[str, Any]]:
    """Return what a release has put there: without a policy, it is the retired chart's."""
    wanted = {"Deployment", "NetworkPolicy"} if policy else {"Deployment"}
    documents = helm.render_file(LEAST, *arguments)
    return [document for document in documents if document["kind"] in wanted]


OPEN = ("--set", "networkPolicy.allowSameNamespace=true")


@pytest.mark.parametrize(
    ("before", "policy", "who"),
    [((), False, "everybody may connect"), (OPEN, True, "all pods of the namespace may connect")],
    ids=["the retired chart", "open to the namespace"],
)
def test_an_upgrade_that_would_shut_clients_out_is_refused_until_they_are_named(
    helm: Helm,
    cluster: StandInCluster,
    tmp_path: Path,
    before: tuple[str, ...],
    policy: bool,
    who: str,
) -> None:
    for document in release_there(helm, *before, policy=policy):
        cluster.put(document)
    kubeconfig = cluster.configuration(tmp_path)

    def upgraded(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ("--values", str(LEAST), "--dry-run=server", "--is-upgrade", *arguments)
        return helm.template(*command, kubeconfig=kubeconfig)

    refused = upgraded()
    assert refused.returncode != 0
    assert f"networkPolicy.allowSameNamespace: so far {who}" in refused.stderr
    assert f'{RELEASE}-authproxy-client: "true"' in refused.stderr
    for said in ("allowSameNamespace=true", "allowSameNamespace=false", "enabled=false"):
        result = upgraded("--set", f"networkPolicy.{said}")
        assert result.returncode == 0, result.stderr
    # Whoever names clients has thought of them, but maybe not of those that are let in unnamed.
    named = upgraded("--set", "networkPolicy.allowFrom[0].podSelector.matchLabels.app=writer")
    assert (named.returncode == 0) is not policy


@pytest.mark.parametrize("there", ["nothing", "a closed one"])
def test_an_upgrade_that_shuts_nobody_out_is_not_refused(
    helm: Helm, cluster: StandInCluster, tmp_path: Path, there: str
) -> None:
    for document in release_there(helm) if there == "a closed one" else []:
        cluster.put(document)
    command = ("--values", str(LEAST), "--dry-run=server", "--is-upgrade")
    result = helm.template(*command, kubeconfig=cluster.configuration(tmp_path))
    assert result.returncode == 0, result.stderr


def test_the_policy_is_about_the_proxys_pods(helm: Helm) -> None:
    policy = policy_of(helm, LEAST)
    assert policy["spec"]["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "authproxy",
        "app.kubernetes.io/instance": RELEASE,
    }
