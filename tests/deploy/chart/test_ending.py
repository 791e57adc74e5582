"""How long a pod has to end, and how long what it does then takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from authproxy.settings import Settings
from tests.support.helm import NEWEST, OLDEST, Helm, only, plain_environment, proxy_container

pytestmark = pytest.mark.real("helm")

LEAST = Path(__file__).parent / "values" / "default-identity.yaml"


def pre_stop(container: dict[str, Any]) -> int:
    """Return the seconds that the preStop hook takes, in whichever form."""
    match container.get("lifecycle"):
        case None:
            return 0
        case {"preStop": {"sleep": {"seconds": seconds}}}:
            return int(seconds)
        case {"preStop": {"exec": {"command": ["sleep", seconds]}}}:
            return int(seconds)
    raise AssertionError(container["lifecycle"])


def seconds(variable: str, given: dict[str, str]) -> float:
    default = Settings.declared[variable].default
    return float(given.get(variable, default))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    ("sets", "needed"),
    [
        ("", 30),
        ("preStopSeconds=0", 25),
        ("preStopSeconds=12", 37),
        ("shutdownDelaySeconds=7.5", 37.5),
        ("shutdownGraceSeconds=0", 5),
        ("shutdownGraceSeconds=120", 125),
        ("preStopSeconds=1,shutdownDelaySeconds=0.5,shutdownGraceSeconds=0.2", 1.7),
        ("preStopSeconds=0,shutdownDelaySeconds=3600,shutdownGraceSeconds=3600", 7200),
    ],
)
def test_a_pod_has_the_time_that_its_end_takes(
    helm: Helm, version: str, sets: str, needed: float
) -> None:
    arguments = ("--set", sets) if sets else ()
    documents = helm.render_file(LEAST, *arguments, version=version)
    container = proxy_container(documents)
    given = plain_environment(container)
    takes = (
        pre_stop(container)
        + seconds("SHUTDOWN_DELAY_SECONDS", given)
        + seconds("SHUTDOWN_GRACE_SECONDS", given)
    )
    assert takes == pytest.approx(needed)
    has = only(documents, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert takes + 5 <= has < takes + 6


def test_kubernetes_sleeps_by_itself_where_it_can(helm: Helm) -> None:
    def form(version: str) -> set[str]:
        container = proxy_container(helm.render_file(LEAST, version=version))
        return set(container["lifecycle"]["preStop"])

    assert (form("1.29"), form("1.30")) == ({"exec"}, {"sleep"})


def test_more_time_can_be_given_and_less_cannot(helm: Helm) -> None:
    documents = helm.render_file(LEAST, "--set", "terminationGracePeriodSeconds=300")
    pod = only(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 300
    said = helm.faults("--values", str(LEAST), "--set", "terminationGracePeriodSeconds=29")
    assert "terminationGracePeriodSeconds=29" in said
    assert "Set it to 35" in said
