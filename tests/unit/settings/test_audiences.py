"""Which audience a target implies, and the scope made of an audience."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.settings.audiences import (
    authority_for_host,
    check_audience,
    scope_for_host,
    scope_of,
)


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("ws.eastus-1.metrics.ingest.monitor.azure.com", "https://monitor.azure.com/.default"),
        ("ws.usgovvirginia.metrics.ingest.monitor.azure.us", "https://monitor.azure.us/.default"),
        ("ws.chinaeast2.metrics.ingest.monitor.azure.cn", "https://monitor.azure.cn/.default"),
        ("ws.eastus.prometheus.monitor.azure.com", "https://prometheus.monitor.azure.com/.default"),
        ("ws.usgov.prometheus.monitor.azure.us", "https://prometheus.monitor.azure.us/.default"),
        ("ws.china.prometheus.monitor.azure.cn", "https://prometheus.monitor.azure.cn/.default"),
    ],
)
@pytest.mark.parametrize("form", [str, str.upper, lambda host: f"{host}."])
def test_azure_monitor_endpoints_imply_their_clouds_audience(host, scope, form):
    assert scope_for_host(form(host)) == scope


@pytest.mark.parametrize(
    "host",
    [
        "evilprometheus.monitor.azure.com",
        "wsmetrics.ingest.monitor.azure.com",
        "prometheus.monitor.azure.com",
        ".prometheus.monitor.azure.com",
        "ws.prometheus.monitor.azure.com.example.com",
        "ws.prometheus.monitor.azure.de",
        "monitor.azure.com",
        "metrics.example.com",
        "127.0.0.1",
        "",
    ],
)
def test_no_other_host_implies_an_audience(host):
    assert scope_for_host(host) is None


GOVERNMENT, CHINA = "https://login.microsoftonline.us", "https://login.chinacloudapi.cn"


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("ws.usgovvirginia.metrics.ingest.monitor.azure.us", GOVERNMENT),
        ("account.blob.core.usgovcloudapi.net", GOVERNMENT),
        ("app.azurewebsites.us.", GOVERNMENT),
        ("VAULT.VAULT.USGOVCLOUDAPI.NET", GOVERNMENT),
        ("vault.vault.azure.cn", CHINA),
        ("account.blob.core.chinacloudapi.cn", CHINA),
        ("app.chinacloudsites.cn", CHINA),
        ("vault.vault.azure.net", None),
        ("ws.eastus.prometheus.monitor.azure.com", None),
        ("evilazure.us", None),
        ("evilusgovcloudapi.net", None),
        ("a.azure.us.example.com", None),
        ("metrics.example.cn", None),
        ("", None),
    ],
)
def test_a_host_implies_the_entra_endpoint_of_its_cloud(host, authority):
    assert authority_for_host(host) == authority


@pytest.mark.parametrize(
    ("audience", "scope"),
    [
        ("https://monitor.azure.com/.default", "https://monitor.azure.com/.default"),
        ("https://monitor.azure.com", "https://monitor.azure.com/.default"),
        ("https://monitor.azure.com/", "https://monitor.azure.com//.default"),
        ("https://monitor.azure.com//.default", "https://monitor.azure.com//.default"),
        ("api://00000000-0000", "api://00000000-0000/.default"),
    ],
)
def test_default_is_added_where_it_is_missing_and_nothing_else_changes(audience, scope):
    assert scope_of(check_audience(audience)) == scope


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_a_scope_ends_in_one_default_and_begins_with_the_audience(audience):
    try:
        check_audience(audience)
    except ValueError:
        assert "/.default" in audience
    else:
        assert scope_of(audience).startswith(audience)
        assert scope_of(audience).count("/.default") == 1
        assert scope_of(scope_of(audience)) == scope_of(audience)


@pytest.mark.parametrize(
    "audience",
    ["/.default", "https://a/.default/b", "https://a/.default/", "https://a b", "https://ä", "a\n"],
)
def test_what_is_no_single_scope_is_refused(audience):
    with pytest.raises(ValueError, match=r"it holds|belongs once"):
        check_audience(audience)
