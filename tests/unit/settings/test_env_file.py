"""The file of variables that systemd reads: the same variables come of it here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.errors import SettingsError
from authproxy.settings.env_file import assignments, read_env_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        ("  A =  b c \t \n", "b c"),
        ("A=b=c", "b=c"),
        ("A=b # c", "b # c"),
        ('A="b # c " ', "b # c "),
        ("A='b\\c\"'", 'b\\c"'),
        ('A="b\\"c\\\\d\\$e\\`f\\g\'"', "b\"c\\d$e`f\\g'"),
        ("A=\"b\" 'c' d ", "bcd"),
        ("A=b\"c\" 'd'", "b\"c\" 'd'"),
        ("A=b\\\nc", "bc"),
        ("A=b \\\n  c", "b   c"),
        ("A=\\\nb", "b"),
        ('A="b\\\nc\nd"', "bc\nd"),
        ("A=b\\ \\\\c\\d", "b \\cd"),
        ("A=b\\", "b"),
        ('A="b\\', "b"),
        ("A='b\nc", "b\nc"),
        ("A=b\r\n", "b"),
        ("A=$HOME %n", "$HOME %n"),
    ],
)
def test_a_value_is_what_systemd_makes_of_it(text: str, value: str) -> None:
    assert list(assignments(text)) == [(1, "A", value)]


def test_comments_blank_lines_and_continuations_count_as_lines() -> None:
    text = '# A=b \\\n; C=d\n\n \t\nE=f\\\ng\nH="i\nj"\nnone\nK=l'
    assert list(assignments(text)) == [
        (5, "E", "fg"),
        (7, "H", "i\nj"),
        (9, "none", None),
        (10, "K", "l"),
    ]


def by_state(text: str) -> list[tuple[str, str | None]]:
    """Return the same as a machine that takes one character at a time."""
    found: list[tuple[str, str | None]] = []
    state, name, value, kept = "between", "", "", 0  # kept: what is not a blank at the end

    def end() -> None:
        nonlocal state, name, value, kept
        if state == "name":
            found.append((name.rstrip(" \t"), None))
        elif state == "bare":
            found.append((name.rstrip(" \t"), value[:kept]))
        elif state not in ("between", "comment"):
            found.append((name.rstrip(" \t"), value))
        state, name, value, kept = "between", "", "", 0

    for char in text:
        if state in ("between", "comment", "name", "before", "bare") and char in "\r\n":
            end()
        elif state == "between":
            if char in "#;":
                state = "comment"
            elif char not in " \t":
                state, name = ("before", "") if char == "=" else ("name", char)
        elif state == "name":
            state, name = ("before", name) if char == "=" else ("name", name + char)
        elif state == "before" and char in "'\"":
            state = char
        elif state in ("before", "bare") and char == "\\":
            state = "escape"
        elif state == "before" and char in " \t":
            pass
        elif state in ("before", "bare"):
            state, value = "bare", value + char
            kept = len(value) if char not in " \t" else kept
        elif state == "escape":
            state, value = "bare", value + char.strip("\r\n")
            kept = len(value)
        elif state in ("'", '"') and char == state:
            state = "before"
        elif state == '"' and char == "\\":
            state = "escape in quotes"
        elif state == "escape in quotes":
            state, value = '"', value + (char if char in '"\\`$' else f"\\{char}")
            value = value.removesuffix("\\\n")
        elif state in ("'", '"'):
            value += char
    end()
    return found


@given(st.text(st.sampled_from("A=# ;\t\n\r\\\"'$b"), max_size=30))
def test_any_text_is_read_as_character_by_character(text: str) -> None:
    assert [(name, value) for _, name, value in assignments(text)] == by_state(text)


NAMES = st.text(st.sampled_from("AZ_09"), min_size=1, max_size=3)


@given(st.dictionaries(NAMES, st.text(max_size=12), max_size=3))
def test_any_value_can_be_quoted(values: dict[str, str]) -> None:
    lines = []
    for name, value in values.items():
        quoted = re.sub(r'(["\\$`])', r"\\\1", value)
        lines.append(f'{name}="{quoted}"\n')
    assert {name: value for _, name, value in assignments("".join(lines))} == values


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"A=b\nexport SECRET_C=hunter2\n", "line 2 assigns to no variable"),
        (b"hunter2\n", "line 1 assigns to no variable"),
        (b"=hunter2", "line 1 assigns to no variable"),
        (b"A=hunter2\0", "line 1 assigns to no variable"),
        (b"A=hunter2\xff", "not UTF-8"),
        (None, "is a directory"),
    ],
)
def test_what_systemd_leaves_out_is_a_fault_that_quotes_nothing(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "env"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        read_env_file(str(path))
    [fault] = raised.value.faults
    assert (fault.setting, fault.value) == ("--env-file", str(path))
    assert says in fault.problem
    assert "hunter2" not in str(fault)
