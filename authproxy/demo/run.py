"""`authproxy demo`: the command's shell around the demonstration."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from authproxy.demo.demonstration import Demonstration
from authproxy.demo.narration import Narration
from authproxy.demo.proxy_process import DemonstrationFailed
from authproxy.demo.stand_ins.loopback import PortInUse

#: Signals that end the demonstration like Ctrl-C, so that its proxy ends too.
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def run_demo(*, once: bool, verbose: bool, ports: Mapping[str, int], narration: Narration) -> int:
    """Show the real proxy between a stand-in Entra and a stand-in metrics store.

    Stays until Ctrl-C unless `once`. `ports` has `entra_port`, `store_port`, `proxy_port` and
    `status_port`; those that are 0 are chosen by the system. `verbose` shows the proxy's log.
    Returns the exit status: 1 if anything failed, having said what.
    """
    echo = narration.line
    try:
        with (
            _ended_by_signals(),
            Demonstration(narration, ports, verbose=verbose) as demonstration,
        ):
            demonstration.show()
            if not once:
                demonstration.invite()
                demonstration.stay()
    except PortInUse as error:
        option = next((name for name, port in ports.items() if port == error.port), "proxy_port")
        option = f"--{option.replace('_', '-')}"
        echo(f"Port {error.port} is in use already. Choose another with {option}.")
        return 1
    except DemonstrationFailed as error:
        echo(f"Failed: {error}")
        return 1
    except KeyboardInterrupt:
        echo("Ended.")
        # Ended early, `--once` has not shown what it was asked for.
        return 1 if once else 0
    return 0


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Treat the signals that end a command like Ctrl-C."""
    previous = {
        number: signal.signal(number, signal.default_int_handler)
        for number in _ENDING
        # nohup ignores SIGHUP, and means it.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
