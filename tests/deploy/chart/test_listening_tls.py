"""`listeningTls`: the certificate is mounted, and whatever asks the proxy does so by HTTPS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.helm import Helm, is_test, plain_environment, proxy_container

pytestmark = pytest.mark.real("helm")

LEAST = Path(__file__).parent / "values" / "default-identity.yaml"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def test_a_certificate_is_mounted_and_probes_ask_by_https(helm: Helm) -> None:
    values = ("listeningTls.existingSecret=cert", "listeningTls.clientCaKey=ca.crt")
    documents = helm.render_file(LEAST, *(part for one in values for part in ("--set", one)))
    container = proxy_container(documents)
    environment = plain_environment(container)
    folder = "/etc/authproxy/listening-tls"
    assert environment["LISTENING_TLS_CERTIFICATE_FILE"] == f"{folder}/tls.crt"
    assert environment["LISTENING_TLS_KEY_FILE"] == f"{folder}/tls.key"
    assert environment["LISTENING_TLS_CLIENT_CA_FILE"] == f"{folder}/ca.crt"
    assert folder in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert {container[name]["httpGet"]["scheme"] for name in PROBES} == {"HTTPS"}
    (pod,) = filter(is_test, documents)
    (url,) = (one for one in pod["spec"]["containers"][0]["env"] if one["name"] == "AUTHPROXY_URL")
    assert url["value"].startswith("https://")


def test_a_path_of_ones_own_does_as_well(helm: Helm) -> None:
    documents = helm.render_file(LEAST, "--set", "listeningTlsCertificateFile=/x/both.pem")
    container = proxy_container(documents)
    assert plain_environment(container)["LISTENING_TLS_CERTIFICATE_FILE"] == "/x/both.pem"
    assert {container[name]["httpGet"]["scheme"] for name in PROBES} == {"HTTPS"}


def test_without_one_nothing_is_different(helm: Helm) -> None:
    container = proxy_container(helm.render_file(LEAST))
    assert all("scheme" not in container[name]["httpGet"] for name in PROBES)
    assert not [name for name in plain_environment(container) if "TLS" in name]
