"""Which paths ALLOWED_PATHS lets in, and that none of them can be taken for another one."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authproxy.http1.path_readings import oddity
from authproxy.http1.path_rules import MAX_LENGTH, PathRules
from tests.support.examples import examples
from tests.support.paths import PATHS, readings


def admitted(entries: str, path: str) -> bool:
    """Decide as the proxy does."""
    return oddity(path) is None and PathRules(entries.split(",")).admit(path)


@pytest.mark.parametrize(
    ("entries", "fitting", "others"),
    [
        (
            "/api/v1/write",
            ["/api/v1/write", "/api/v1/write/", "/api/v1/write/x"],
            ["/api/v1/writer", "/api/v1", "/API/v1/write", "/", "/x/api/v1/write", "api/v1/write"],
        ),
        ("/api/", ["/api/", "/api/v1"], ["/api", "/apis/"]),
        ("/", ["/", "/a", "/a/b"], ["*", ""]),
        (
            "/api/v1/label/*/values",
            ["/api/v1/label/job/values", "/api/v1/label/a%20b/values"],
            ["/api/v1/label/job", "/api/v1/label/a/b/values", "/api/v1/label/job/values/x"],
        ),
        ("/a/**/z", ["/a/z", "/a/b/c/z"], ["/a/b", "/az"]),
        ("/a,/b/*", ["/a", "/a/x", "/b/x"], ["/b", "/b/x/y", "/c"]),
        # Both readings have to fit: this one is `/aB/x` when decoded.
        ("/a*2/x", ["/a12/x"], ["/a%42/x"]),
        ("/write", ["/write"], ["/%77rite"]),
    ],
)
def test_prefixes_end_at_a_slash_and_globs_fit_whole_paths(
    entries: str, fitting: list[str], others: list[str]
) -> None:
    assert [path for path in fitting if not admitted(entries, path)] == []
    assert [path for path in others if admitted(entries, path)] == []


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("api", "does not begin with a slash"),
        ("*", "does not begin with a slash"),
        ("https://example.com/api", "does not begin with a slash"),
        ("/a?b", "a query"),
        ("/a%20b", "an encoded character"),
        ("/a/../b", "dots"),
        ("/a//b", "an empty segment"),
        ("/a;b", "a `;`"),
        ("/a./b", "a dot or blank at a segment's end"),
        ("/a b", "must be encoded"),
        ("/caf\xe9", "beyond ASCII"),
        ("/a/b**", "must stand alone"),
    ],
)
def test_an_entry_that_no_path_could_fit_is_refused(entry: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        PathRules(["/fine", entry])


def test_a_path_beyond_measure_is_not_admitted() -> None:
    longest = "/a" + "b" * (MAX_LENGTH - 2)
    assert admitted("/**", longest)
    assert not admitted("/**", longest + "b")


@examples(5)
@given(PATHS)
@example("/allowed/%2e%2e/secret")
@example("/allowed/..%5csecret")
@example("/open/a%2fsecret")
@example("/allowed/..;/secret")
def test_whatever_is_admitted_stays_under_the_rules_however_it_is_read(path: str) -> None:
    rules = PathRules(["/allowed", "/open/a*", "/deep/**/x"])
    if oddity(path) is not None or not rules.admit(path):
        return
    for reading in readings(path):
        # A slash less at the end is no other resource, and all entries are in small letters.
        as_meant = [path.lower() for path in (reading, f"{reading}/")]
        assert any(map(rules.admit, as_meant)), (path, reading)


@examples(5)
@given(st.text(alphabet="/.%25fFcCeE0;\\ ab*\x00\xc0\xaf", max_size=12).map("/allowed/".__add__))
def test_the_same_of_characters_at_random(path: str) -> None:
    test = test_whatever_is_admitted_stays_under_the_rules_however_it_is_read
    test.hypothesis.inner_test(path)  # type: ignore[attr-defined]
