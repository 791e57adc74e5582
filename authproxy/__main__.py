"""The program's entry: `authproxy`, and `python -m authproxy`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line; the entry point `authproxy`."""
    _open_standard_descriptors()
    if sys.argv[1:2] == ["serve"]:
        # SIGHUP would end a process that has no handler for it yet, and the imports take a
        # while. Held back, it is a request to reload once somebody listens.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from authproxy.cli.commands import main as run

    run()


def _open_standard_descriptors() -> None:
    """Open those of the descriptors 0 to 2 that the caller closed.

    Else the next socket gets such a number, and with it whatever is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The system gives the lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


if __name__ == "__main__":
    main()
