"""The demonstration itself: the real proxy between two stand-ins, and what becomes of a sample."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import requests

from authproxy.demo.narration import Narration
from authproxy.demo.proxy_process import DemonstrationFailed, DemoProxy
from authproxy.demo.stand_ins.certificates import EphemeralCertificate
from authproxy.demo.stand_ins.directory import METRICS_INGESTION
from authproxy.demo.stand_ins.managed_identity import ManagedIdentityEndpoint
from authproxy.demo.stand_ins.remote_write import HEADERS, Sample, encode
from authproxy.demo.stand_ins.store import QUERY_PATH, WRITE_PATH, MetricsStore

if TYPE_CHECKING:
    from typing_extensions import Self

_REQUEST_SECONDS = 30
_PAUSE_SECONDS = 1.0
_END_SECONDS = 10.0

#: Of `authproxy check`: the target does not take the request.
_TARGET_REFUSES = 3

_WRITE = f"POST {WRITE_PATH}"


class Demonstration:
    """Stand-ins for Entra and a store, and the real proxy, for as long as it is entered."""

    def __init__(self, told: Narration, ports: Mapping[str, int], *, verbose: bool) -> None:
        """`ports` are as `run_demo` has them; `verbose` shows the proxy's log."""
        self._entra = ManagedIdentityEndpoint(identity_port=ports["entra_port"])
        self._authority = EphemeralCertificate()
        self._store = MetricsStore(
            self._entra.signing_key, port=ports["store_port"], authority=self._authority
        )
        self._ports = ports
        self._told = told
        self._verbose = verbose
        self._stack = ExitStack()
        self._session = requests.Session()
        # No .netrc, no environment proxy: loopback only.
        self._session.trust_env = False

    def __enter__(self) -> Self:
        """Start all three. Raises PortInUse, DemonstrationFailed."""
        with ExitStack() as stack:
            stack.enter_context(self._session)
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="authproxy-demo-")))
            self._ca_file = self._authority.write_bundle(self._folder / "ca.pem")
            stack.enter_context(self._entra)
            stack.enter_context(self._store)
            settings = {
                **self._entra.managed_identity_environment(),
                "TARGET_HOST": self._store.url,
                "TARGET_CA_FILE": str(self._ca_file),
                "IDENTITY_TYPE": "systemAssigned",
                "AUDIENCE": METRICS_INGESTION,
            }
            log = None if self._verbose else self._folder / "proxy.log"
            self._proxy = DemoProxy(
                stack,
                settings,
                port=self._ports["proxy_port"],
                status_port=self._ports["status_port"],
                log=log,
            )
            self._told.line(
                "Starting authproxy between stand-ins for Entra ID and a metrics store."
            )
            self._proxy.wait_until_ready(self._session)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self) -> None:
        """Follow a sample from the first refusal to the store. Raises DemonstrationFailed."""
        told, body = self._told, encode([_sample(42)])
        told.well("authproxy is ready, with a token:", self._proxy.url)

        past = self._write(self._store.url, body)
        _expect(past, 401)
        told.failed(f"{_WRITE} past authproxy:", f"{_status_of(past)}: the sender has no token")

        self._store.takes_writes = False
        refused = self._write(self._proxy.url, body)
        _expect(refused, 503, "responded with 403")
        told.failed(f"{_WRITE} through it:", "403 Forbidden: the role is not there yet")
        told.saved("At 403 a sender drops its sample:", "authproxy responds 503, so it is kept")
        self._show_check()

        self._store.takes_writes = True
        told.well("The role has arrived:", "the sender tries again")
        written = self._write(self._proxy.url, body)
        _expect(written, 204)
        told.well(f"{_WRITE} through it:", _status_of(written))
        told.well(f"GET {QUERY_PATH}:", f"{self._stored()}. The sample arrived, none was lost.")

    def invite(self) -> None:
        """Print where to look, and what to try."""
        told = self._told
        told.line()
        told.more("Look", self._proxy.status_url)
        told.more("Ask", f"curl '{self._proxy.url}{QUERY_PATH}?query=demo_sample'")
        if self._proxy.log is None:
            self._invite_further()
        else:
            told.more("Log", f"{self._proxy.log} (or --verbose)")
        told.more("End", "Ctrl-C ends all of it.")

    def stay(self) -> None:
        """Write and query each second, until the proxy ends by itself, which it should not.

        Raises DemonstrationFailed.
        """
        number = 0
        while not self._proxy.ends_within(_PAUSE_SECONDS):
            number += 1
            # One in twenty has a mistake, for the status page to show.
            query = "demo_sample" if number % 20 else "demo_sample{"
            try:
                self._write(self._proxy.url, encode([_sample(42 + number % 10)]))
                self._query(query)
            except DemonstrationFailed:
                if not self._proxy.ends_within(_END_SECONDS):
                    raise
        raise DemonstrationFailed(
            f"the proxy ended by itself, with status {self._proxy.exit_status}"
        )

    def _show_check(self) -> None:
        """Have the real `check` name what is missing."""
        arguments = ["--path", WRITE_PATH]
        self._told.command(shlex.join(["authproxy", "check", *arguments]))
        done = self._proxy.check([*arguments, "--json"])
        if done.returncode != _TARGET_REFUSES:
            raise DemonstrationFailed(
                f"check ended with status {done.returncode}: {done.stderr or done.stdout}"
            )
        steps = json.loads(done.stdout)["steps"]
        failed = next(step for step in steps if step["outcome"] == "failed")
        advice = failed["advice"][0]
        # Without method and URL, which stand above.
        summary = failed["summary"].rpartition(" got ")[2]
        self._told.failed(f"{failed['name']}:", summary)
        self._told.quotation(f"{advice['cause']}. {advice['hint']}.")

    def _stored(self) -> str:
        """Return the sample's value, as a query through the proxy has it."""
        queried = self._query("demo_sample")
        _expect(queried, 200)
        try:
            content: Any = queried.json()
            values = [series["value"][1] for series in content["data"]["result"]]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DemonstrationFailed(f"the query's response cannot be read: {error!r}") from error
        if values != ["42"]:
            raise DemonstrationFailed(f"the sample did not come back: {values}")
        return "42"

    def _invite_further(self) -> None:
        body = self._folder / "remote-write.bin"
        body.write_bytes(encode([_sample(1, "demo_curl")]))
        write = ["--data-binary", f"@{body}"]
        for name, value in HEADERS.items():
            write += ["-H", f"{name}: {value}"]
        ca = ["--cacert", str(self._ca_file)]
        query = ["-G", "--data-urlencode", "query=demo_curl"]
        for part, where in (
            ("stand-in Entra, managed identity", self._entra.identity_endpoint),
            ("stand-in metrics store", self._store.url),
            ("CA of the store", str(self._ca_file)),
        ):
            self._told.line(f"    {part:<34}{where}")
        for purpose, arguments in (
            ("write a sample", [*write, self._proxy.url + WRITE_PATH]),
            ("read it back", [*query, self._proxy.url + QUERY_PATH]),
            ("has the proxy a token?", [f"{self._proxy.url}/ready"]),
            ("is it alive?", [f"{self._proxy.url}/health"]),
            (
                "the same without the proxy: 401",
                ["-i", *ca, *write, self._store.url + WRITE_PATH],
            ),
        ):
            self._told.line(f"    # {purpose}")
            self._told.line(f"    curl -sS {shlex.join(arguments)}")

    def _write(self, url: str, body: bytes) -> requests.Response:
        return self._exchange("POST", url + WRITE_PATH, data=body, headers=dict(HEADERS))

    def _query(self, query: str) -> requests.Response:
        return self._exchange("GET", self._proxy.url + QUERY_PATH, params={"query": query})

    def _exchange(self, method: str, url: str, **content: Any) -> requests.Response:
        try:
            return self._session.request(
                method, url, **content, verify=str(self._ca_file), timeout=_REQUEST_SECONDS
            )
        except requests.RequestException as error:
            raise DemonstrationFailed(f"{method} {url}: {error}") from error


def _sample(value: float, name: str = "demo_sample") -> Sample:
    return Sample.of(name, value, int(time.time() * 1000), job="authproxy-demo")


def _status_of(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason}"


def _expect(response: requests.Response, status: int, text: str = "") -> None:
    if response.status_code != status or text not in response.text:
        raise DemonstrationFailed(
            f"{response.request.method} {response.url} got {response.status_code}: "
            f"{response.text[:500]}"
        )
