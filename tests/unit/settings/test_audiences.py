"""Which audience a target implies, and the scope made of an audience."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.settings.audiences import (
    authority_for_host,
    check_audience,
    likely_audience,
    scope_for_host,
    scope_of,
    unfit,
)
from authproxy.settings.azure_services import SERVICES


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
    ("host", "audience"),
    [
        ("dce-abcd.eastus-1.ingest.monitor.azure.com", "https://monitor.azure.com"),
        ("account.blob.core.windows.net", "https://storage.azure.com"),
        ("account.dfs.core.usgovcloudapi.net", "https://storage.azure.com"),
        ("a-vault.vault.azure.net", "https://vault.azure.net"),
        ("a-vault.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"),
        ("a-vault.vault.azure.cn", "https://vault.azure.cn"),
        ("topic.westeurope-1.eventgrid.azure.net", "https://eventgrid.azure.net"),
        ("graf-abcd.weu.grafana.azure.com", "https://dashboard.azure.com"),
        ("cluster.westeurope.kusto.windows.net", "https://kusto.kusto.windows.net"),
        ("cluster.kusto.usgovcloudapi.net", "https://kusto.kusto.usgovcloudapi.net"),
        ("account.openai.azure.com", "https://cognitiveservices.azure.com"),
        ("account.cognitiveservices.azure.us", "https://cognitiveservices.azure.us"),
        ("store.azconfig.io", "https://appconfig.azure.com"),
        ("store.azconfig.azure.us", "https://appconfig.azure.us"),
    ],
)
def test_other_services_of_azure_imply_theirs(host, audience):
    assert scope_for_host(host) == f"{audience}/.default"
    assert unfit(host, audience) is None
    assert unfit(host, f"{audience}/") is None
    assert unfit(host, f"https://{host}") is None
    assert unfit(host, "11111111-2222-3333-4444-555555555555") is None
    assert unfit(host, "https://management.azure.com") == audience


@pytest.mark.parametrize(
    ("host", "likely"),
    [
        ("namespace.servicebus.windows.net", "https://servicebus.azure.net (Service Bus"),
        ("foundry.services.ai.azure.com", "https://ai.azure.com"),
        ("app.azurewebsites.net", "api://"),
    ],
)
def test_where_the_host_leaves_a_doubt_the_likely_audience_is_named(host, likely):
    assert scope_for_host(host) is None
    assert unfit(host, "https://management.azure.com") is None
    assert (likely_audience(host) or "").startswith(likely)


def test_what_is_known_of_services_is_of_one_form():
    for service in SERVICES:
        assert service.page.startswith("https://learn.microsoft.com/")
        assert all(suffix.startswith(".") for suffix in service.suffixes)
        assert not service.certain or check_audience(service.audience).startswith("https://")


@pytest.mark.parametrize(
    "host",
    [
        "evilprometheus.monitor.azure.com",
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
