"""The program's entry: `authproxy`, and `python -m authproxy`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        # SIGHUP would end a process that has no handler for it yet, and the imports take a
        # while. Held back, it is a request to reload once somebody listens.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from authproxy.cli.commands import main as run

    run()


if __name__ == "__main__":
    main()
