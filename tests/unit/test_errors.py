"""What clients and the log are told of a refused request is a whole sentence."""

from __future__ import annotations

import json

import pytest

from authproxy.errors import BadRequest


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        ("the path holds a `;`", "The path holds a `;`."),
        ("The header holds a control character.", "The header holds a control character."),
        ("`#` is no part of it", "`#` is no part of it."),
    ],
)
def test_a_problem_becomes_a_sentence(problem: str, sentence: str) -> None:
    error = BadRequest(problem)
    assert str(error) == json.loads(error.response().body)["message"] == sentence
    assert error.problem == problem


def test_a_sentence_stays_as_it_is() -> None:
    error = BadRequest("the request target is neither a path nor a URL")
    assert str(BadRequest(str(error))) == str(error)
