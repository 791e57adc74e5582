"""Which header fields cross the proxy, each way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.headers import (
    HOP_BY_HOP,
    OVERRULING,
    canonical,
    forwardable,
    is_remote_write,
    is_token,
    returnable,
)

NAMES = st.from_regex(r"[A-Z][a-z0-9]{0,8}(-[A-Z][a-z0-9]{0,8}){0,2}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30)


def forward(*fields: tuple[str, str], **options: object) -> list[tuple[str, str]]:
    overrides = options.get("overrides", {})
    return forwardable(fields, overrides=overrides, client=options.get("client"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_fields_end_here_in_both_directions(name: str) -> None:
    field = (canonical(name), "x")
    assert forward(field) == []
    assert returnable([field]) == []


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "X-Authproxy-Token",
        "Host",
        "Expect",
        "Content-Length",
    ],
)
def test_fields_that_are_ours_to_write_never_pass_as_they_came(name: str) -> None:
    assert forward((name, "anything")) == []


def test_what_connection_names_ends_here() -> None:
    fields = [("Connection", "X-Secret , close"), ("X-Secret", "1"), ("X-Kept", "2")]
    assert forward(*fields) == [("X-Kept", "2")]
    assert returnable(fields) == [("X-Kept", "2")]


def test_connection_cannot_name_an_override_away() -> None:
    fields = [("Connection", "Authorization, X-Scope, X-Forwarded-For"), ("X-Scope", "theirs")]
    sent = forward(*fields, overrides={"X-Scope": "ours"}, client="192.0.2.1")
    assert sent == [("X-Scope", "ours"), ("X-Forwarded-For", "192.0.2.1")]


def test_an_override_replaces_what_the_client_sent() -> None:
    assert forward(("X-Scope", "a"), overrides={"X-Scope": "b"}) == [("X-Scope", "b")]


def test_dropped_fields_end_here_in_any_case_save_an_override_of_that_name() -> None:
    fields = [("X-Rewrite-Url", "/a"), ("X-HTTP-Method", "PUT"), ("X-Kept", "1")]
    overrides = {"X-Rewrite-Url": "/ours"}
    assert forwardable(fields, overrides=overrides, client=None, dropped=OVERRULING) == [
        ("X-Kept", "1"),
        ("X-Rewrite-Url", "/ours"),
    ]
    assert forwardable(fields, overrides={}, client=None) == fields


def test_the_clients_address_is_appended_to_x_forwarded_for() -> None:
    came = ("X-Forwarded-For", "198.51.100.7")
    assert forward(came, client="192.0.2.1") == [("X-Forwarded-For", "198.51.100.7, 192.0.2.1")]
    assert forward(client="192.0.2.1") == [("X-Forwarded-For", "192.0.2.1")]
    assert forward(came, client=None) == [came]
    assert forward(client=None) == []


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_whatever_is_not_ours_passes_in_order_with_repeats_and_untouched(
    fields: list[tuple[str, str]],
) -> None:
    ours = HOP_BY_HOP | {"authorization", "host", "content-length", "expect", "x-forwarded-for"}
    free = [f for f in fields if f[0].lower() not in ours | {"x-authproxy-token"}]
    assert forward(*free) == free
    assert returnable(free) == free


def test_repeated_response_fields_stay_apart() -> None:
    cookies = [("Set-Cookie", "a=1"), ("set-cookie", "b=2, c")]
    assert returnable(cookies) == cookies


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("X-Prometheus-Remote-Write-Version", "0.1.0")], True),
        ([("X-Victoriametrics-Remote-Write-Version", "1")], True),
        ([("Content-Type", "application/x-protobuf"), ("Content-Encoding", "zstd")], False),
        ([("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")], True),
        (
            [
                ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
                ("Content-Encoding", "Snappy"),
            ],
            True,
        ),
        ([("Content-Type", "application/x-protobuf")], False),
        ([("Content-Encoding", "snappy")], False),
        ([("Content-Type", "application/json")], False),
    ],
)
def test_a_remote_write_is_told_by_version_or_content(
    fields: list[tuple[str, str]], expected: bool
) -> None:
    assert is_remote_write(dict(fields)) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("X-A", True), ("", False), ("a b", False), ("a:", False), ("é", False)]
)
def test_names_are_tokens(text: str, expected: bool) -> None:
    assert is_token(text) is expected
