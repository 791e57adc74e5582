"""Judges of configuration: each file is read by what it is for, or by that one's schema."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from authproxy.errors import SettingsError
from authproxy.settings import Settings, load_settings
from tests.support.manifests import check_object, webhook_variables
from tests.support.pages import Block
from tests.support.source import ROOT

Document = dict[str, Any]

VARIABLES = set(Settings.declared)
SETTINGS_SCHEMA = json.loads((ROOT / "docs" / "settings.schema.json").read_text())
#: What a Prometheus configuration of the pages may hold.
PROMETHEUS = frozenset({"global", "remote_write", "rule_files", "scrape_configs"})
#: What an example's files and groups are not on this machine.
ABSENT = re.compile(r"cannot be read|does not exist|no such (file|group)")


def judge_yaml(block: Block) -> None:
    """Each document is of a kind that there is a reader for."""
    try:
        documents = [one for one in yaml.safe_load_all(block.code) if one]
    except yaml.YAMLError as error:
        raise AssertionError(f"{block}: {error}") from None
    assert documents, f"{block}: nothing in it"
    for document in documents:
        reader = next((read for fits, read in KINDS if fits(document)), None)
        assert reader is not None, f"{block}: of what kind is {sorted(document)}?"
        reader(document)


# -- Prometheus ----------------------------------------------------------------------


def _is_prometheus(document: Document) -> bool:
    return bool(set(document) & (PROMETHEUS - {"global"})) and set(document) <= PROMETHEUS


def _read_by_prometheus(document: Document) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool is installed")
    with tempfile.TemporaryDirectory() as folder:
        rules = [_of_repository(path) for path in document.get("rule_files", [])]
        given = {**document, **({"rule_files": rules} if rules else {})}
        path = Path(folder, "prometheus.yml")
        path.write_text(yaml.safe_dump(given))
        # Without the files that it names, which are not on this machine.
        done = subprocess.run(
            [program, "check", "config", "--syntax-only", path], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _of_repository(rules: str) -> str:
    """Return the rule file that is installed under this name."""
    assert rules.endswith("/authproxy-alerts.yaml"), rules
    return str(ROOT / "docs" / "telemetry" / "alerts.yaml")


# -- Kubernetes ----------------------------------------------------------------------


def _is_object(document: Document) -> bool:
    return {"apiVersion", "kind"} <= set(document)


def _read_by_kubernetes(document: Document) -> None:
    if document["apiVersion"].startswith("monitoring.coreos.com/"):
        _read_by_operator(document)
    elif document["kind"] == "ScaledObject":
        _read_by_keda(document)
    else:
        try:
            check_object(document)
        except kubernetes_validate.ValidationError as error:
            raise AssertionError(str(error)) from None


def _read_by_operator(document: Document) -> None:
    # Here and not above: it takes seconds to load.
    from cloudcoil.models.prometheus_operator import v1

    model = getattr(v1, document["kind"]).model_validate(document)
    # The model drops what it does not know.
    assert model.model_dump(by_alias=True, mode="json", exclude_unset=True) == document


#: KEDA's documentation of ScaledObject and of the trigger `prometheus`.
_SCALED_OBJECT = {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "triggers"}
_TRIGGER = {
    *("serverAddress", "query", "queryParameters", "threshold", "activationThreshold"),
    *("namespace", "customHeaders", "ignoreNullValues", "unsafeSsl", "timeout", "authModes"),
}


def _read_by_keda(document: Document) -> None:
    assert document["apiVersion"] == "keda.sh/v1alpha1"
    spec = document["spec"]
    assert {"scaleTargetRef", "triggers"} <= set(spec) <= _SCALED_OBJECT
    for trigger in spec["triggers"]:
        assert trigger["type"] == "prometheus"
        metadata = trigger["metadata"]
        assert {"serverAddress", "query", "threshold"} <= set(metadata) <= _TRIGGER
        assert all(isinstance(value, str) for value in metadata.values()), "KEDA wants strings"
        float(metadata["threshold"])


def _is_part_of_pod(document: Document) -> bool:
    return set(document) <= {"readinessProbe", "livenessProbe", "volumes"}


def _read_as_part_of_pod(document: Document) -> None:
    container = {"name": "c", "image": "i"}
    container |= {name: value for name, value in document.items() if name != "volumes"}
    spec = {"containers": [container], "volumes": document.get("volumes", [])}
    check_object({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})


# -- Charts of others ----------------------------------------------------------------


def _is_operators_chart(document: Document) -> bool:
    return "prometheusSpec" in document.get("prometheus", {})


def _read_as_operators_spec(document: Document) -> None:
    """The chart passes it on as the object's spec; what that adds to pods: test_examples.py."""
    spec = document["prometheus"]["prometheusSpec"]
    name = {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus"}
    spec = {key: value for key, value in spec.items() if key not in ("podMetadata", "containers")}
    _read_by_operator({**name, "metadata": {"name": "p"}, "spec": spec})


_COST_VALUES: list[Document] = [
    {"global": {"prometheus": {"enabled": bool, "fqdn": str}}},
    {
        "opencost": {
            "prometheus": {"internal": {"enabled": bool}, "external": {"enabled": bool, "url": str}}
        }
    },
]


def _is_cost_chart(document: Document) -> bool:
    return any(_shape(document) == shape for shape in _COST_VALUES)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return type(value)


# -- OpenTelemetry Collector ---------------------------------------------------------

#: Of config.go of the exporter and of confighttp, configretry and exporterhelper, which it embeds.
_EXPORTER = {
    *("endpoint", "headers", "tls", "timeout", "namespace", "external_labels", "send_metadata"),
    *("retry_on_failure", "remote_write_queue", "resource_to_telemetry_conversion", "target_info"),
    *("add_metric_suffixes", "max_batch_size_bytes", "wal"),
}
_RETRY = {"enabled", "initial_interval", "max_interval", "max_elapsed_time", "multiplier"}


def _is_collector(document: Document) -> bool:
    return {"exporters", "service"} <= set(document)


def _read_by_collector(document: Document) -> None:
    assert set(document) <= {"receivers", "processors", "exporters", "extensions", "service"}
    exporter = document["exporters"]["prometheusremotewrite"]
    assert {"endpoint"} <= set(exporter) <= _EXPORTER
    retry = exporter.get("retry_on_failure", {})
    assert set(retry) <= _RETRY
    assert re.fullmatch(r"\d+[smh]", retry.get("max_elapsed_time", "1m"))
    assert set(exporter.get("resource_to_telemetry_conversion", {})) <= {"enabled"}
    pipelines = document["service"]["pipelines"]
    assert pipelines
    for pipeline in pipelines.values():
        assert {"receivers", "exporters"} <= set(pipeline)
        for part, names in pipeline.items():
            assert set(names) <= set(document[part]), f"{part} of a pipeline that are not there"


# -- Grafana -------------------------------------------------------------------------

_SOURCE = {"name", "type", "access", "url", "isDefault", "jsonData", "secureJsonData", "uid"}
_JSON_DATA = {"httpMethod", "prometheusType", "timeInterval", "httpHeaderName1"}


def _is_grafana(document: Document) -> bool:
    return set(document) == {"apiVersion", "datasources"}


def _read_by_grafana(document: Document) -> None:
    assert document["apiVersion"] == 1
    for source in document["datasources"]:
        assert {"name", "type", "url"} <= set(source) <= _SOURCE
        assert (source["type"], source.get("access", "proxy")) == ("prometheus", "proxy")
        data = source.get("jsonData", {})
        assert set(data) <= _JSON_DATA
        secret = {"httpHeaderValue1"} if "httpHeaderName1" in data else set()
        assert set(source.get("secureJsonData", {})) == secret


# -- our own -------------------------------------------------------------------------


def _is_chart_values(document: Document) -> bool:
    routes = document.get("routes")
    of_routes = isinstance(routes, list) and all("targetHost" in route for route in routes)
    return of_routes or set(document) == {"networkPolicy"}


def _read_by_chart(document: Document) -> None:
    """Names and types are those of the schema, which is strict; tests/deploy/chart has the rest."""
    schema = json.loads((ROOT / "helm" / "authproxy" / "values.schema.json").read_text())
    jsonschema.validate(document, schema)


def _is_settings(document: Document) -> bool:
    keys = {name.upper() for name in document}
    return bool(keys & VARIABLES) or "routes" in document


def _read_by_authproxy(document: Document) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "authproxy.yaml")
        path.write_text(yaml.safe_dump(document))
        # Also where the webhook of workload identity has been at the pod.
        jsonschema.validate(document, SETTINGS_SCHEMA)
        webhook = webhook_variables(Path(folder), "11111111-1111-1111-1111-111111111111")
        _load({}, {**webhook, "AUTHPROXY_CONFIG": str(path)})


def _load(options: dict[str, str], environ: dict[str, str]) -> None:
    """Load settings; no fault may be left but that of files which only the reader has."""
    serving = bool({"LISTENING_PORT", "LISTENING_SOCKET"} & set(options))
    try:
        load_settings(options, environ, serving=serving)
    except SettingsError as error:
        left = [fault for fault in error.faults if not ABSENT.search(fault.problem)]
        assert left == [], "\n".join(map(str, left))


def judge_environment(block: Block) -> None:
    """Lines of an environment file: settings of ours, without faults."""
    given = dict(line.split("=", 1) for line in block.code.splitlines() if line)
    given = {name: value.strip('"') for name, value in given.items()}
    assert given, f"{block}: no setting"
    assert set(given) <= VARIABLES, block
    base = {"TARGET_HOST": "metrics.example.com", "AUDIENCE": "https://metrics.example.com"}
    webhook = {"AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure/tokens/azure-identity-token"}
    _load({**({} if "INGESTION_URL" in given else base), **given}, webhook)


def judge_ini(block: Block) -> None:
    """A drop-in of systemd, or an environment file."""
    if not block.code.startswith("["):
        judge_environment(block)
        return
    sections = re.findall(r"^\[(\w+)\]$", block.code, re.M)
    assert sections, block
    assert set(sections) <= {"Unit", "Service", "Socket", "Install"}, block
    # systemd-analyze reads them in their places: tests/deploy/test_systemd_files.py.
    source = (ROOT / "tests" / "deploy" / "test_systemd_files.py").read_text()
    assert "def test_the_pages_drop_ins_are_sound" in source
    assert all(rf"\[{section}\]" in source for section in sections), block


def judge_diff(block: Block) -> None:
    """Before and after are both YAML, and each side of a change has the other."""
    lines = block.code.splitlines()
    assert any(line.startswith("-") for line in lines), block
    assert any(line.startswith("+") for line in lines), block
    for sign in "-+":
        kept = [line[1:] for line in lines if line.startswith((" ", sign))]
        assert yaml.safe_load("\n".join(kept)), block


KINDS: list[tuple[Callable[[Document], bool], Callable[[Document], None]]] = [
    (_is_prometheus, _read_by_prometheus),
    (_is_object, _read_by_kubernetes),
    (_is_part_of_pod, _read_as_part_of_pod),
    (_is_operators_chart, _read_as_operators_spec),
    (_is_cost_chart, lambda document: None),  # its shape is all that is known
    (_is_collector, _read_by_collector),
    (_is_grafana, _read_by_grafana),
    (_is_chart_values, _read_by_chart),
    (_is_settings, _read_by_authproxy),
]
