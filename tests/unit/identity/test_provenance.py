"""Which endpoint gave a token, for whom, and whether that is who was asked for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.identity.provenance import SERVICE_FABRIC, Provenance, claims_of
from tests.support.identity import settings_for

IMDS = "http://169.254.169.254/metadata/identity/oauth2/token"
ENTRA = "https://login.microsoftonline.com/tenant/oauth2/v2.0/token"
GROUP = "/subscriptions/s/resourceGroups/g/providers"
OF_USER = f"{GROUP}/Microsoft.ManagedIdentity/userAssignedIdentities/one"
MACHINE = f"{GROUP}/Microsoft.Compute/virtualMachines/machine"


def token(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"head.{payload}.signature"


def test_it_has_the_endpoint_without_query_and_user_and_the_ids_of_the_token() -> None:
    claims = {"azp": "app", "oid": "object", "xms_mirid": MACHINE}
    got = Provenance.of(token(claims), "http://user:pw@127.0.0.1:1/token?resource=x#y")
    assert got == Provenance("http://127.0.0.1:1/token", "app", "object", MACHINE)


@pytest.mark.parametrize("value", [1, None, ["a"], {"a": "b"}, "x" * 501, "\x1b[2J"])
def test_what_is_no_id_is_none(value: object) -> None:
    claims = dict.fromkeys(("appid", "oid", "xms_mirid"), value)
    assert Provenance.of(token(claims), IMDS) == Provenance(IMDS)


@pytest.mark.parametrize(
    ("kind", "settings", "endpoint", "claims", "difference"),
    [
        ("systemassigned", {}, IMDS, {"xms_mirid": MACHINE}, None),
        ("systemassigned", {}, IMDS, {}, None),
        ("systemassigned", {}, IMDS, {"xms_mirid": OF_USER.upper()}, "user-assigned identity"),
        ("systemassigned", {}, ENTRA, {}, "not given by a managed identity endpoint"),
        ("userassigned", {"aad_client_id": "a"}, ENTRA, {"appid": "a"}, "not given by a managed"),
        ("userassigned", {"aad_client_id": "Aa"}, IMDS, {"appid": "aA"}, None),
        ("userassigned", {"aad_client_id": "a"}, IMDS, {"appid": "b"}, "AAD_CLIENT_ID is a, and"),
        ("userassigned", {"aad_object_id": "a"}, IMDS, {"oid": "b"}, "the token is for b"),
        ("userassigned", {"aad_resource_id": OF_USER}, IMDS, {"xms_mirid": OF_USER.lower()}, None),
        ("userassigned", {"aad_resource_id": OF_USER}, IMDS, {"xms_mirid": MACHINE}, MACHINE),
        ("aadapplication", {"aad_client_id": "a", "aad_object_id": "b"}, ENTRA, {"oid": "c"}, None),
        ("workloadidentity", {"aad_client_id": "a"}, ENTRA, {"azp": "b"}, "the token is for b"),
        ("default", {"aad_client_id": "a"}, ENTRA, {"appid": "b"}, None),
        ("azurecli", {}, "/usr/bin/az", {"appid": "b"}, None),
    ],
)
def test_a_token_of_another_identity_is_noticed(
    kind: str, settings: dict[str, str], endpoint: str, claims: Any, difference: str | None
) -> None:
    given = Provenance.of(token(claims), endpoint)
    found = given.compared_with(settings_for(kind, **settings)).mismatch
    assert (found is None) == (difference is None)
    assert (difference or "") in str(found)


def test_on_service_fabric_the_cluster_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVICE_FABRIC:
        monkeypatch.setenv(name, "x")
    given = Provenance.of(token({"xms_mirid": OF_USER}), IMDS)
    assert given.compared_with(settings_for("systemassigned")) == given


@given(st.one_of(st.text(), st.text().map(lambda text: f"a.{text}.b")), st.text())
def test_whatever_a_token_is_nothing_is_raised(value: str, path: str) -> None:
    claims_of(value)
    Provenance.of(value, f"http://127.0.0.1/{path}").compared_with(settings_for("systemassigned"))
