"""Fuzzes one target under atheris: `python -m lab.fuzz NAME [libFuzzer's options] [folders]`.

Bytes that lead to new places are kept in the first folder. To look for an
hour, and to keep only what is needed of what was found:

    .venv/bin/python -m lab.fuzz request -max_total_time=3600 /tmp/found lab/fuzz/corpus/request
    .venv/bin/python -m lab.fuzz request -set_cover_merge=1 lab/fuzz/corpus/request /tmp/found
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

atheris.enabled_hooks.add("str")
with atheris.instrument_imports(include=["authproxy", "waitress"]):
    from lab.fuzz.targets import TARGETS

_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Fuzz until told to stop, or until a rule is broken."""
    name, *options = sys.argv[1:]
    defaults = ["-max_len=2048", "-timeout=20", f"-dict={_HERE / 'http.dict'}"]
    # To merge, libFuzzer has a shell run this again.
    command = f"{sys.executable} -m lab.fuzz {name}"
    atheris.Setup([command, *defaults, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
