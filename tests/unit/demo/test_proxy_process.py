"""The demonstration's proxy as a process: its end is seen."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from authproxy.demo.proxy_process import DemoProxy


@pytest.mark.process
def test_its_end_is_seen_though_ctrl_c_has_left_the_lock_of_popen_taken(tmp_path: Path) -> None:
    with ExitStack() as stack:
        proxy = DemoProxy(stack, {}, port=0, status_port=0, log=tmp_path / "log")
        # As Popen.wait does where the signal comes between this and its `try`.
        proxy._child._waitpid_lock.acquire()  # type: ignore[attr-defined]
        assert not proxy.ends_within(0)
        assert proxy.ends_within(60)
        assert proxy.exit_status == 2  # it has no settings
