"""The tokens that let callers in: what a file may hold, and how they are compared."""

from __future__ import annotations

import ast
import hmac
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.files.inbound_tokens import TokenDigests, parse_tokens, watched_tokens

A, B = "a" * 16, "b-._~+/=" * 4


@pytest.mark.parametrize(
    "content",
    [
        f"{A}\n{B}\n",
        f"{A}\n{B}",
        f"\n# of the scraper\n  {A}\t\r\n\r\n#{B}\n{B}\r\n",
        f"\ufeff{A}\n{B}",
    ],
)
def test_tokens_stand_one_a_line_besides_blank_lines_and_comments(content: str) -> None:
    assert parse_tokens(content.encode()) == [A, B]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no token"),
        (b"\n \n# nothing\n", "holds no token"),
        (f"{A}\nshort\n".encode(), "the token on line 2 has fewer than 16 characters"),
        (f"{A} {B}".encode(), "line 1 holds more than one token"),
        (f"{A}\n{A}\u00e9".encode(), "line 2 holds more than one token of printable ASCII"),
        (f"{A}\x00".encode(), "line 1"),
        (b"\xff\xfe" + A.encode("utf-16-le"), "not UTF-8"),
    ],
)
def test_what_holds_no_token_or_a_weak_one_is_refused_unquoted(
    content: bytes, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse_tokens(content)
    assert A not in str(caught.value)
    assert "short" not in str(caught.value)


@given(st.lists(st.text("abAB-_", min_size=1), min_size=1), st.text())
def test_exactly_the_tokens_of_the_file_are_known(tokens: list[str], other: str) -> None:
    known = TokenDigests(tokens)
    assert all(token in known for token in tokens)
    assert (other in known) == (other in tokens)


def test_every_token_is_compared_whole_whatever_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Structure instead of time: one comparison of the library's for each token, always."""
    lengths: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return compare(one, other)

    tokens = [f"{number:016}" for number in range(9)]
    known = TokenDigests(tokens)
    monkeypatch.setattr(hmac, "compare_digest", counted)
    for presented in (tokens[0], tokens[4], tokens[8], "0", "x" * 10_000, ""):
        lengths.clear()
        assert (presented in known) == (presented in tokens)
        assert lengths == [(32, 32)] * len(tokens)


def test_nothing_compares_tokens_in_another_way() -> None:
    tree = ast.parse(inspect.getsource(TokenDigests))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]


def test_the_tokens_themselves_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(A)
    watched = watched_tokens(str(path))
    known = watched.current()
    assert known is not None
    assert A in known
    assert A not in repr(vars(known)) + repr(vars(watched))
