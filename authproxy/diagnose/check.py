"""`authproxy check`: does this configuration reach its target, and as whom?

Goes the way of a request, a step at a time: the target's name, a connection,
TLS, a token, and one request that does no harm. What needs a failed step is
skipped, the rest is still tried.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TypeVar

from authproxy.diagnose import identity
from authproxy.diagnose.kinds import request_for
from authproxy.diagnose.network import (
    Way,
    connect,
    resolve,
    tunnel,
    unresolved,
)
from authproxy.diagnose.request import HarmlessExchange, silent
from authproxy.diagnose.steps import (
    IDENTITY,
    TARGET,
    WELL,
    Finding,
    Outcome,
    ProbeFailed,
    Step,
    TookTooLong,
    within,
)
from authproxy.diagnose.tls import secure
from authproxy.identity.credentials import TokenFetcher
from authproxy.settings import Settings
from authproxy.tls import client_context, forward_proxy

Given = TypeVar("Given")
Got = TypeVar("Got")
Tell = Callable[[Step], object]

#: Seconds that a step may take unless told otherwise.
STEP_SECONDS = 30.0


@dataclass(frozen=True)
class Options:
    """What the command line adds to the settings: seconds for a step, and a request's path."""

    limit: float = STEP_SECONDS
    path: str | None = None


def run_check(settings: Settings, tell: Tell, options: Options | None = None) -> list[Step]:
    """Go through the steps, tell of each when it is done, and return them all.

    Raises SettingsError where a CA bundle of the environment cannot be read.
    """
    with ExitStack() as stack:
        return _Check(settings, tell, options or Options(), stack).run()


def exit_status(steps: Sequence[Step]) -> int:
    """Return what the first failed step means, 0 where none failed."""
    return next((step.exit_status for step in steps if step.failed), WELL)


class _Check:
    """One run; `stack` closes what it opens."""

    def __init__(self, settings: Settings, tell: Tell, options: Options, stack: ExitStack) -> None:
        url = settings.target
        self._settings = settings
        self._tell = tell
        self._limit = options.limit
        self._stack = stack
        self._steps: list[Step] = []
        setting = "INGESTION_URL" if settings.forwards_only_remote_write else "TARGET_HOST"
        self._way = Way(url, forward_proxy(url.origin), setting)
        self._context = client_context(settings.target_ca_file)
        self._fetcher = TokenFetcher(settings)
        self._request = request_for(
            url,
            settings.scope,
            path=options.path,
            only_remote_write=settings.forwards_only_remote_write,
        )

    def run(self) -> list[Step]:
        settings = self._settings
        kind = settings.identity_type
        self._add(Step("settings", Finding(f"IDENTITY_TYPE={kind} for {settings.target}")))
        reached = self._reach()
        if kind == "aadapplication" and settings.aad_client_certificate_path:
            self._do("certificate", IDENTITY, self._certificate, _now())
        token = self._do("token", IDENTITY, self._fetch, "", late=self._no_token_in_time)
        offsets = {"identity": self._fetcher.clock_offset}
        if token is not None:
            offsets["token"] = identity.token_offset(token, time.time())
        offsets["target"] = self._ask(token if reached else None)
        self._add(Step("clock", identity.clock(offsets)))
        return self._steps

    def _reach(self) -> bool:
        """Go the way to the target; whether it is open to the end."""
        way, timeout = self._way, self._settings.target_connect_timeout_seconds
        addresses = self._do(
            "dns",
            TARGET,
            resolve,
            way,
            late=lambda: unresolved(way, TimeoutError("no answer in time")),
        )
        channel = self._do(
            "tcp", TARGET, lambda to: self._kept(connect(way, to, timeout)), addresses
        )

        def through(sock: socket.socket) -> tuple[Finding, socket.socket]:
            return self._kept(tunnel(way, sock, self._context, timeout))

        if way.proxy is not None:
            channel = self._do("proxy", TARGET, through, channel)

        def again() -> socket.socket:
            _, sock = connect(way, addresses or [], timeout)
            return sock if way.proxy is None else through(sock)[1]

        def shake_hands(channel: socket.socket) -> tuple[Finding, bool]:
            if way.url.scheme == "http":
                return _IN_CLEAR, True
            return secure(way, channel, self._context, again=again, now=_now()), True

        return self._do("tls", TARGET, shake_hands, channel) is not None

    def _certificate(self, now: datetime) -> tuple[Finding, bool]:
        return identity.certificate(self._settings, now), True

    def _fetch(self, challenge: str) -> tuple[Finding, identity.Token]:
        return identity.token(self._settings, self._fetcher, time.time(), challenge or None)

    def _no_token_in_time(self) -> ProbeFailed:
        return identity.no_token_in_time(self._settings, self._limit)

    def _ask(self, token: identity.Token | None) -> float | None:
        """Send the request; return by how many seconds the target's clock is ahead."""
        exchange = HarmlessExchange(
            self._settings, self._way, self._context, self._request, limit=self._limit
        )

        def ask(token: identity.Token) -> tuple[Finding, bool]:
            return exchange(token, lambda claims: self._fetch(claims)[1]), True

        self._do("request", TARGET, ask, token, late=lambda: silent(self._limit))
        return exchange.clock_offset

    def _kept(self, opened: tuple[Finding, socket.socket]) -> tuple[Finding, socket.socket]:
        self._stack.callback(opened[1].close)
        return opened

    def _do(
        self,
        name: str,
        exit_status: int,
        probe: Callable[[Given], tuple[Finding, Got]],
        given: Given | None,
        *,
        late: Callable[[], ProbeFailed] | None = None,
    ) -> Got | None:
        """Run a probe with what it needs; return what it got, None where it failed.

        Without what it needs it is skipped. `late` says what it means that it
        took longer than a step may.
        """
        if given is None:
            failed = ", ".join(step.name for step in self._steps if step.failed)
            self._add(Step(name, Finding(f"not tried, after {failed}", Outcome.SKIPPED)))
            return None
        began = time.perf_counter()
        got: Got | None = None
        try:
            finding, got = within(self._limit, lambda: probe(given))
        except ProbeFailed as error:
            finding = error.finding
        except TookTooLong as error:
            finding = (late() if late else ProbeFailed(str(error))).finding
        took = (time.perf_counter() - began) * 1000
        self._add(Step(name, finding, took, exit_status))
        return got

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        self._tell(step)


_IN_CLEAR = Finding("none: TARGET_ALLOW_HTTP is set, and tokens travel in clear", Outcome.WARNING)


def _now() -> datetime:
    return datetime.now(timezone.utc)
