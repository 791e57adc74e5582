"""What waits to be logged is written once, whoever is forked meanwhile."""

from __future__ import annotations

import subprocess
import sys

FORKING = """
import os, sys
from authproxy.telemetry.log_writer import LogWriter, descriptor_sink
writer = LogWriter(descriptor_sink(2), str, "lost {}".format)
def put(*lines):
    for line in lines:
        writer.put(line, 1)
put(*(f"parent {n}" for n in range(100)))
pid = os.fork()
put(*(f"{'parent' if pid else 'child'} {n}" for n in range(100, 200)))
assert writer.flush()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
os._exit(0)
"""


def test_a_forked_process_leaves_to_its_parent_what_waits_there() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    assert [line for line in lines if "parent" in line] == [f"parent {n}" for n in range(200)]
    assert [line for line in lines if "child" in line] == [f"child {n}" for n in range(100, 200)]
