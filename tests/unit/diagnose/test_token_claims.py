"""What a token says of itself, printed safely."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.diagnose.token_claims import expiry, moment, shown
from authproxy.identity.provenance import claims_of, identifier


def jwt(payload: bytes) -> str:
    middle = base64.urlsafe_b64encode(payload).decode().rstrip("=")
    return f"e30.{middle}.signature"


def claims(content: Any) -> Any:
    return claims_of(jwt(json.dumps(content).encode()))


def test_claims_are_shown_where_they_are_present_and_in_one_order() -> None:
    content = {"roles": ["Reader", "Writer"], "azp": "a", "aud": "b", "secret": "x"}
    assert shown(claims(content)) == {"azp": "a", "aud": "b", "roles": "Reader, Writer"}


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.b", "..", jwt(b"[]"), jwt(b"\xff")])
def test_an_opaque_token_has_no_claims(token: str) -> None:
    assert claims_of(token) is None


def test_a_claim_cannot_move_the_cursor() -> None:
    assert shown(claims({"appid": "\x1b[2Jx\n"})) == {"appid": "?[2Jx?"}


def test_only_an_id_is_fit_for_a_command() -> None:
    content = claims({"oid": "00-aa", "tid": "$(rm)", "aud": ["x"]})
    assert [identifier(content, name) for name in ("oid", "tid", "aud", "azp")] == [
        "00-aa",
        None,
        None,
        None,
    ]


def test_a_time_is_a_number() -> None:
    content = claims({"iat": 1000, "nbf": "1000", "exp": 10**30})
    assert [moment(content, name) for name in ("iat", "nbf", "exp")] == [1000.0, None, None]


def test_an_expiry_is_shown_before_and_after_it() -> None:
    assert expiry(4599, 1000) == "1970-01-01T01:16:39Z (in 59 min 59 s)"
    assert expiry(87399, 1000).endswith("(in 23 h 59 min)")
    assert expiry(940, 1000) == "1970-01-01T00:15:40Z (1 min 0 s ago)"
    assert "1e+300" in expiry(1e300, 1000)


@given(st.text())
def test_any_token_can_be_looked_at(value: str) -> None:
    claims_of(value)
    claims_of(f"a.{value}.b")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"":', "}")])
def test_a_claim_of_any_depth_can_be_shown_or_makes_the_token_opaque(
    opening: str, closing: str
) -> None:
    for depth in (*range(800, 1000, 3), 5_000, 100_000):
        nested = f'{{"aud": {opening * depth}0{closing * depth}}}'
        shown(claims_of(jwt(nested.encode())) or {})
