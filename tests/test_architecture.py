"""The modules are those of docs/architecture.md, and import as its table says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "authproxy"
PAGE = (ROOT / "docs" / "architecture.md").read_text()

#: From the highest module to the lowest, as `proxy` or `upstream.target`.
ORDER = [name.replace("/", ".") for name in re.findall(r"^\| `([\w/]+)\.py` \|", PAGE, re.M)]


def module_of(path: Path) -> str:
    """Return the name of a module, or of a package by its `__init__.py`."""
    relative = path.relative_to(PACKAGE).with_suffix("")
    parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
    return ".".join(parts)


MODULES = {
    module_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}


def package_of(module: str) -> str:
    """Return what stands in the package's folder: a package in it, or the module itself."""
    return module.split(".")[0]


def nearest(name: str) -> str | None:
    """Return the module that a name is, or is in."""
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name if name in MODULES else None


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that ever run, which leaves out `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from executed(node)


def imported(path: Path) -> set[str]:
    """Return the modules of authproxy that a file imports, also within functions.

    Of a package that gives on what its modules have, those are meant.
    """
    found: set[str] = set()
    for node in executed(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            module = nearest(name.removeprefix("authproxy.")) if "authproxy." in name else None
            if module in PACKAGES:
                found |= imported(MODULES[module])
            elif module is not None:
                found.add(module)
    return found


def test_the_table_names_every_module_once() -> None:
    modules = {name for name in MODULES if package_of(name) != "demo"} - PACKAGES
    assert sorted(ORDER) == sorted(modules)


def test_the_modules_of_a_package_stand_together() -> None:
    """So that packages, too, import downward only."""
    packages = [name for name, _ in groupby(map(package_of, ORDER))]
    assert len(packages) == len(set(packages))
    headings = re.findall(r"^\| \*\*`(\w+)/`\*\* \|", PAGE, re.M)
    assert headings == [name for name in packages if name in PACKAGES]


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_from_below_only(module: str) -> None:
    below = set(ORDER[ORDER.index(module) + 1 :])
    above = {"demo.run"} if module == "cli" else set()
    assert imported(MODULES[module]) - below - above == set()


@pytest.mark.parametrize("package", sorted(PACKAGES - {"demo"}))
def test_a_package_only_gives_on_what_its_own_modules_have(package: str) -> None:
    tree = ast.parse(MODULES[package].read_text())
    assert all(isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in tree.body)
    assert {package_of(name) for name in imported(MODULES[package])} <= {package}


def test_the_demo_meets_the_proxy_over_sockets_only() -> None:
    files = [path for name, path in MODULES.items() if package_of(name) == "demo"]
    assert len(files) > 5
    assert {package_of(name) for path in files for name in imported(path)} <= {"demo"}
