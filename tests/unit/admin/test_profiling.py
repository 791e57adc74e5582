"""Stacks and profiles of threads."""

from __future__ import annotations

import sys
import threading
from types import FrameType

from authproxy.admin.profiling import Profile, sampled, stacks


def frame_of(depth: int) -> FrameType:
    return sys._getframe(1) if depth == 0 else frame_of(depth - 1)


def test_a_stack_that_stays_is_one_sample_and_the_outermost_call_comes_first() -> None:
    ident = threading.get_ident()
    profile = Profile()
    for depth, seconds in ((2, 0.25), (2, 0.5), (1, 1.0)):
        profile.add({ident: frame_of(depth)}, seconds)
    told = profile.speedscope("title")
    [thread] = told["profiles"]
    assert thread["name"] == threading.current_thread().name
    assert thread["weights"] == [0.75, 1.0]
    assert thread["endValue"] == 1.75
    names = [frame["name"] for frame in told["shared"]["frames"]]
    deep, shallow = ([names[place] for place in stack] for stack in thread["samples"])
    assert deep[-2:] == ["frame_of", "frame_of"]
    assert shallow == deep[:-1]
    assert "test_a_stack_that_stays" in shallow[-2]


def test_the_busiest_thread_comes_first() -> None:
    profile = Profile()
    for depth in (1, 2, 1):
        profile.add({1: frame_of(0), 2: frame_of(depth)}, 0.01)
    assert [each["name"] for each in profile.speedscope("")["profiles"]] == ["0x2", "0x1"]


def test_neither_stacks_nor_a_profile_hold_values() -> None:
    secret = "hunter" + str(len(sys.argv) + 2)
    ended, begun, got = threading.Event(), threading.Event(), []

    def wait(password: str) -> None:
        begun.set()
        ended.wait()
        got.append(password)

    thread = threading.Thread(target=wait, args=(secret,), name="one that waits")
    thread.start()
    begun.wait()
    text, profile = stacks(), sampled(0.05, threading.Event())
    ended.set()
    thread.join()
    assert got == [secret]
    assert "Thread one that waits:\n" in text
    assert ", in wait\n" in text
    told = repr(profile.speedscope(""))
    assert "one that waits" in told
    assert secret not in text + told


def test_a_profile_ends_when_the_process_does() -> None:
    ended = threading.Event()
    ended.set()
    assert sampled(3600, ended).speedscope("")["profiles"] == []
