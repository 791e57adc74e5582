"""Why a target refuses the identity: its own words first, then the host, then roles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.settings.azure_services import Kind
from authproxy.upstream.refused_identity import REFUSED_IDENTITY, Refusal, causes, told

WRITE = Refusal(
    403,
    "ws.eastus-1.metrics.ingest.monitor.azure.com",
    "https://monitor.azure.com/.default",
    Kind.INGESTION,
)
QUERY = Refusal(
    401,
    "ws.eastus.prometheus.monitor.azure.com",
    "https://prometheus.monitor.azure.com/.default",
    Kind.QUERY,
)
OTHER = Refusal(401, "api.example.com", "api://mine/.default", Kind.OTHER)
VAULT_CHALLENGE = (
    'Bearer authorization="https://login.microsoftonline.com/1111-home", '
    'resource="https://vault.azure.net"'
)


def first(refusal: Refusal, text: str = "", challenge: str = "") -> str:
    advice = causes(replace(refusal, text=text, challenge=challenge))[0]
    return f"{advice.cause}. {advice.hint}"


@pytest.mark.parametrize(
    ("text", "challenge", "says"),
    [
        ("AKV10022: Invalid audience. Expected https://vault.azure.net, found: api://mine.", "",
         "AUDIENCE=https://vault.azure.net"),
        ("", VAULT_CHALLENGE, "AUDIENCE=https://vault.azure.net"),
        ("Audience validation failed. Audience did not match.", "", "wrong audience"),
        ("", 'Bearer error="invalid_token", error_description="The audience \'x\' is invalid"',
         "wrong audience"),
        ("Audiences in Jwt are not allowed", "", "wrong audience"),
        ("IDX10205: Issuer validation failed.", "", "wrong issuer"),
        ("Jwt issuer is not configured", "", "wrong issuer"),
        ("The access token is from the wrong issuer", "", "wrong issuer"),
        ("Jwt is expired", "", "has expired"),
        ("IDX10223: Lifetime validation failed.", "", "has expired"),
        ("Signature validation failed. No keys match.", "", "signature"),
        ("IDX10501: Signature validation failed", "", "signature"),
        ("no words of that kind", "", "something else than api://mine"),
        ("", "Bearer", "something else than api://mine"),
        ("", 'Basic realm="Grafana"', "wants Basic credentials and no token"),
        ("", "Negotiate", "wants Negotiate credentials and no token"),
        ("", 'Basic realm="a", Bearer', "something else than api://mine"),
    ],
)  # fmt: skip
def test_the_targets_own_words_come_first(text: str, challenge: str, says: str) -> None:
    assert says in first(OTHER, text, challenge)


def test_a_401_of_azure_without_words_is_a_tenant_or_a_role_that_spreads() -> None:
    one, other = causes(QUERY)
    assert "another tenant or cloud" in one.cause
    assert "Monitoring Data Reader" in other.cause
    assert "still spreading" in other.cause


def test_the_hosts_audience_comes_before_roles() -> None:
    mixed_up = replace(WRITE, scope=QUERY.scope)
    assert "takes those for https://monitor.azure.com only" in first(mixed_up)
    assert told(mixed_up).startswith("The token is for https://prometheus.monitor.azure.com, and")


@pytest.mark.parametrize(
    "text",
    [
        "Public network access is not allowed",
        "Data collection endpoint is not accessible from outside its Private Link Scope",
        "denied by the network security perimeter",
    ],
)
def test_a_private_link_is_told_before_roles(text: str) -> None:
    assert "private endpoints only" in first(WRITE, text)
    assert "AMPLS" in told(replace(WRITE, text=text))


@given(
    st.sampled_from(REFUSED_IDENTITY),
    st.sampled_from([WRITE, QUERY, OTHER]),
    st.text(max_size=300),
    st.text(max_size=300),
)
def test_there_is_a_cause_whatever_is_said(
    status: int, refusal: Refusal, text: str, challenge: str
) -> None:
    refusal = replace(refusal, status=status, text=text, challenge=challenge)
    assert causes(refusal)
    assert told(refusal).endswith(".")
