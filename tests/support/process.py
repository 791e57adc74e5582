"""The real proxy as a process of its own, driven through its front door."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import authproxy
from tests.support.logfmt import parse_line
from tests.support.wire import DEADLINE, Address, Client, Response, WireError, exchange, message

#: Where the package under test is imported from, here and in the process.
SOURCE = Path(authproxy.__file__).resolve().parent.parent

#: How long a start may take on a machine that has too much to do: a second by itself.
START_DEADLINE = 150.0
STOP_DEADLINE = 50.0


#: Ports below those that the system chooses from, in a turn that begins elsewhere in each process.
_PORTS = itertools.count(random.SystemRandom().randrange(12_000))

#: Descriptors that reserve the last of them, so many at most.
_RESERVED: deque[int] = deque()
_MOST_RESERVED = 64


def free_port() -> int:
    """Return a port on which nothing listens.

    As the system gives it to no other socket (ip_local_port_range), and this function to no other
    process, it is free for as long as a start takes.
    """
    while True:
        port = 20_000 + next(_PORTS) % 12_000
        with socket.socket() as sock:
            try:
                sock.bind(("", port))
            except OSError:
                continue  # somebody listens there
        if _reserve(port):
            return port


def _reserve(port: int) -> bool:
    """Keep other processes of tests from this port, for as long as a start takes.

    By a name without a file (unix(7)), which ends with its process. Elsewhere there are none.
    """
    if sys.platform != "linux":
        return True
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.bind(f"\0authproxy tests: port {port}")
        except OSError:
            return False  # another process has it
        _RESERVED.append(sock.detach())
    if len(_RESERVED) > _MOST_RESERVED:
        os.close(_RESERVED.popleft())
    return True


def clean_environment(home: str) -> dict[str, str]:
    """Return an environment without any setting of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
    return {
        **kept,
        **coverage,
        "HOME": home,
        "PYTHONPATH": str(SOURCE),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class ProxyProcess:
    """`authproxy serve` with the given settings, on a port or Unix socket of its own.

    Where the settings have a LISTENING_PORT, it is that one.

    A context manager: on leaving, the process is stopped and must have ended
    with `exit_status`, and must not have logged a traceback.
    """

    #: Fields that it adds to every answer, in small letters, besides Date.
    adds: frozenset[str] = frozenset()

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        options: Sequence[str] = (),
        unix_socket: Path | None = None,
        exit_status: int | None = 0,
        tracebacks: bool = False,
    ) -> None:
        self.settings = dict(settings)
        self.options = list(options)
        self.unix_socket = unix_socket
        self.exit_status = exit_status
        self.tracebacks = tracebacks
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        #: Cleared while nobody reads its standard error.
        self._reads = threading.Event()
        self._reads.set()
        self._home = tempfile.TemporaryDirectory(prefix="authproxy-test-")
        self._process: subprocess.Popen[bytes] | None = None

    # -- its life ------------------------------------------------------------

    def __enter__(self) -> ProxyProcess:
        try:
            return self.start()
        except BaseException:
            self.stop(strict=False)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(strict=kind is None)

    def start(self, *, ready: bool = True) -> ProxyProcess:
        """Start the process and return once it listens; and, if `ready`, is ready.

        A port that another process takes at the same moment is exchanged for
        a new one.
        """
        for _ in range(5):
            self._spawn()
            if self._wait_until_listening():
                break
            self._reap()
        else:
            raise AssertionError(f"no port to be had:\n{self.log}")
        if ready:
            self.wait_ready()
        return self

    def _spawn(self) -> None:
        environment = clean_environment(self._home.name)
        if self.unix_socket is not None:
            self.address: Address = str(self.unix_socket)
            environment["LISTENING_SOCKET"] = str(self.unix_socket)
        else:
            self.port = int(self.settings.get("LISTENING_PORT") or free_port())
            self.address = ("127.0.0.1", self.port)
            environment["LISTENING_PORT"] = str(self.port)
        environment |= self.settings
        self._run([sys.executable, "-m", "authproxy", "serve", *self.options], environment)

    def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with self._changed:
            self.lines, self._ended = [], False
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=self._home.name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._reader = threading.Thread(target=self._read_lines, daemon=True)
        self._reader.start()

    def _read_lines(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        begun = b""
        with self._process.stderr as stderr:
            wait = select.poll()
            wait.register(stderr, select.POLLIN)
            while not self._ended:
                wait.poll()
                self._reads.wait()
                with self._changed:  # What has left the pipe is in `lines`: see `mark`.
                    data = os.read(stderr.fileno(), 65536)
                    *whole, begun = (begun + data).split(b"\n")
                    if not data:
                        self._ended = True
                        whole += [begun] if begun else []
                    for line in whole:
                        self._take(line.decode(errors="backslashreplace"))
                    self._changed.notify_all()

    def _take(self, line: str) -> None:
        """Take in a line of standard error."""
        self.lines.append(line)

    def _wait_until_listening(self) -> bool:
        """Return True once it accepts connections, False if the port was taken."""
        give_up = time.monotonic() + START_DEADLINE
        while time.monotonic() < give_up:
            try:
                Client(self.address).close()
            except OSError:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended, timeout=0.05)
                    if not self._ended:
                        continue
                if "in use" in self.log:
                    return False
                raise AssertionError(f"the proxy ended:\n{self.log}") from None
            return not self._ended  # Else someone else listens there.
        raise AssertionError(f"the proxy does not listen:\n{self.log}")

    def wait_ready(self) -> None:
        """Return once /ready answers 200; of several workers, once each has a token to serve with.

        As far as the log tells: not every test's has it.
        """
        give_up = time.monotonic() + START_DEADLINE
        while (response := self.get("/ready")).status != 200:
            if time.monotonic() > give_up:
                raise AssertionError(f"not ready: {response.body!r}\n{self.log}")
            with self._changed:
                self._changed.wait(timeout=0.05)
        workers = int(self.settings.get("WORKERS", "1"))
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or workers == 1 or self._fetched() >= workers, timeout=10
            )

    def wait_for_every_route(self) -> None:
        """Return once every route is ready: /ready answers 200 from the first one on."""

        def all_ready() -> bool:
            response = self.get("/ready")
            return response.status == 200 and b'"ready, but' not in response.body

        wait_until("every route is ready", all_ready)

    def wait_for_tokens(self, count: int) -> None:
        """Return once so many tokens have been fetched; each worker has its own."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or self._fetched() >= count, timeout=DEADLINE
            )
        assert self._fetched() >= count, f"not {count} tokens:\n{self.log}"

    def _fetched(self) -> int:
        return sum('"Token refreshed"' in line for line in self.lines)

    def stop(self, *, strict: bool = True) -> None:
        """End the process; with `strict`, insist on how it ended."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        status = self._reap()
        self._home.cleanup()
        if not strict:
            return
        assert status is not None, f"the proxy did not end on SIGTERM:\n{self.log}"
        if self.exit_status is not None:
            assert status == self.exit_status, f"exit status {status}:\n{self.log}"
        if not self.tracebacks:
            assert "Traceback" not in self.log, self._around("Traceback")

    def _reap(self) -> int | None:
        """Wait for the end; kill what does not end, and return None then."""
        assert self._process is not None
        try:
            status: int | None = self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            status = None
        self._reader.join(STOP_DEADLINE)
        return status

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Return the exit status once the process has ended by itself."""
        status = self._reap()
        assert status is not None, f"the proxy did not end:\n{self.log}"
        return status

    # -- its log -------------------------------------------------------------

    @contextmanager
    def unread(self) -> Iterator[None]:
        """Leave standard error unread, and its pipe as short as the system lets one be."""
        assert self._process is not None
        assert self._process.stderr is not None
        fcntl.fcntl(self._process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        self._reads.clear()
        try:
            yield
        finally:
            self._reads.set()

    @property
    def log(self) -> str:
        with self._changed:
            return "\n".join(self.lines)

    def _around(self, text: str) -> str:
        """Return the lines that hold `text`, with some before and after each."""
        lines = self.log.split("\n")
        places = [at for at, line in enumerate(lines) if text in line]
        near = {at + offset for at in places for offset in range(-2, 25)}
        return "\n".join(line for at, line in enumerate(lines) if at in near)

    def mark(self) -> int:
        """Return the place in the log behind all that has been logged, for `after`.

        Lines are written a hundredth of a second after they are logged, or soon after.
        """
        assert self._process is not None
        assert self._process.stderr is not None
        stderr, waiting = self._process.stderr, bytearray(4)

        def all_read() -> bool:
            if not self._ended:
                fcntl.ioctl(stderr, termios.FIONREAD, waiting)
            return self._ended or not any(waiting)

        began = time.monotonic()
        with self._changed:
            while True:
                self._changed.wait_for(all_read, timeout=DEADLINE)
                place = len(self.lines)
                more = self._changed.wait_for(partial(self._has_more_than, place), timeout=0.1)
                # Under load there is always more; and a thread that waits for a processor may have
                # lines to write.
                patience = 1 if more else 10
                if time.monotonic() - began > patience or not (more or self._is_busy()):
                    return place

    def _is_busy(self) -> bool:
        """Whether a thread of it or its children runs, or waits for a processor or a disk."""
        assert self._process is not None
        return any({"R", "D"} & set(states_of(pid)) for pid in descendants(self._process.pid))

    def _has_more_than(self, lines: int) -> bool:
        return len(self.lines) > lines

    def wait_for_line(self, pattern: str, *, after: int = 0) -> str:
        """Return the first line that `pattern` is found in, once there is one."""
        found: list[str] = []

        def search() -> bool:
            found[:] = [line for line in self.lines[after:] if re.search(pattern, line)]
            return bool(found) or self._ended

        with self._changed:
            self._changed.wait_for(search, timeout=DEADLINE)
        if not found:
            raise AssertionError(f"no line with {pattern!r} in:\n{self.log}")
        return found[0]

    def wait_for_event(self, text: str, *, after: int = 0) -> dict[str, str]:
        """Return the keys and values of the first event whose msg holds `text`."""
        return parse_line(self.wait_for_line(f"msg=.*{re.escape(text)}", after=after))

    # -- its front door ------------------------------------------------------

    def connect(self, *, timeout: float = DEADLINE) -> Client:
        return Client(self.address, timeout=timeout)

    def ask(self, raw: bytes) -> Response:
        """Send a whole request on a connection of its own; return the answer."""
        return exchange(self.address, raw)

    def get(self, target: str, *lines: bytes | str) -> Response:
        return self.ask(message(f"GET {target}", *lines))

    # -- its memory ----------------------------------------------------------

    def workers(self) -> list[int]:
        """Return the process ids of all workers that were ever started.

        Their parent logs each one, which may serve before that.
        """
        count = int(self.settings.get("WORKERS", "1"))

        def started() -> list[str]:
            return [line for line in self.lines if "Worker started" in line]

        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or count == 1 or len(started()) >= count, timeout=DEADLINE
            )
            return [int(parse_line(line)["WorkerPID"]) for line in started()]

    def resident_bytes(self) -> int:
        """Return the process's resident memory, without what it shares with others."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
        if not match:
            raise WireError("the system does not tell RssAnon")
        return int(match[1]) * 1024

    def peak_bytes(self) -> int:
        """Return the most resident memory that the process has had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        if not match:
            raise WireError("the system does not tell VmHWM")
        return int(match[1]) * 1024


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process by SIGSTOP for the block.

    kill(2) returns before the process stands still, and one of its threads could still accept a
    connection: so the block begins when none runs any more.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(f"process {pid} is stopped", lambda: set(states_of(pid)) == {"T"})
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def states_of(pid: int) -> list[str]:
    """Return the state of each thread of a process, as a letter of proc(5)."""
    stats = [_read(path) for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [stat.rpartition(")")[2].split()[0] for stat in stats if stat]


def descendants(pid: int) -> list[int]:
    """Return a process and what came of it, as far as it is there."""
    found = [pid]
    for each in found:
        found += map(int, _read(Path(f"/proc/{each}/task/{each}/children")).split())
    return found


def _read(path: Path) -> str:
    """Return what a file of proc(5) holds; nothing where its process or thread has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until(what: str, condition: Callable[[], bool], *, deadline: float = DEADLINE) -> None:
    """Return once `condition` holds, for state that nothing announces."""
    give_up = time.monotonic() + deadline
    pause = threading.Event()
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"{what}: not in time")
        pause.wait(0.02)
