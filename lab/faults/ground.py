"""What a fault is brought about on: the real proxy, its target and its identity."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import jwt

from lab.faults.relay import Relay
from lab.faults.traffic import WRITE_PATH, content_of, response_of
from tests.support import actions
from tests.support.authority import Authority
from tests.support.identity import identity_settings
from tests.support.process import ProxyProcess
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Exchange, Handler, Upstream
from tests.support.wire import Address

#: Short, so that a row takes seconds; what they bound is named in the table.
SETTINGS = {
    "LISTENING_HOST": "127.0.0.1",
    "TARGET_CONNECT_TIMEOUT_SECONDS": "1",
    "TARGET_READ_TIMEOUT_SECONDS": "2",
    "THREADS": "8",
    "SHUTDOWN_GRACE_SECONDS": "5",
}

Entered = TypeVar("Entered")


class WrappedProxy(ProxyProcess):
    """The proxy, started by a command that first limits or changes its surroundings."""

    def __init__(
        self, settings: Mapping[str, str], wrapper: Sequence[str], exit_status: int = 0
    ) -> None:
        super().__init__(settings, exit_status=exit_status)
        self._wrapper = wrapper

    def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        super()._run([*self._wrapper, *command], environment)


class Ground:
    """One proxy between a target that checks tokens and keeps what it takes, and a stand-in Entra.

    The target judges tokens by the clock of the stand-in, as both are Azure's.
    """

    def __init__(self, authority: Authority, folder: Path) -> None:
        self.authority = authority
        self.folder = folder
        #: How far Azure's clock is ahead of this machine's, in seconds.
        self.azure_ahead = 0.0
        self.entra = StandInEntra(clock=lambda: time.time() + self.azure_ahead)
        self.good_context = authority.context()
        self.upstream = Upstream(self.good_context)
        #: What the target does instead of serving, if anything.
        self.misbehave: Handler | None = None
        self.proxy: ProxyProcess | None = None
        #: The numbers of the remote writes that the target took, whole.
        self.received: set[int] = set()
        self.numbers = itertools.count(1)
        self.faults: list[str] = []
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Ground:
        self._stack.enter_context(self.entra)
        self._stack.callback(self._close_target)
        port = urlsplit(self.entra.identity_endpoint).port
        assert port is not None
        self.relay = self._stack.enter_context(Relay(port))
        self.upstream.respond(self._respond)
        return self

    def __exit__(self, *ending: object) -> None:
        try:
            if self.proxy is not None:
                self.proxy.stop(strict=ending[0] is None)
        finally:
            self._stack.close()
        if ending[0] is None:
            assert not self.faults, "\n".join(self.faults)

    # -- the proxy -----------------------------------------------------------

    @property
    def settings(self) -> dict[str, str]:
        """Settings that lead to the target, and through the relay to the stand-in."""
        identity = identity_settings(self.entra)
        behind = urlsplit(identity["IDENTITY_ENDPOINT"])
        through = behind._replace(netloc=f"127.0.0.1:{self.relay.port}").geturl()
        return {
            **SETTINGS,
            "TARGET_HOST": self.upstream.authority,
            "TARGET_CA_FILE": str(self.authority.bundle),
            **identity,
            "IDENTITY_ENDPOINT": through,
        }

    def launch(
        self,
        *,
        ready: bool = True,
        wrapper: Sequence[str] = (),
        **settings: str,
    ) -> ProxyProcess:
        """Start the proxy."""
        self.proxy = WrappedProxy({**self.settings, **settings}, wrapper)
        return self.proxy.start(ready=ready)

    def launch_again(self) -> ProxyProcess:
        """Start it as before on its old port, as a supervisor does."""
        assert self.proxy is not None
        before = self.proxy
        before.stop()
        port = {"LISTENING_PORT": str(before.port)}
        self.proxy = WrappedProxy({**before.settings, **port}, ())
        return self.proxy.start()

    def enter(self, surroundings: contextlib.AbstractContextManager[Entered]) -> Entered:
        """Enter what the proxy is to run in; it is left after the proxy has ended."""
        return self._stack.enter_context(surroundings)

    def address(self) -> Address:
        assert self.proxy is not None
        return self.proxy.address

    # -- the target ----------------------------------------------------------

    def _respond(self, exchange: Exchange) -> None:
        """Take a remote write or respond to a query, by its number; refuse a token of no worth."""
        if self.misbehave is not None:
            self.misbehave(exchange)
            return
        self.serve(exchange)

    def serve(self, exchange: Exchange, *, body: Callable[[bytes], bytes] | None = None) -> None:
        """Serve as a sound target does."""
        content = exchange.read_body()
        if not self._token_is_good(exchange.request.one("Authorization") or ""):
            exchange.send(actions.answer("401 Unauthorized", body=b"the token is not valid"))
            return
        path, _, query = exchange.request.target.partition(b"?number=")
        number = int(query)
        if path != WRITE_PATH.encode():
            exchange.send(actions.answer(200, body=response_of(number)))
            return
        self.take(number, content)
        exchange.send(actions.head("204 No Content"))

    def take(self, number: int, content: bytes) -> None:
        """Keep a remote write; what differs from what was sent is a fault of the proxy."""
        if content != content_of(number, len(content)):
            self.faults.append(f"remote write {number} arrived changed")
        with self._lock:
            self.received.add(number)

    def _token_is_good(self, authorization: str) -> bool:
        token = authorization.removeprefix("Bearer ")
        for issued in reversed(self.entra.issued):
            if issued.value == token:
                return float(issued.claims["exp"]) > time.time() + self.azure_ahead
        self.faults.append("a token came that was never issued")
        jwt.decode(token, options={"verify_signature": False})
        return False

    def target_down(self) -> None:
        """Stop the target: its port is closed, and its connections end."""
        self.upstream.close()
        self.faults += self.upstream.faults

    def target_up(self, *, host: str = "127.0.0.1") -> None:
        """Start it again on the same port, with the certificate that it had."""
        before = self.upstream
        self.upstream = Upstream(before.tls, host=host, port=before.port)
        self.upstream.respond(self._respond)

    def _close_target(self) -> None:
        self.target_down()


@contextlib.contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """Mount a small file system of its own at `folder`."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
