"""`authproxy serve` that counts what Python executes: python -m lab.benchmarks.counted FILE serve

From one SIGUSR2 to the next the bytecodes of each function are counted, in all threads, and then
written to the file as JSON.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class Counting:
    """The trace function of all threads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._on = False
        #: By thread as well: no two of them add to the same number.
        self._counts: Counter[tuple[int, CodeType]] = Counter()

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and self._on:
            self._counts[threading.get_ident(), frame.f_code] += 1
        return self.trace

    def switch(self, *_signal: object) -> None:
        """Begin to count, or end and write."""
        self._on = not self._on
        if not self._on:
            by_function: Counter[str] = Counter()
            for (_thread, code), count in self._counts.copy().items():
                name = getattr(code, "co_qualname", code.co_name)  # from Python 3.11 on
                by_function[f"{name} ({code.co_filename})"] += count
            whole = self._file.with_suffix(".part")
            whole.write_text(json.dumps(by_function))
            whole.rename(self._file)


def main() -> None:
    """Be authproxy, ready to be counted."""
    counting = Counting(Path(sys.argv.pop(1)))
    signal.signal(signal.SIGUSR2, counting.switch)
    threading.settrace(counting.trace)
    sys.settrace(counting.trace)
    runpy.run_module("authproxy", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
