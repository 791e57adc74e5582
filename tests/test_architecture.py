"""The modules are those of docs/architecture.md, and import as its table says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "authproxy"
PAGE = (ROOT / "docs" / "architecture.md").read_text()

#: From the highest module to the lowest.
ORDER = re.findall(r"^\| `(\w+)\.py` \|", PAGE, re.M)


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that ever run, which leaves out `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from executed(node)


def imported(path: Path) -> set[str]:
    """Return the modules of authproxy that a file imports, also within functions."""
    found: set[str] = set()
    for node in executed(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("authproxy.")}
    return {name for name in found if (PACKAGE / f"{name}.py").exists() or name == "demo"}


def test_the_table_names_every_module_once() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert sorted(ORDER) == sorted(modules)


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_from_below_only(module: str) -> None:
    below = set(ORDER[ORDER.index(module) + 1 :])
    above = {"demo"} if module == "cli" else set()
    assert imported(PACKAGE / f"{module}.py") - below - above == set()


def test_the_demo_meets_the_proxy_over_sockets_only() -> None:
    files = sorted((PACKAGE / "demo").glob("*.py"))
    assert files
    assert {name for file in files for name in imported(file)} <= {"demo"}
