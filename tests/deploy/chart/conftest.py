"""The chart as the real helm renders it; each rendering happens once in a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.helm import CHART, Helm

VALUES = sorted(Path(__file__).parent.glob("values/*.yaml"))
EXAMPLES = [path for path in sorted(CHART.glob("examples/*.yaml")) if "stack" not in path.name]
MATRIX = [*VALUES, *EXAMPLES]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `values` once for each values file."""
    if "values" in metafunc.fixturenames:
        metafunc.parametrize("values", MATRIX, ids=lambda path: path.stem)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))
