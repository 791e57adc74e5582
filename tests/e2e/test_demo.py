"""`authproxy demo`, run the way a person runs it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import packages_distributions
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import pytest

from tests.support.process import SOURCE, clean_environment
from tests.support.source import ROOT

DEADLINE = 60


class Demo:
    """`authproxy demo` as a child, its output line by line."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "authproxy", "demo", *options],
            env={**clean_environment(str(folder)), "TMPDIR": str(folder), **environment},
            cwd=SOURCE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # As a shell's job control would have it: Ctrl-C goes to a group.
            start_new_session=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def until(self, text: str) -> str:
        """Return the next line with `text`, reading up to it."""
        while (line := self._next()) is not None:
            if text in line:
                return line
        raise AssertionError(f"no {text!r} in:\n{self.output}")

    def status(self) -> int:
        """Return the exit status, having read all there is."""
        while self._next() is not None:
            pass
        return self.process.wait(DEADLINE)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def proxy(self) -> int:
        """Return the process id of the demo's proxy."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (pid,) = map(int, children.read_text().split())
        return pid

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)

    def _next(self) -> str | None:
        try:
            line = self._queue.get(timeout=DEADLINE)
        except Empty:
            raise AssertionError(f"nothing more after:\n{self.output}") from None
        if line is not None:
            self.lines.append(line)
        return line


NewDemo = Callable[..., Demo]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[NewDemo]:
    with ExitStack() as stack:

        def start(*options: str, **environment: str) -> Demo:
            started = Demo(tmp_path, "--proxy-port", "0", *options, **environment)
            stack.callback(started.close)
            return started

        yield start


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def leftovers(demo: Demo) -> list[Path]:
    return list(demo.folder.glob("authproxy-*"))


def test_once_shows_a_sample_go_in_and_come_back(demo: NewDemo) -> None:
    once = demo("--once")
    assert once.status() == 0, once.output
    assert "store responds 401 Unauthorized" in once.output
    assert '"value": [' in once.output
    assert '"42"]' in once.output
    assert "came back" in once.output
    assert 'msg="Token refreshed"' in once.output  # the real proxy's log
    assert not leftovers(once)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_proxy_too_and_leaves_nothing(demo: NewDemo, number: int) -> None:
    staying = demo()
    staying.until("Ctrl-C ends all of it")
    proxy = staying.proxy()
    os.kill(staying.process.pid, number)
    assert staying.status() == 0, staying.output
    assert 'msg="Stopped"' in staying.output
    assert not is_running(proxy)
    assert not leftovers(staying)


def test_ctrl_c_during_the_start_leaves_nothing(demo: NewDemo) -> None:
    starting = demo()
    starting.until("Starting the proxy")
    os.kill(starting.process.pid, signal.SIGINT)
    starting.status()
    assert "Traceback" not in starting.output
    assert not leftovers(starting)


def test_a_proxy_that_ends_by_itself_is_a_failure(demo: NewDemo) -> None:
    staying = demo()
    staying.until("Ctrl-C ends all of it")
    os.kill(staying.proxy(), signal.SIGTERM)
    assert staying.status() == 1
    assert "the proxy ended by itself, with status 0" in staying.output
    assert not leftovers(staying)


def test_settings_of_the_caller_do_not_lead_it_astray(demo: NewDemo) -> None:
    once = demo(
        "--once",
        TARGET_HOST="target.example.com",
        AUDIENCE="https://other.example.com",
        IDENTITY_TYPE="aadApplication",
        HTTP_PROXY="http://127.0.0.1:9",
        HTTPS_PROXY="http://127.0.0.1:9",
        AUTHPROXY_CONFIG="/nonexistent/authproxy.yaml",
    )
    assert once.status() == 0, once.output


@pytest.mark.parametrize("option", ["--proxy-port", "--entra-port", "--store-port"])
def test_a_busy_port_is_named_with_the_option_that_changes_it(demo: NewDemo, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = demo("--once", option, str(port))
        assert refused.status() == 1
    assert refused.lines == [f"Port {port} is in use already. Choose another with {option}."]
    assert not leftovers(refused)


def test_given_ports_are_taken(demo: NewDemo) -> None:
    first = demo("--once")
    assert first.status() == 0
    entra, store = (
        re.findall(rf"{part}.*:(\d+)", first.output)[0] for part in ("managed identity", "store")
    )
    again = demo("--once", "--entra-port", entra, "--store-port", store)
    assert again.status() == 0, again.output
    assert f"http://127.0.0.1:{entra}/msi/token" in again.output
    assert f"https://127.0.0.1:{store}\n" in again.output


def test_it_needs_no_more_than_authproxy_itself(demo: NewDemo, tmp_path: Path) -> None:
    # As in the image and the pyz: what only development brings is not to be had.
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "runtime.txt").read_text(), re.M)
    installed = {name.replace("_", "-").lower() for name in [*locked, "entra-auth-proxy"]}
    others = {
        module
        for module, brought_by in packages_distributions().items()
        if not installed & {name.replace("_", "-").lower() for name in brought_by}
    }
    assert {"cramjam", "trustme", "pytest"} <= others
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {others!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    shown = demo("--once", PYTHONPATH=os.pathsep.join([str(tmp_path), str(SOURCE)]))
    assert shown.status() == 0, shown.output
    assert "The sample went through the proxy and came back." in shown.output


@pytest.mark.real("curl")
def test_the_printed_curl_lines_do_what_they_say(demo: NewDemo, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    staying = demo()
    staying.until("Ctrl-C ends all of it")
    answers = {}
    purpose = ""
    for line in staying.lines:
        if line.startswith("    # "):
            purpose = line.removeprefix("    # ")
        elif line.startswith("    curl "):
            answers[purpose] = subprocess.run(
                shlex.split(line),
                env=clean_environment(str(tmp_path)),
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=True,
            ).stdout
    assert answers["write a sample"] == ""
    assert '"demo_curl"' in answers["read it back"]
    assert '"ready"' in answers["has the proxy a token?"]
    assert '"ok"' in answers["is it alive?"]
    assert answers["the same without the proxy: 401"].startswith("HTTP/1.1 401 ")
