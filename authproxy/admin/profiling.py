"""What all threads of this process do: their stacks now, and sampled over a time.

Only names of functions, files and lines; no variable, which may hold a secret, is looked at.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from authproxy import __version__

#: Seconds between two samples: for 60 threads that takes a twentieth of a core.
INTERVAL = 0.01


def stacks() -> str:
    """Return the stack of each thread as text, the innermost call last."""
    names = _names()
    parts = []
    for ident, frame in sorted(sys._current_frames().items(), key=lambda each: _of(names, each[0])):
        parts.append(f"Thread {_of(names, ident)}:\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)


@dataclass
class _Thread:
    """The samples of one thread: stacks, the outermost call first, and the seconds of each."""

    name: str
    stacks: list[tuple[int, ...]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, stack: tuple[int, ...], seconds: float) -> None:
        """Add a sample; a stack that stays is one sample."""
        if self.stacks and self.stacks[-1] == stack:
            self.seconds[-1] += seconds
        else:
            self.stacks.append(stack)
            self.seconds.append(seconds)


class Profile:
    """Samples of the stacks of threads."""

    def __init__(self) -> None:
        #: The functions in the order in which they were seen: what a stack has of each.
        self._functions: dict[CodeType, int] = {}
        #: Each stack once, as most are met again.
        self._stacks: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._threads: dict[int, _Thread] = {}

    def add(self, frames: Mapping[int, FrameType], seconds: float) -> None:
        """Add a sample of threads, given by their idents, that stands for so many seconds."""
        names = None
        for ident, frame in frames.items():
            if ident not in self._threads:
                names = names or _names()
                self._threads[ident] = _Thread(_of(names, ident))
            self._threads[ident].add(self._stack(frame), seconds)

    def _stack(self, frame: FrameType | None) -> tuple[int, ...]:
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append(self._functions.setdefault(code, len(self._functions)))
            frame = frame.f_back
        seen = tuple(reversed(stack))
        return self._stacks.setdefault(seen, seen)

    def speedscope(self, title: str) -> dict[str, Any]:
        """Return it in the form of https://www.speedscope.app/file-format-schema.json.

        The thread that did most, by how often its stack changed, comes first.
        """
        threads = sorted(self._threads.values(), key=lambda each: -len(each.stacks))
        return {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": f"authproxy {__version__}",
            "name": title,
            "activeProfileIndex": 0,
            "shared": {
                "frames": [
                    {
                        "name": getattr(code, "co_qualname", code.co_name),  # from Python 3.11 on
                        "file": code.co_filename,
                        "line": code.co_firstlineno,
                    }
                    for code in self._functions
                ]
            },
            "profiles": [
                {
                    "type": "sampled",
                    "name": each.name,
                    "unit": "seconds",
                    "startValue": 0,
                    "endValue": sum(each.seconds),
                    "samples": each.stacks,
                    "weights": each.seconds,
                }
                for each in threads
            ],
        }


def sampled(seconds: float, ended: threading.Event) -> Profile:
    """Return a profile of the threads but this one over so many seconds, or until `ended`."""
    profile, own = Profile(), threading.get_ident()
    before = time.monotonic()
    end = before + seconds
    while before < end and not ended.wait(INTERVAL):
        now = time.monotonic()
        frames = sys._current_frames()
        frames.pop(own, None)
        profile.add(frames, now - before)
        before = now
    return profile


def _names() -> dict[int | None, str]:
    return {thread.ident: thread.name for thread in threading.enumerate()}


def _of(names: Mapping[int | None, str], ident: int) -> str:
    """Return what to call a thread; one that Python did not start has its number."""
    return names.get(ident) or f"0x{ident:x}"
