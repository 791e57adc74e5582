"""`authproxy serve` that says where its CPU time goes: python -m lab.benchmarks.sampled FILE serve

From SIGUSR2 on, each time the process has used up some milliseconds of CPU
time, the kernel signals the thread that runs, and faulthandler, which needs no
GIL, writes that thread's stack to the file. What a thread does while it has
released the GIL (TLS, system calls) is seen as well as the rest, and who
merely waits for a core, a lock or a socket is not.

The price: up to Python 3.12 faulthandler now and then reads a frame that is
just being made, and the process crashes: about once in some thousand
samples, and more often while modules are imported, hence not from the start on.
"""

from __future__ import annotations

import faulthandler
import runpy
import signal
import sys
from pathlib import Path

#: CPU seconds between two samples; the kernel's tick is the finest that it knows.
INTERVAL = 0.004


def _begin(*_: object) -> None:
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)


def main() -> None:
    """Be authproxy, ready to be sampled."""
    with Path(sys.argv.pop(1)).open("wb") as samples:
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        # Chained, to nothing: only then does faulthandler leave errno as it was.
        faulthandler.register(signal.SIGPROF, file=samples, all_threads=False, chain=True)
        signal.signal(signal.SIGUSR2, _begin)
        try:
            runpy.run_module("authproxy", run_name="__main__", alter_sys=True)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.unregister(signal.SIGPROF)


if __name__ == "__main__":
    main()
