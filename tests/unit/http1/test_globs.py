"""`*` within a part, `**` across parts, and nothing else is special."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.http1.globs import Glob


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("/a/b", ["/a/b"], ["/a", "/a/b/", "/a/bc", "a/b", ""]),
        ("/a/*", ["/a/b", "/a/"], ["/a", "/a/b/c"]),
        ("/a/*/c", ["/a/b/c", "/a//c"], ["/a/c", "/a/b/b/c"]),
        ("/a*b*c", ["/abc", "/a1b2c", "/abcbc"], ["/ab", "/acb", "/ab/c", "/abcd"]),
        ("/aa*aa", ["/aaaa", "/aaaaa"], ["/aaa", "/aa"]),
        ("/**", ["/", "/a", "/a/b", ""], ["x/a"]),
        ("/a/**", ["/a", "/a/", "/a/b/c"], ["/ab", "/b/a"]),
        ("/**/z", ["/z", "/a/z", "/a/z/z"], ["/a/z/b", "/az"]),
        ("/a/**/b/**/c", ["/a/b/c", "/a/x/b/y/c", "/a/b/b/c/c"], ["/a/c", "/a/b", "/a/c/b"]),
        ("/a[b]?", ["/a[b]?"], ["/ab", "/abc"]),
        ("system:*:x", ["system:a:x"], ["system:a:b:x", "system:x"]),
    ],
)
def test_a_pattern_fits_whole_names(pattern: str, fitting: list[str], others: list[str]) -> None:
    glob = Glob(pattern, pattern[0] if pattern[0] == "/" else ":")
    assert [name for name in fitting if not glob.matches(name)] == []
    assert [name for name in others if glob.matches(name)] == []


@pytest.mark.parametrize("pattern", ["/a**", "/**b", "/a/***"])
def test_two_stars_stand_alone(pattern: str) -> None:
    with pytest.raises(ValueError, match="must stand alone"):
        Glob(pattern, "/")


PARTS = st.text("ab", max_size=3)


@given(
    st.lists(st.one_of(st.just("**"), st.text("ab*", max_size=4).filter(lambda p: "**" not in p))),
    st.lists(PARTS, max_size=6),
)
def test_it_agrees_with_a_regular_expression(pattern: list[str], parts: list[str]) -> None:
    """The expression could take for ever; here, names are short."""
    written = "".join(
        "(/[^/]*)*" if part == "**" else "/" + re.escape(part).replace(r"\*", "[^/]*")
        for part in pattern
    )
    name = "".join(f"/{part}" for part in parts)
    expected = re.fullmatch(written, name) is not None
    # Without a first separator there would be no empty part in front.
    assert Glob("".join(f"/{part}" for part in pattern), "/").matches(name) == expected


def test_a_long_name_takes_no_more_than_the_product_of_both_lengths() -> None:
    calls = 0

    class Counted(str):
        def startswith(self, *args: Any) -> bool:
            nonlocal calls
            calls += 1
            return str.startswith(self, *args)

    class Name(str):
        def split(self, *args: object, **kwargs: object) -> list[str]:
            return [Counted(part) for part in str.split(self, "/")]

    pattern = "/**/*a/**/*b/**/*c/**/*d"
    assert not Glob(pattern, "/").matches(Name("/a" * 1000))
    assert 0 < calls <= 1001 * len(pattern.split("/"))
