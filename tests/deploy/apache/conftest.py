"""Apaches for the tests of what is particular to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.apache import ApacheProcess

LaunchApache = Callable[..., ApacheProcess]


def _launcher(stack: ExitStack, base: dict[str, str]) -> LaunchApache:
    def launch(
        *, ready: bool = True, settings: dict[str, str] | None = None, **how: Any
    ) -> ApacheProcess:
        """Start Apache with the base settings changed by `settings`; `how` goes to the class."""
        apache = ApacheProcess({**base, **(settings or {})}, **how)
        stack.push(apache.__exit__)
        apache.start(ready=ready)
        return apache

    return launch


@pytest.fixture
def launch_apache(base_settings: dict[str, str]) -> Iterator[LaunchApache]:
    """Start Apaches of one test's own; they are stopped, and checked, at its end."""
    with ExitStack() as stack:
        yield _launcher(stack, base_settings)


@pytest.fixture(scope="module")
def launch_apache_for_module(base_settings: dict[str, str]) -> Iterator[LaunchApache]:
    """Start Apaches that the tests of one module share."""
    with ExitStack() as stack:
        yield _launcher(stack, base_settings)
