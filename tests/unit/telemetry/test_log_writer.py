"""Log lines are written in order by a thread; what cannot be written is counted and told."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.telemetry import log_writer
from authproxy.telemetry.log_writer import LogWriter, descriptor_sink
from tests.support.wire import DEADLINE

Make = Callable[..., LogWriter[str]]


class Reader:
    """Takes bytes as a test has it do so."""

    def __init__(self) -> None:
        self.taken = b""
        self.calls: list[int] = []
        #: How much is taken at most of the next calls.
        self.most: list[int] = []
        self.reads = threading.Event()
        self.reads.set()
        self.waits = threading.Event()
        self.error: Exception | None = None
        #: Bytes after which the disk is full.
        self.room: int | None = None

    def __call__(self, data: bytes) -> int:
        self.waits.set()
        assert self.reads.wait(DEADLINE)
        if self.error is not None:
            raise self.error
        most = self.most.pop(0) if self.most else None
        if self.room is not None:
            most = self.room - len(self.taken)
            if not most:
                raise OSError("No space left on device")
        self.calls.append(len(data))
        self.taken += data[:most]
        return len(data[:most])

    @property
    def lines(self) -> list[str]:
        return self.taken.decode().splitlines()


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.reads.set()


@pytest.fixture
def make(reader: Reader) -> Iterator[Make]:
    made: list[LogWriter[str]] = []

    def make(form: Callable[[str], str] = str, **bounds: int) -> LogWriter[str]:
        made.append(LogWriter(reader, form, "lost {}".format, **bounds))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


def put(writer: LogWriter[str], *lines: str) -> None:
    for line in lines:
        writer.put(line, len(line))


def held(reader: Reader, writer: LogWriter[str]) -> None:
    """Have the writer wait for the reader, with one line, `0`, in its hands."""
    reader.reads.clear()
    put(writer, "0")
    assert reader.waits.wait(DEADLINE)


def test_lines_come_in_order_and_nobody_waits_for_them(reader: Reader, make: Make) -> None:
    writer = make()
    held(reader, writer)
    put(writer, *map(str, range(1, 1000)))  # would hang here
    assert reader.taken == b""
    reader.reads.set()
    assert writer.flush()
    assert reader.lines == list(map(str, range(1000)))
    assert writer.lost == 0


def test_lines_are_formed_in_the_thread(make: Make) -> None:
    threads: list[str] = []

    def form(line: str) -> str:
        threads.append(threading.current_thread().name)
        return line

    writer = make(form)
    put(writer, "a")
    assert writer.flush()
    assert threads == ["log"]


def test_a_write_is_of_whole_lines_that_no_other_process_comes_between(
    reader: Reader, make: Make
) -> None:
    writer = make()
    held(reader, writer)
    put(writer, *("x" * 99 for _ in range(200)), "y" * 10_000, "z")
    reader.reads.set()
    assert writer.flush()
    assert reader.calls[0] == 2
    assert reader.calls[1:6] == [4000] * 5
    assert 10_001 in reader.calls
    assert max(size for size in reader.calls if size != 10_001) <= select.PIPE_BUF


@pytest.mark.parametrize("bounds", [{"max_items": 10}, {"max_bytes": 1000}], ids=str)
def test_what_does_not_fit_is_lost_and_told_once(
    reader: Reader, make: Make, bounds: dict[str, int]
) -> None:
    writer = make(**bounds)
    held(reader, writer)
    for number in range(1, 101):
        writer.put(str(number), 100)
    lost = writer.lost
    assert 90 <= lost <= 92
    reader.reads.set()
    assert writer.flush()
    kept = list(map(str, range(101 - lost)))
    assert reader.lines == [*kept, f"lost {lost}"]
    put(writer, "later")
    assert writer.flush()
    assert reader.lines == [*kept, f"lost {lost}", "later"]


def test_the_loss_stands_where_it_happened(reader: Reader, make: Make) -> None:
    writer = make(max_items=4)
    held(reader, writer)
    put(writer, "1", "2", "3", "lost", "lost")
    reader.reads.set()
    assert writer.flush()
    put(writer, "4")
    assert writer.flush()
    assert reader.lines == ["0", "1", "2", "3", "lost 2", "4"]


def test_nobody_there_is_counted_and_told_when_somebody_is(reader: Reader, make: Make) -> None:
    writer = make()
    reader.error = BrokenPipeError()
    for line in ("1", "2", "3"):
        put(writer, line)
        assert writer.flush()
    assert (writer.lost, reader.taken) == (3, b"")
    reader.error = None
    put(writer, "4")
    assert writer.flush()
    assert reader.lines == ["lost 3", "4"]
    assert writer.lost == 3


def test_a_line_that_was_cut_off_is_ended_and_counted(reader: Reader, make: Make) -> None:
    writer = make()
    held(reader, writer)
    put(writer, "one", "two", "three")
    reader.room = len("0\none\ntw")
    reader.reads.set()
    assert writer.flush()
    reader.room = None
    put(writer, "four")
    assert writer.flush()
    assert reader.lines == ["0", "one", "tw", "lost 2", "four"]
    assert writer.lost == 2


@given(st.lists(st.text(st.characters(exclude_characters="\n\r")), max_size=20), st.data())
def test_every_line_arrives_whatever_is_taken_at_a_time(
    lines: list[str], data: st.DataObject
) -> None:
    reader = Reader()
    reader.most = list(data.draw(st.lists(st.integers(1, 50), max_size=50)))
    writer: LogWriter[str] = LogWriter(reader, str, "lost {}".format)
    put(writer, *lines)
    assert writer.flush()
    writer.close()
    expected = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    assert reader.taken == expected


def test_a_flush_ends_where_nobody_reads(
    reader: Reader, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_STALL_SECONDS", 0.1)
    writer = make()
    held(reader, writer)
    assert not writer.flush()


def test_lines_are_written_without_a_thread_where_there_is_none_to_be_had(
    reader: Reader, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer = make()
    put(writer, "1", "2")
    assert reader.lines == []
    assert writer.flush()
    assert reader.lines == ["1", "2"]


def test_a_thread_that_has_ended_is_noticed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    writer = make(lambda line: str(1 / 0))
    assert writer.alive
    put(writer, "1")
    assert not writer.flush()
    assert not writer.alive


def test_nothing_is_written_after_the_end(reader: Reader, make: Make) -> None:
    writer = make()
    put(writer, "1")
    writer.close()
    put(writer, "2")
    writer.flush()
    assert reader.lines == ["1"]
    assert writer.alive


def test_a_pipe_that_was_made_non_blocking_is_waited_for() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    writer: LogWriter[str] = LogWriter(descriptor_sink(write_end), str, "lost {}".format)
    lines = [f"{n} {'x' * 1000}" for n in range(300)]  # a pipe holds 64 KiB
    put(writer, *lines)
    with os.fdopen(read_end) as pipe:
        assert [next(pipe).rstrip("\n") for _ in lines] == lines
    writer.close()
    os.close(write_end)


def test_a_full_device_costs_lines_and_nothing_else() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer: LogWriter[str] = LogWriter(descriptor_sink(full.fileno()), str, "lost {}".format)
        put(writer, "1", "2")
        assert writer.flush()
        assert (writer.lost, writer.alive) == (2, True)
        writer.close()


def test_a_million_lines_that_nobody_reads_take_a_bounded_memory(
    reader: Reader, make: Make
) -> None:
    writer = make()
    held(reader, writer)
    line = "x" * 1000
    for _ in range(100_000):
        put(writer, line)
    assert writer._shared.queue.qsize() <= 4096
    assert writer.lost > 95_000
