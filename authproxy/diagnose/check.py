"""`authproxy check`: does this configuration reach its target, and as whom?

Goes the way of a request, a step at a time: the target's name, a connection,
TLS, a token, and one request that does no harm. What needs a failed step is
skipped, the rest is still tried.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import TypeVar

from authproxy.diagnose import identity, network
from authproxy.diagnose.kinds import request_for
from authproxy.diagnose.listening import listening
from authproxy.diagnose.request import HarmlessExchange, no_response
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
from authproxy.errors import Advice, TargetTimeout
from authproxy.identity.credentials import TokenFetcher
from authproxy.settings import Settings
from authproxy.tls import client_context, forward_proxy

Given = TypeVar("Given")
Got = TypeVar("Got")
OnStep = Callable[[Step], object]

#: Seconds that a step may take unless told otherwise.
STEP_SECONDS = 30.0

_IN_CLEAR = Finding("none: TARGET_ALLOW_HTTP is set, and tokens travel in clear", Outcome.WARNING)


def run_check(
    settings: Settings, on_step: OnStep, *, limit: float = STEP_SECONDS, path: str | None = None
) -> list[Step]:
    """Go through the steps, call `on_step` with each when it is done, and return them all.

    `limit` is in seconds, for each step; `path` that of the request. Raises
    SettingsError where a CA bundle of the environment cannot be read.
    """
    with ExitStack() as stack:
        return _Check(settings, on_step, limit, stack).run(path)


def check_listening(settings: Settings) -> list[Step]:
    """Return the step of the certificate that clients are shown, if there is one."""
    files = settings.tls_files
    return [] if files is None else [listening(files, _now())]


def check_environment(misspelt: Mapping[str, str]) -> list[Step]:
    """Return the step of the environment, if it has variables that resemble a setting."""
    if not misspelt:
        return []
    summary = f"no setting has the name {' or '.join(misspelt)}"
    advice = tuple(
        Advice(f"{name} is probably misspelt", f"Name it {near} if that is meant")
        for name, near in misspelt.items()
    )
    facts = {"misspelt": dict(misspelt)}
    return [Step("environment", Finding(summary, Outcome.WARNING, facts, advice=advice))]


def exit_status(steps: Sequence[Step]) -> int:
    """Return what the first failed step means, 0 where none failed."""
    return next((step.exit_status for step in steps if step.failed), WELL)


class _Check:
    """One run; `stack` closes what it opens."""

    def __init__(self, settings: Settings, on_step: OnStep, limit: float, stack: ExitStack) -> None:
        self._settings = settings
        self._on_step = on_step
        self._limit = limit
        self._stack = stack
        self._steps: list[Step] = []
        setting = "INGESTION_URL" if settings.forwards_only_remote_write else "TARGET_HOST"
        self._way = network.Way(settings.target, forward_proxy(settings.target.origin), setting)
        self._context = client_context(settings.target_ca_file)
        self._fetcher = TokenFetcher(settings)

    def run(self, path: str | None) -> list[Step]:
        settings = self._settings
        kind = settings.identity_type
        self._add(Step("settings", Finding(f"IDENTITY_TYPE={kind} for {settings.target}")))
        reached = self._reach()
        if kind == "aadapplication" and settings.aad_client_certificate_path:
            self._do("certificate", IDENTITY, self._certificate, _now())
        late = identity.no_token_in_time
        token = self._do("token", IDENTITY, self._fetch, "", lambda: late(settings, self._limit))
        offsets = {"identity": self._fetcher.clock_offset}
        if token is not None:
            offsets["token"] = identity.token_offset(token, time.time())
        offsets["target"] = self._ask(token if reached else None, path)
        self._add(Step("clock", identity.clock(offsets)))
        return self._steps

    def _reach(self) -> bool:
        """Go the way to the target; whether it is open to the end."""
        way, timeout = self._way, self._settings.target_connect_timeout_seconds

        def connect(to: Sequence[network.Address]) -> tuple[Finding, socket.socket]:
            return self._kept(network.connect(way, to, timeout))

        def tunnel(sock: socket.socket) -> tuple[Finding, socket.socket]:
            return self._kept(network.tunnel(way, sock, self._context, timeout))

        def again() -> socket.socket:
            sock = connect(addresses or [])[1]
            return tunnel(sock)[1] if way.proxy else sock

        def shake_hands(sock: socket.socket) -> tuple[Finding, bool]:
            if way.url.scheme == "http":
                return _IN_CLEAR, True
            return secure(way, sock, self._context, again=again, now=_now()), True

        no_response = TimeoutError("no response in time")
        addresses = self._do(
            "dns", TARGET, network.resolve, way, lambda: network.unresolved(way, no_response)
        )
        channel = self._do("tcp", TARGET, connect, addresses)
        if way.proxy is not None:
            channel = self._do("proxy", TARGET, tunnel, channel)
        return self._do("tls", TARGET, shake_hands, channel) is not None

    def _certificate(self, now: datetime) -> tuple[Finding, bool]:
        return identity.certificate(self._settings, now), True

    def _fetch(self, challenge: str) -> tuple[Finding, identity.Token]:
        return identity.token(self._settings, self._fetcher, time.time(), challenge or None)

    def _ask(self, token: identity.Token | None, path: str | None) -> float | None:
        """Send the request; return by how many seconds the target's clock is ahead."""
        settings, way, limit = self._settings, self._way, self._limit
        request = request_for(
            settings.target,
            settings.scope,
            path=path,
            only_remote_write=settings.forwards_only_remote_write,
        )
        exchange = HarmlessExchange(settings, way, self._context, request, limit=limit)

        def ask(token: identity.Token) -> tuple[Finding, bool]:
            return exchange(token, lambda claims: self._fetch(claims)[1]), True

        self._do("request", TARGET, ask, token, lambda: no_response(TargetTimeout(""), way, limit))
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
        late: Callable[[], Finding] | None = None,
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
            finding = late() if late else Finding(str(error), Outcome.FAILED)
        took = (time.perf_counter() - began) * 1000
        self._add(Step(name, finding, took, exit_status))
        return got

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        self._on_step(step)


def _now() -> datetime:
    return datetime.now(timezone.utc)
