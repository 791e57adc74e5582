"""Every setting can be given as a value, and reaches the container as its variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from authproxy.settings import Settings
from tests.support.helm import Helm, only, plain_environment, proxy_container
from tools.chart_values import Value, camel_case, chart_values

pytestmark = pytest.mark.real("helm")

LEAST = Path(__file__).parent / "values" / "default-identity.yaml"

PLAIN = [one for one in chart_values() if not one.setting.kind.secret]

#: Values besides the most of everything: two ports that differ, and memory for 256 workers.
BESIDES: dict[str, object] = {"metricsPort": 9090, "resources": None}

#: Settings that take the place of others, and those.
INSTEAD = {"INGESTION_URL": "TARGET_HOST", "LISTENING_SOCKET": "LISTENING_PORT"}


def sample(one: Value) -> tuple[Any, str]:
    """Return a value that can be given, and the text that has to arrive."""
    match one.kind:
        case "integer":
            return one.bounds["maximum"], str(one.bounds["maximum"])
        case "number":
            return 0.25, "0.25"
        case "flag":
            return True, "true"
        case "words":
            return one.setting.kind.words[-1].upper(), one.setting.kind.words[-1].upper()
        case "list":
            return ["a", "b"], "a,b"
    return " some text ", "some text"


def rendered(helm: Helm, given: Mapping[str, object]) -> dict[str, str]:
    arguments = [
        part
        for name, value in given.items()
        for part in ("--set-json", f"{name}={json.dumps(value)}")
    ]
    return plain_environment(proxy_container(helm.render_file(LEAST, *arguments)))


def test_a_setting_arrives_as_it_was_given(helm: Helm) -> None:
    every = [(one, *sample(one)) for one in PLAIN if one.setting.variable not in INSTEAD]
    environment = rendered(helm, {**{one.name: given for one, given, _ in every}, **BESIDES})
    arrives = {one.setting.variable: text for one, _, text in every}
    assert environment == {**arrives, "METRICS_PORT": "9090"}


@pytest.mark.parametrize("variable", INSTEAD)
def test_a_setting_takes_the_place_of_another(helm: Helm, variable: str) -> None:
    given = {camel_case(variable): "/some/text"}
    if variable == "INGESTION_URL":
        given["targetHost"] = ""
    environment = rendered(helm, given)
    assert environment[variable] == "/some/text"
    assert INSTEAD[variable] not in environment


def test_a_text_will_do_for_a_number_or_a_truth_value(helm: Helm) -> None:
    kinds = ("integer", "number", "flag")
    texts = [(one, sample(one)[1]) for one in PLAIN if one.kind in kinds]
    given = {one.name: text for one, text in texts}
    environment = rendered(helm, {**given, **BESIDES, "metricsPort": "9090"})
    arrives = {one.setting.variable: text for one, text in texts}
    assert {**arrives, "METRICS_PORT": "9090"}.items() <= environment.items()


def test_what_is_left_empty_is_not_set(helm: Helm) -> None:
    environment = plain_environment(proxy_container(helm.render_file(LEAST)))
    assert set(environment) == {"TARGET_HOST", "LISTENING_PORT"}
    empty = {one.name: "" for one in PLAIN if one.setting.variable not in environment}
    arguments = [part for name in empty for part in ("--set-string", f"{name}=")]
    assert plain_environment(proxy_container(helm.render_file(LEAST, *arguments))) == environment


@pytest.mark.parametrize("given", [False, "false", "0", "no", "", None])
def test_trace_logging_is_not_set_where_it_is_false(helm: Helm, given: object) -> None:
    assert "TRACE_LOGGING" not in rendered(helm, {"traceLogging": given})


def test_numbers_from_the_command_line_arrive_as_well(helm: Helm) -> None:
    documents = helm.render_file(
        LEAST, "--set", "maxRequestBodyBytes=134217728,listeningPort=8082,metricsPort=9090"
    )
    environment = plain_environment(proxy_container(documents))
    assert environment["MAX_REQUEST_BODY_BYTES"] == "134217728"
    assert environment["LISTENING_PORT"] == "8082"
    ports = {port["name"]: port["containerPort"] for port in proxy_container(documents)["ports"]}
    assert ports == {"http": 8082, "metrics": 9090}


def test_secrets_are_taken_from_secrets(helm: Helm) -> None:
    arguments = [
        *("--set", "clientSecret.existingSecret=one"),
        *("--set", "overrideRequestHeadersSecret.name=two"),
    ]
    documents = helm.render_file(LEAST, *arguments)
    container = proxy_container(documents)
    environment = plain_environment(container)
    assert environment["AAD_CLIENT_SECRET_FILE"] == "/etc/authproxy/client-secret/client-secret"
    references = {one["name"]: one["valueFrom"] for one in container["env"] if "valueFrom" in one}
    assert references == {
        "OVERRIDE_REQUEST_HEADERS": {"secretKeyRef": {"name": "two", "key": "headers.json"}}
    }
    documents = helm.render_file(
        LEAST, *("--set", "clientCertificate.existingSecret=three,clientCertificate.passwordKey=p")
    )
    environment = plain_environment(proxy_container(documents))
    folder = "/etc/authproxy/client-certificate"
    assert environment["AAD_CLIENT_CERTIFICATE_PATH"] == f"{folder}/client.pem"
    assert environment["AAD_CLIENT_CERTIFICATE_PASSWORD_FILE"] == f"{folder}/p"
    (volume,) = (
        one
        for one in only(documents, "Deployment")["spec"]["template"]["spec"]["volumes"]
        if "secret" in one
    )
    keys = [item["key"] for item in volume["secret"]["items"]]
    assert keys == ["client.pem", "p"]


def test_every_secret_setting_has_its_way_in() -> None:
    secrets = {name for name, one in Settings.declared.items() if one.kind.secret}
    told = {one["variable"] for one in map(Value.for_templates, chart_values()) if "hint" in one}
    given = {
        one.setting.variable for one in chart_values() if one.setting.kind.secret and one.is_value
    }
    assert told | given == secrets
    assert given == {"OVERRIDE_REQUEST_HEADERS"}


@pytest.mark.parametrize(
    "name",
    [
        "targetHost",
        "identityType",
        "aadClientId",
        "aadTenantId",
        "aadClientCertificatePath",
        "aadTokenRefreshIntervalInPercentage",
        "audience",
        "listeningPort",
        "otelServiceName",
        "otelGrpcEndpoint",
        "overrideRequestHeaders",
    ],
)
def test_the_retired_charts_names_are_kept(name: str) -> None:
    assert name in set(map(camel_case, Settings.declared))
