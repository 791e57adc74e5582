"""Every block of code in the documentation is run, or read by what it is for.

A block belongs to whoever claims it: a judge of this file, or a test elsewhere
that is named in COVERED. A block that nobody claims fails, and so does a claim
of nothing, so that none is left out in silence.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

import pytest

from tests.docs import configuration, output, scripts_and_commands
from tests.support.pages import Block, blocks_of
from tests.support.source import ROOT
from tools.docs_site import pages

Judge = Callable[[Block], None]

BLOCKS = [block for page in pages() for block in blocks_of(page)]

#: Each raises if something is wrong with a block of its language.
JUDGES: dict[str, Judge] = {
    "bash": scripts_and_commands.judge_script,
    "sh": scripts_and_commands.judge_script,
    "yaml": configuration.judge_yaml,
    "dotenv": configuration.judge_environment,
    "ini": configuration.judge_ini,
    "diff": configuration.judge_diff,
    "json": output.judge_json,
    "text": output.judge_text,
}

#: Language and page: the tests that run or read such blocks, where no judge does.
COVERED: dict[tuple[str, str], str] = {
    ("picture", "docs/architecture.md"): (
        "tests/docs/test_architecture.py::test_the_modules_of_the_picture_are_there"
    ),
    ("apache", "docs/apache.md"): (
        "tests/deploy/apache/test_documented.py::test_the_second_proxys_configuration_is_valid"
    ),
    ("python", "CONTRIBUTING.md"): (
        "tests/docs/test_settings.py::test_the_declaration_that_contributors_are_shown_is_one"
    ),
    ("python", "docs/python.md"): (
        "tests/docs/test_python_api.py::test_the_examples_are_typed_and_a_mistake_in_them_is_found"
    ),
}


def page_of(block: Block) -> str:
    return block.page.relative_to(ROOT).as_posix()


@pytest.mark.real("promtool", "curl")
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_each_block_is_claimed_and_right(block: Block) -> None:
    judge = JUDGES.get(block.language)
    if judge is not None:
        judge(block)
        return
    claim = COVERED.get((block.language, page_of(block)))
    assert claim is not None, (
        f"nobody claims the {block.language or 'nameless'} block under {block.heading!r} of"
        f" {page_of(block)}: give it a judge in JUDGES or a test in COVERED"
    )


@pytest.mark.parametrize("place", COVERED, ids=": ".join)
def test_what_covers_a_block_is_there_and_reads_its_page(place: tuple[str, str]) -> None:
    language, page = place
    assert any(block.language == language and page_of(block) == page for block in BLOCKS)
    path, _, name = COVERED[place].partition("::")
    source = (ROOT / path).read_text()
    functions = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    assert name in functions
    assert page.rpartition("/")[2] in source
    assert language in source


def test_no_language_has_a_judge_in_vain() -> None:
    assert {block.language for block in BLOCKS} >= set(JUDGES)


#: What begins like a command and is a line of a log.
NO_COMMANDS = {"authproxy cannot start"}
#: Commands within sentences and tables.
SPANS = sorted(
    {
        (page.relative_to(ROOT).as_posix(), span)
        for page in pages()
        for span in re.findall(
            r"`((?:authproxy [a-z]|make |curl -)[^`\n]*)`",
            re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S),
        )
        if span not in NO_COMMANDS
    }
)


@pytest.mark.parametrize(("page", "span"), SPANS, ids=map(": ".join, SPANS))
def test_commands_in_sentences_are_some_that_there_are(page: str, span: str) -> None:
    scripts_and_commands.judge_script(Block(ROOT / page, "a sentence", "bash", span + "\n"))


def test_no_block_is_overlooked() -> None:
    """Code stands between fences at the beginning of lines, and nowhere else."""
    for page in pages():
        text = page.read_text()
        fences = re.findall(r"^ *(?:`{3,}|~{3,}).*$", text, re.M)
        assert len(fences) == 2 * len(blocks_of(page)), page
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        indented = re.findall(r"^(?:\t| {4,})(?! *[-*\d|]).*$", prose, re.M)
        assert indented == [], page


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("bash", "authproxy serve --listening-prot 8081\n"),
        ("bash", "kubectl exec pod -- authproxy chekc\n"),
        ("bash", "if true; then\n"),
        ("bash", "make tests\n"),
        ("bash", "docker run --env TARGET_HOTS=x authproxy\n"),
        ("bash", "docker build --file docker/Dockerfiles .\n"),
        ("bash", "helm upgrade x helm/authproxy --set replicas=2\n"),
        ("bash", "curl --retry-al-errors http://127.0.0.1/\n"),
        ("bash", "unheard-of --option\n"),
        ("bash", "python -m lab.benchmarks.tables\n"),
        ("bash", "$ make test\n"),
        ("bash", "# make test\n"),
        ("bash", "make test\n# systemctl daemon-reload\n"),
        ("bash", "make test    # all of them\n"),
        ("bash", "editor /etc/authproxy/authproxy.env\nmake test\n"),
        ("bash", "authproxy serve\ncurl http://127.0.0.1:8081/\n"),
        ("bash", "apt-get install apache2\n"),
        ("yaml", "remote_write:\n  - urll: http://127.0.0.1/\n"),
        ("yaml", "target_hots: a.example.com\n"),
        ("yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {container: []}\n"),
        ("yaml", "readynessProbe: {}\n"),
        ("yaml", "what: ever\n"),
        ("yaml", "a: [\n"),
        ("yaml", "exporters: {prometheusremotewrite: {endpoints: x}}\nservice: {pipelines: {}}\n"),
        ("dotenv", "ALLOWED_METHOD=GET\n"),
        ("dotenv", "LISTENING_SOCKET_MODE=rw\n"),
        ("ini", "[Sockett]\nListenStream=1\n"),
        ("ini", "THREADS=many\n"),
        ("diff", "-        image: a\n"),
        ("json", '{"status": }\n'),
        ("json", '{"statuss": "ready"}\n'),
        ("text", 'level=info msg="No such message"\n'),
        ("text", "anything\n"),
    ],
)
def test_a_judge_finds_what_is_wrong(language: str, code: str) -> None:
    with pytest.raises((AssertionError, ValueError, LookupError)):
        JUDGES[language](Block(ROOT / "docs" / "x.md", "X", language, code))
