"""Known secrets and what looks like a token are masked, in the forms that errors quote."""

from __future__ import annotations

import json
import random
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from types import FrameType
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.redaction import MASK, Redactor, masked
from authproxy.redaction.quotations import LONG, PART
from tests.support.planted import leaks, left
from tests.support.quoting import QUOTED, basic

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


# -- a token, in whatever form and whichever part of it -----------------------------------


def token_of(seed: int) -> str:
    """Return what a token of Entra looks like, as long as they are."""
    numbers = random.Random(seed)

    def part(octets: int) -> str:
        return urlsafe_b64encode(numbers.randbytes(octets)).decode().rstrip("=")

    return f"eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.{part(900)}.{part(256)}"


TOKEN = token_of(1)


def assert_nothing_around_is_masked(shown: str) -> None:
    """No letters there: one may be just what stands beside the part in the token."""
    assert shown.startswith("[[ ")
    assert shown.endswith(" ]]")


@pytest.mark.parametrize("form", QUOTED)
def test_a_token_is_masked_in_every_form_and_part(form: str) -> None:
    redact = Redactor()
    for part in (TOKEN, *TOKEN.split("."), TOKEN[-40:], TOKEN[300:400]):
        quoted = f"[[ {QUOTED[form](part)} ]]"
        shown = redact(quoted, [TOKEN])
        assert left(TOKEN, quoted)
        assert not left(TOKEN, shown)
        assert_nothing_around_is_masked(shown)
        assert form == "hex as in xxd" or len(shown) < 40


@given(
    st.integers(0, 2**32),
    st.sampled_from(sorted(QUOTED)),
    st.integers(0, 1500),
    st.integers(12, 100),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_any_part_of_any_token_is_masked(
    seed: int, form: str, start: int, length: int, before: int, after: int
) -> None:
    """Whatever is cut off at either end of the token, and then of its quotation."""
    token = token_of(seed)
    quoted = QUOTED[form](token[start : start + length])
    quoted = quoted[before : max(before, len(quoted) - after)]
    shown = Redactor()(f"[[ {quoted} ]]", [token])
    assert not left(token, shown)
    assert_nothing_around_is_masked(shown)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=LONG, max_size=300),
    st.sampled_from(["as it is", "base64", "hex", "percent-encoded", "JSON"]),
    st.integers(0, 200),
)
def test_so_is_any_part_of_any_long_secret(secret: str, form: str, start: int) -> None:
    quoted = QUOTED[form](secret[start : start + 100])
    assert not left(secret, Redactor([secret])(f"you sent {quoted} to me"))


@given(st.integers(0, 2**32), st.text(max_size=300))
def test_what_is_no_part_of_it_is_left_alone(seed: int, text: str) -> None:
    assert Redactor()(text, [token_of(seed)]) == masked(text)


ORDINARY = [
    '{"error":{"code":"TooManyRequests","message":"Rate limit of 5000/min. Retry in 3 s."}}',
    "The role assignment 3f2504e0-4f89-11d3-9a0c-0305e82c3301 was not found (trace 0af7651916cd43)",
    "<html><head><title>502 Bad Gateway</title></head>\r\n<body>nginx/1.22.1 &amp; co.</body>",
    "out of order sample: job=%22node%22, instance=%2210.0.0.1:9100%22\n" * 20,
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_errors_are_left_alone(text: str) -> None:
    for seed in range(20):
        assert Redactor(["team-monitoring", "application/json"])(text, [token_of(seed)]) == text


def test_pieces_that_are_too_short_by_themselves_are_not_many() -> None:
    """Whoever cuts a token into pieces for somebody to put together again gets nothing through."""
    pieces = [TOKEN[at : at + PART - 1] for at in range(0, 600, PART - 1)]
    shown = Redactor()("!".join(pieces), [TOKEN])
    assert shown == MASK


def test_a_token_that_is_not_known_is_masked_beside_one_that_begins_alike() -> None:
    """All of an issuer's tokens have the same header."""
    header, _, _ = TOKEN.split(".")
    unknown = token_of(3)
    assert unknown.startswith(header)
    assert Redactor()(f"[[ {unknown} ]]", [TOKEN]) == "[[ *** ]]"


def test_several_tokens_and_secrets_are_masked_together() -> None:
    other = token_of(2)
    text = f"{basic(TOKEN)} {other.encode().hex()} {quote_plus(SECRET)}"
    shown = Redactor([SECRET])(text, [TOKEN, other])
    assert not left(TOKEN, shown)
    assert not left(other, shown)
    assert not left(SECRET, shown)


SEEDS_IN_REVERSE = "".join(TOKEN[at : at + 6] for at in range(len(TOKEN) - 6, -1, -6))

HOSTILE: dict[str, Callable[[int], str]] = {
    "ordinary": lambda size: "the quick brown fox " * (size // 20),
    "token": lambda size: (TOKEN * (size // len(TOKEN) + 1))[:size],
    "base64": lambda size: (basic(TOKEN) * (size // len(TOKEN)))[:size],
    "its first letters": lambda size: TOKEN[:7] * (size // 7),
    "seeds in reverse": lambda size: (SEEDS_IN_REVERSE * (size // len(TOKEN) + 1))[:size],
    "percent": lambda size: "%" * size,
    "escaped percents": lambda size: "%25" * (size // 3),
    "nested percents": lambda size: "%2525252525" * (size // 11),
    "backslashes": lambda size: "\\" * size,
    "ampersands": lambda size: "&#x" * (size // 3),
    "blanks": lambda size: " " * size,
    "line ends": lambda size: "=\r\n" * (size // 3),
    "a word between dots": lambda size: "a." * (size // 2),
    "JWT after JWT": lambda size: "eyJhbGciOi." * (size // 11),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_twice_the_text_takes_twice_the_steps(kind: str) -> None:
    small, large = (steps(HOSTILE[kind](size)) for size in (2_000, 4_000))
    assert large <= 2.5 * small


def steps(text: str) -> int:
    """Return how many lines of our modules run to mask a text; C has but linear parts in it."""
    redact = Redactor([SECRET])
    redact("", [TOKEN])
    redact("x", [TOKEN])
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if "authproxy" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        redact(text, [TOKEN])
    finally:
        sys.settrace(before)
    return count
