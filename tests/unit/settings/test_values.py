"""Rules for single values, under whatever text there is."""

from __future__ import annotations

import http.client
import json
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.errors import SettingsError
from authproxy.http1.headers import HOP_BY_HOP, is_token
from authproxy.settings import load_settings
from authproxy.settings.header_fields import HeaderFields
from authproxy.settings.kinds import Pairs

TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF)).map(str.strip)
FORBIDDEN = HOP_BY_HOP | {"authorization", "host", "content-length"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def plain(overrides):
    return {name: value.reveal() for name, value in overrides.items()}


@given(st.dictionaries(TOKEN, VALUE))
def test_what_passes_can_be_sent_and_what_is_refused_has_a_reason(fields):
    try:
        passed = plain(HeaderFields().read(json.dumps(fields)))
    except ValueError:
        lower = [name.lower() for name in fields]
        assert (
            FORBIDDEN.intersection(lower)
            or len(set(lower)) < len(lower)
            or any(set(value) & {chr(0x7F)} for value in fields.values())
        )
    else:
        assert passed == fields
        connection = http.client.HTTPConnection("example.com")
        connection.putrequest("GET", "/")
        for name, value in passed.items():
            connection.putheader(name, value)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_gives_fields_that_can_be_sent_or_is_unusable(text):
    try:
        passed = plain(HeaderFields().read(text))
    except ValueError:
        return
    for name, value in passed.items():
        assert is_token(name)
        assert name.lower() not in FORBIDDEN
        assert not set(value) & set("\r\n\0")
        value.encode("latin-1")


@given(JSON)
def test_whatever_a_yaml_file_holds_gives_fields_or_is_unusable(value):
    given_value = Pairs(value.items()) if isinstance(value, dict) else value
    try:
        HeaderFields().read(given_value)
    except ValueError:
        return
    assert isinstance(value, dict)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("{'A': 'b'}", "not JSON (line 1, column 2)"),
        ('{"A": "\\x"}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 10_000, "not JSON"),
        ("[]", "no object"),
        ("null", "no object"),
        ('"s3cret"', "no object"),
        ('{"A": 1}', "the value of A is not a string"),
        ('{"A": {"B": "s3cret"}}', "the value of A is not a string"),
        ('{"": "s3cret"}', "the name of field 1 is not a header name"),
        ('{"A": "b", "Bearer s3cret": "x"}', "the name of field 2 is not a header name"),
        ('{"A": "s3cret\\r\\nX: y"}', "the value of A cannot stand in a header"),
        ('{"A": "s3cret\\u0000"}', "the value of A cannot stand in a header"),
        ('{"A": "\\u20ac"}', "the value of A cannot stand in a header"),
        ('{"A": "\\ud800"}', "the value of A cannot stand in a header"),
        ('{"A": " s3cret"}', "the value of A cannot stand in a header"),
        ('{"A": "b", "A": "s3cret"}', "it names A twice"),
        ('{"A": "b", "a": "s3cret"}', "it names a twice"),
        *[
            (json.dumps({name: "s3cret"}), f"{name} cannot be overridden")
            for name in (
                "Authorization",
                "host",
                "Content-Length",
                "Transfer-Encoding",
                "CONNECTION",
                "Keep-Alive",
                "TE",
                "Upgrade",
                "Proxy-Authorization",
            )
        ],
    ],
)
def test_an_override_that_cannot_be_sent_is_refused_without_its_value(text, problem):
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        HeaderFields().read(text)
    assert "s3cret" not in f"{caught.value} {getattr(caught.value, 'hint', '')}"


HOSTISH = st.text(st.sampled_from("aZ9.-_:/@[]%?#&= \t\n\0é\\"), max_size=20)


@given(st.text() | HOSTISH | HOSTISH.map("https://{}".format))
def test_any_target_host_loads_or_is_a_fault_and_never_shows_user_information(text):
    environ = {"TARGET_HOST": text, "AUDIENCE": "https://a", "LISTENING_PORT": "1"}
    try:
        target = load_settings({}, environ, serving=True).settings.target
    except SettingsError as error:
        (fault,) = error.faults
        assert fault.setting == "TARGET_HOST"
        if text.strip() and "@" in text:
            assert fault.value is not None
            before = fault.value.rpartition("@")[0]
            assert before.rpartition("://")[2] == "***"
        return
    assert target.scheme == "https"
    assert target.host
    assert "@" not in target.authority
    assert 0 < target.port < 65536
