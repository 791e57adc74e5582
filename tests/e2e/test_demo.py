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

from lab.demo_picture.drawing import draw
from lab.demo_picture.recording import record
from tests.support.process import SOURCE, clean_environment, free_port, wait_until
from tests.support.source import ROOT
from tests.support.status import status_of

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


STORY = """
Starting authproxy between stand-ins for Entra ID and a metrics store.
✓ authproxy is ready, with a token:  http://127.0.0.1:8081
✗ POST /api/v1/write past authproxy: 401 Unauthorized: the sender has no token
✗ POST /api/v1/write through it:     403 Forbidden: the role is not there yet
! At 403 a sender drops its sample:  authproxy responds 503, so it is kept
$ authproxy check --path /api/v1/write
✗ request:                           403 Forbidden: it refuses the identity
  The identity lacks the role "Monitoring Metrics Publisher" on the data
  collection rule of the workspace. Assign it there. On the workspace it has no
  effect.
✓ The role has arrived:              the sender tries again
✓ POST /api/v1/write through it:     204 No Content
✓ GET /api/v1/query:                 42. The sample arrived, none was lost.
"""
INVITATION = """
Look      http://127.0.0.1:9464/status
Ask       curl 'http://127.0.0.1:8081/api/v1/query?query=demo_sample'
Log       /tmp/authproxy-demo/proxy.log (or --verbose)
End       Ctrl-C ends all of it.
"""


def test_the_story_is_told_in_colour_on_a_terminal_and_is_that_of_the_picture(
    tmp_path: Path,
) -> None:
    printed = record(tmp_path)
    assert re.sub(r"\x1b\[\d+m", "", printed) == (STORY + INVITATION).strip()
    assert "\x1b[32m\x1b[1m✓\x1b[0m" in printed
    assert (ROOT / "docs/demo.svg").read_text() == draw(printed), "make demo-picture"


def test_into_a_pipe_the_story_is_plain_and_once_ends_it(demo: NewDemo) -> None:
    once = demo("--once", LANG="C.UTF-8")
    assert once.status() == 0, once.output
    assert re.sub(r"(127\.0\.0\.1):\d+", r"\1:8081", once.output) == STORY.strip()
    assert not leftovers(once)


def test_the_log_is_shown_where_that_is_asked_for(demo: NewDemo) -> None:
    once = demo("--once", "--verbose")
    assert once.status() == 0, once.output
    assert 'msg="Token refreshed"' in once.output  # the real proxy's log
    assert "Code=TargetRefusedIdentity" in once.output


def test_the_status_page_has_something_to_see(demo: NewDemo) -> None:
    staying = demo()
    port = int(re.findall(r":(\d+)/status", staying.until("/status"))[0])
    staying.until("Ctrl-C ends all of it")
    # It writes and queries meanwhile.
    wait_until(
        "requests are counted",
        lambda: status_of(port)["requests"]["totals"]["target_2xx"] > 3,
    )
    (failure,) = status_of(port)["failures"]
    assert (failure["status"], failure["code"]) == (403, "TargetRefusedIdentity")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_proxy_too_and_leaves_nothing(demo: NewDemo, number: int) -> None:
    staying = demo("--verbose")
    staying.until("Ctrl-C ends all of it")
    proxy = staying.proxy()
    os.kill(staying.process.pid, number)
    assert staying.status() == 0, staying.output
    assert 'msg="Stopped"' in staying.output
    assert not is_running(proxy)
    assert not leftovers(staying)


def test_ctrl_c_during_the_start_leaves_nothing(demo: NewDemo) -> None:
    starting = demo()
    starting.until("Starting authproxy")
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


@pytest.mark.parametrize(
    "option", ["--proxy-port", "--entra-port", "--store-port", "--status-port"]
)
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
    entra, store, status = (str(free_port()) for _ in range(3))
    ports = ("--entra-port", entra, "--store-port", store, "--status-port", status)
    staying = demo("--verbose", *ports)
    staying.until("Ctrl-C ends all of it")
    assert f"http://127.0.0.1:{entra}/msi/token" in staying.output
    assert f"https://127.0.0.1:{store}\n" in staying.output
    assert f"http://127.0.0.1:{status}/status\n" in staying.output


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
    assert "42. The sample arrived, none was lost." in shown.output


@pytest.mark.real("curl")
def test_the_printed_curl_lines_do_what_they_say(demo: NewDemo, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    staying = demo("--verbose")
    staying.until("Ctrl-C ends all of it")
    said = {}
    purpose = "a first query"
    for line in staying.lines:
        if line.startswith("    # "):
            purpose = line.removeprefix("    # ")
        elif "curl " in line:
            said[purpose] = subprocess.run(
                shlex.split(line[line.index("curl ") :]),
                env=clean_environment(str(tmp_path)),
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=True,
            ).stdout
    assert '"demo_sample"' in said["a first query"]
    assert said["write a sample"] == ""
    assert '"demo_curl"' in said["read it back"]
    assert '"ready"' in said["has the proxy a token?"]
    assert '"ok"' in said["is it alive?"]
    assert said["the same without the proxy: 401"].startswith("HTTP/1.1 401 ")
