"""The demonstration itself: three parts started, one sample through them, hints."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import requests

from authproxy.demo.stand_ins.acceptor import LOOPBACK
from authproxy.demo.stand_ins.certificates import EphemeralAuthority
from authproxy.demo.stand_ins.directory import METRICS_INGESTION
from authproxy.demo.stand_ins.loopback import free_port
from authproxy.demo.stand_ins.managed_identity import ManagedIdentityEndpoint
from authproxy.demo.stand_ins.remote_write import HEADERS, Sample, encode
from authproxy.demo.stand_ins.store import QUERY_PATH, WRITE_PATH, MetricsStore

if TYPE_CHECKING:
    from typing_extensions import Self

_START_SECONDS = 60
_STOP_SECONDS = 10
_REQUEST_SECONDS = 30

#: What the child needs from our own environment. Not the rest: an AUDIENCE or
#: HTTPS_PROXY meant for something real must not lead the demonstration astray.
_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV")


class DemonstrationFailed(Exception):
    """A part did not start or gave the wrong response; the message says which."""


class Demonstration:
    """Stand-ins for Entra and a store, and the real proxy, for as long as it is entered."""

    def __init__(
        self, *, entra_port: int, store_port: int, proxy_port: int, echo: Callable[[str], object]
    ) -> None:
        self._entra = ManagedIdentityEndpoint(identity_port=entra_port)
        self._authority = EphemeralAuthority()
        self._store = MetricsStore(
            self._entra.signing_key, port=store_port, authority=self._authority
        )
        self._proxy_port = proxy_port
        self._echo = echo
        self._stack = ExitStack()
        self._session = requests.Session()
        # No .netrc, no environment proxy: loopback only.
        self._session.trust_env = False
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start all three. Raises PortInUse, DemonstrationFailed."""
        with ExitStack() as stack:
            stack.enter_context(self._session)
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="authproxy-demo-")))
            self._ca_file = self._authority.write_bundle(self._folder / "ca.pem")
            stack.enter_context(self._entra)
            stack.enter_context(self._store)
            # Checked here, since the proxy cannot name the option of this command.
            self._proxy_port = free_port(self._proxy_port)
            self._say("Starting the proxy; lines that begin with time= are its log.")
            stack.callback(self._stop_proxy)
            self._child = subprocess.Popen(
                [sys.executable, "-m", "authproxy", "serve"],
                env=self._proxy_environment(),
                stdin=subprocess.DEVNULL,
                # Ctrl-C reaches this process alone, which then ends the proxy
                # in the orderly way.
                start_new_session=True,
            )
            self._wait_until_ready(self._child)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self) -> None:
        """Send one sample through the proxy and read it back. Raises DemonstrationFailed."""
        now = time.time()
        sample = Sample.of("demo_sample", 42, int(now * 1000), job="authproxy-demo")
        body = encode([sample])
        self._say("Running:")
        self._show_where()

        refused = self._exchange("POST", self._store.url + WRITE_PATH, data=body)
        self._say(f"Without the proxy, the store responds {refused.status_code} {refused.reason}.")
        _expect(refused, 401)
        written = self._exchange("POST", self._proxy_url + WRITE_PATH, data=body)
        self._say(
            f"Through it, the same remote write gets {written.status_code} {written.reason}; "
            "then the query:"
        )
        _expect(written, 200, 204)
        queried = self._exchange(
            "GET", self._proxy_url + QUERY_PATH, params={"query": "demo_sample"}
        )
        _expect(queried, 200)
        self._echo(f"    GET {QUERY_PATH}?query=demo_sample")
        try:
            content = queried.json()
            self._echo(f"    {json.dumps(content)}")
            values = [series["value"][1] for series in content["data"]["result"]]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DemonstrationFailed(f"the query's response cannot be read: {error!r}") from error
        if values != ["42"]:
            raise DemonstrationFailed(f"the sample did not come back: {values}")
        self._say("The sample went through the proxy and came back.")

    def invite(self) -> None:
        """Print what to try."""
        body = self._folder / "remote-write.bin"
        body.write_bytes(
            encode([Sample.of("demo_curl", 1, int(time.time() * 1000), job="authproxy-demo")])
        )
        write = ["--data-binary", f"@{body}"]
        for name, value in HEADERS.items():
            write += ["-H", f"{name}: {value}"]
        ca = ["--cacert", str(self._ca_file)]
        query = ["-G", "--data-urlencode", "query=demo_curl"]
        self._say("To try, in another terminal:")
        for purpose, arguments in (
            ("write a sample", [*write, self._proxy_url + WRITE_PATH]),
            ("read it back", [*query, self._proxy_url + QUERY_PATH]),
            ("has the proxy a token?", [f"{self._proxy_url}/ready"]),
            ("is it alive?", [f"{self._proxy_url}/health"]),
            (
                "the same without the proxy: 401",
                ["-i", *ca, *write, self._store.url + WRITE_PATH],
            ),
        ):
            self._echo(f"    # {purpose}")
            self._echo(f"    curl -sS {shlex.join(arguments)}")
        self._say("Ctrl-C ends all of it.")

    def wait(self) -> None:
        """Stay until the proxy ends, which it should not. Raises DemonstrationFailed."""
        assert self._child is not None, "entered"
        status = self._child.wait()
        raise DemonstrationFailed(f"the proxy ended by itself, with status {status}")

    @property
    def _proxy_url(self) -> str:
        return f"http://{LOOPBACK}:{self._proxy_port}"

    def _say(self, text: str) -> None:
        self._echo(f"[demo] {text}")

    def _show_where(self) -> None:
        for part, where in (
            ("stand-in Entra, managed identity", self._entra.identity_endpoint),
            ("stand-in metrics store", self._store.url),
            ("authproxy", self._proxy_url),
            ("CA of the store", str(self._ca_file)),
        ):
            self._echo(f"    {part:<34}{where}")

    def _proxy_environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in _INHERITED or name.startswith("PYTHON")
        }
        return {
            **inherited,
            **self._entra.managed_identity_environment(),
            "TARGET_HOST": self._store.url,
            "TARGET_CA_FILE": str(self._ca_file),
            "IDENTITY_TYPE": "systemAssigned",
            "AUDIENCE": METRICS_INGESTION,
            "LISTENING_HOST": LOOPBACK,
            "LISTENING_PORT": str(self._proxy_port),
            "SHUTDOWN_GRACE_SECONDS": "2",
        }

    def _wait_until_ready(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                status = child.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                pass
            else:
                raise DemonstrationFailed(f"the proxy ended at its start, with status {status}")
            try:
                response = self._session.get(f"{self._proxy_url}/ready", timeout=_REQUEST_SECONDS)
            except requests.ConnectionError:
                continue
            if response.status_code == 200:
                return
        raise DemonstrationFailed(f"the proxy was not ready within {_START_SECONDS} seconds")

    def _stop_proxy(self) -> None:
        child = self._child
        if child is None:
            return
        try:
            child.terminate()
            child.wait(timeout=_STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            # Too slow, or Ctrl-C once more: a second signal ends it at once.
            child.kill()
            child.wait()

    def _exchange(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        params: dict[str, str] | None = None,
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                url,
                data=data,
                params=params,
                headers=dict(HEADERS) if data is not None else None,
                verify=str(self._ca_file),
                timeout=_REQUEST_SECONDS,
            )
        except requests.RequestException as error:
            raise DemonstrationFailed(f"{method} {url}: {error}") from error


def _expect(response: requests.Response, *statuses: int) -> None:
    if response.status_code not in statuses:
        raise DemonstrationFailed(
            f"{response.request.method} {response.url} got {response.status_code}: "
            f"{response.text[:500]}"
        )
