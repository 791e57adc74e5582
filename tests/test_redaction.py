"""Known secrets and what looks like a token are masked, in the forms that errors quote."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.redaction import MASK, Redactor, masked
from tests.support.planted import leaks

SECRET = 'p"l4nted/secret+a=b&c d~\\'

FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "json": json.dumps,
    "url": lambda text: quote(text, safe=""),
    "url, small letters": lambda text: quote(text, safe="").lower(),
    "path": quote,
    "form": quote_plus,
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64url": lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "basic": lambda text: b64encode(f"user:{text}".encode()).decode(),
    "basic, longer": lambda text: b64encode(f"user1:{text}:more".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", ["{}", "you sent {}, did you?", "a={}&b=c", "{0}{0}"])
def test_a_known_secret_is_masked_in_every_form(form: str, around: str) -> None:
    quoted = around.format(FORMS[form](SECRET))
    text = Redactor([None, SECRET])(quoted)
    assert MASK in text
    assert leaks({"it": SECRET}, {"the quotation": quoted.encode()})
    assert not leaks({"it": SECRET, "a part": SECRET[3:-3]}, {"the text": text.encode()})


@given(
    st.text(st.characters(max_codepoint=255, min_codepoint=32), min_size=8, max_size=30),
    st.sampled_from(list(FORMS)),
    st.text(max_size=5),
    st.text(max_size=5),
)
def test_any_secret_is(secret: str, form: str, before: str, after: str) -> None:
    text = Redactor([secret])(f"{before} {FORMS[form](secret)} {after}")
    assert not leaks({"it": secret}, {"the text": text.encode("utf-8", "surrogatepass")})


@pytest.mark.parametrize("form", list(FORMS)[:8])
def test_a_secret_that_is_cut_off_is_masked(form: str) -> None:
    whole = FORMS[form](SECRET)
    text = Redactor([SECRET])(f"you sent {whole[:15]}")
    assert text.startswith("you sent ")
    assert len(text) <= len("you sent ") + 6


def test_a_toy_is_left_alone_and_so_is_what_is_no_secret() -> None:
    assert Redactor(["toy", None])("a toy of one") == "a toy of one"
    assert Redactor(["kept~under~wraps"])("nothing kept here") == "nothing kept here"
    assert Redactor([])("nothing") == "nothing"


JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "token",
    [
        *(JWT, f"{JWT}.more.parts", JWT.rpartition(".")[0], f"Bearer {'opaque-' * 4}"),
        *("Bearer%20opaque-opaque-opaque", "authorization: bearer  opaque/opaque+opaque=="),
    ],
)
def test_what_looks_like_a_token_is_masked(token: str) -> None:
    text = masked(f"it said {token} to me")
    for part in (*JWT.split("."), "opaque", "more"):
        assert part not in text
    assert text.endswith(" to me")
