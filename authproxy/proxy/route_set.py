"""What serves the routes of one configuration; a reload replaces it as a whole.

What two configurations have in common, they share: an identity that a reload
leaves as it was keeps its token, callers' keys stay known, and connections to a
target that is still there stay open.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from authproxy.admission.admission import Admission, admission_for
from authproxy.files.state import state_of
from authproxy.identity.credentials import TokenFetcher
from authproxy.identity.refresher import Refresher
from authproxy.identity.tokens import TokenSource
from authproxy.proxy.forwarding import Forwarder
from authproxy.proxy.routes import RouteTable
from authproxy.proxy.shared import Shared
from authproxy.settings import Route, Settings
from authproxy.telemetry.events import Telemetry
from authproxy.tls import TLSContextCache, forward_proxy
from authproxy.upstream.session import TargetSession
from authproxy.upstream.target import Target

#: How often to look whether routes are ready: tokens and callers' keys come by threads of
#: their own, and nothing tells of both.
_LOOK_SECONDS = 0.05


class Routing(Protocol):
    """Who knows the routes in force: a reload puts others in their place."""

    @property
    def routes(self) -> RouteSet: ...


class Resources:
    """What outlives a configuration, and what configurations share."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.refresher = Refresher()
        self._contexts = TLSContextCache()
        self._sources = Shared(TokenSource.stop)
        self._admissions: Shared[Admission | None] = Shared(_stop)
        self._sessions: Shared[TargetSession] = Shared(TargetSession.close)

    def tokens(self, settings: Settings, held: ExitStack) -> TokenSource:
        """Return the source of tokens for these settings, held as long as `held` is open."""

        def make() -> TokenSource:
            return TokenSource(
                TokenFetcher(settings, contexts=self._contexts),
                self.refresher,
                percentage=settings.aad_token_refresh_interval_in_percentage,
                audience=settings.scope,
                telemetry=self.telemetry.of_tokens(settings),
            )

        # A secret that was replaced is another identity: its first token is to show that it works.
        key = (settings.identity_key, state_of(settings.identity_files))
        return held.enter_context(self._sources.hold(key, make))

    def admission(self, settings: Settings, held: ExitStack) -> Admission | None:
        """Return what judges the requests under these settings, held likewise."""
        key = settings.admission_key
        return held.enter_context(
            self._admissions.hold(key, lambda: admission_for(settings, self.refresher))
        )

    def session(self, settings: Settings, held: ExitStack) -> TargetSession:
        """Return the connections to these settings' target, held likewise.

        Raises SettingsError where a CA bundle of the environment cannot be read.
        """
        url = settings.target
        options = {
            "pool_size": settings.target_pool_size,
            "connect_timeout": settings.target_connect_timeout_seconds,
            "read_timeout": settings.target_read_timeout_seconds,
            "ssl_context": (
                self._contexts.current(settings.target_ca_file) if url.scheme == "https" else None
            ),
            "proxy": forward_proxy(url.origin),
        }
        key = (url, *options.items())
        return held.enter_context(self._sessions.hold(key, lambda: TargetSession(url, **options)))


def _stop(admission: Admission | None) -> None:
    if admission is not None:
        admission.stop()


class ServedRoute:
    """One route, with all that serves it."""

    def __init__(self, route: Route, resources: Resources, held: ExitStack) -> None:
        settings, url = route.settings, route.settings.target
        self.route = route
        self.tokens = resources.tokens(settings, held)
        self.admission = resources.admission(settings, held)
        self._telemetry = resources.telemetry.of_target(url)
        session = resources.session(settings, held)
        self.forwarder = Forwarder(route, Target(session, self.tokens, self._telemetry))

    def start(self) -> None:
        """Start getting what it needs; harmless when repeated, from any thread."""
        self.tokens.start()
        if self.admission is not None:
            self.admission.start()

    def in_force(self) -> None:
        """Report it in metrics from now on: requests may take it."""
        self.tokens.in_force()
        self._telemetry.in_force()

    @property
    def ready(self) -> bool:
        """Whether a request would be forwarded with a valid token."""
        return self.tokens.ready and (self.admission is None or self.admission.ready)

    @property
    def trouble(self) -> str:
        """Why it is not ready."""
        if self.tokens.ready:
            return "there is nothing to tell callers by"
        return str(self.tokens.status()["last_error"] or "no token came in time")

    def status(self) -> dict[str, Any]:
        """Return what a probe may show: no token, no secret."""
        settings = self.route.settings
        return {
            "name": self.route.name,
            "ready": self.ready,
            "target": settings.target.origin,
            "audience": settings.scope,
            "token": self.tokens.status(),
        }


class RouteSet:
    """All routes, and what they hold.

    Routes with the same identity and audience share one source of tokens, and
    those that admit callers alike share what they are judged by.
    """

    def __init__(self, settings: Settings, resources: Resources) -> None:
        """Make all of it; nothing is fetched, no socket opened.

        Raises SettingsError where a CA bundle of the environment cannot be read.
        """
        self.settings = settings
        with ExitStack() as held:
            self.routes = [ServedRoute(route, resources, held) for route in settings.routes]
            self._held = held.pop_all()
        #: The sources of tokens, each once.
        self.sources = list(dict.fromkeys(served.tokens for served in self.routes))
        self._table = RouteTable((served.route.match, served) for served in self.routes)

    @property
    def sole_target_host(self) -> str:
        """The target's host where all routes have the same, else an empty text."""
        hosts = {served.route.settings.target.authority for served in self.routes}
        return hosts.pop() if len(hosts) == 1 else ""

    @property
    def ready_names(self) -> set[str]:
        """The names of the routes that can serve."""
        return {served.route.name for served in self.routes if served.ready}

    @property
    def judges(self) -> bool:
        """Whether a request may be turned away for its head alone."""
        return len(self.routes) > 1 or self.routes[0].admission is not None

    @property
    def admissions_alive(self) -> bool:
        """Whether each admission notices what changes."""
        admissions = (served.admission for served in self.routes)
        return all(admission is None or admission.alive for admission in admissions)

    @property
    def tried(self) -> bool:
        """Whether each first attempt at a token has ended, well or not."""
        return all(source.tried for source in self.sources)

    @property
    def ready(self) -> bool:
        """Whether any route can serve, and none of the others is about to.

        One identity that fails must not take the routes of the others from
        their clients.
        """
        return self.tried and any(served.ready for served in self.routes)

    def find(self, environ: Mapping[str, Any]) -> ServedRoute:
        """Return the route of a request. Raises NoRoute or BadRequest."""
        return self._table.find(environ)

    def start(self) -> None:
        """Start getting tokens; harmless when repeated, from any thread."""
        for served in self.routes:
            served.start()

    def in_force(self) -> None:
        """Report its routes in metrics from now on: requests may take them."""
        for served in self.routes:
            served.in_force()

    def await_first_attempts(self, timeout: float) -> None:
        """Return once each first attempt at a token has ended, or after `timeout` seconds."""
        give_up = time.monotonic() + timeout
        for source in self.sources:
            source.await_first_attempt(max(0.0, give_up - time.monotonic()))

    def lacking(self, names: set[str], timeout: float) -> list[ServedRoute]:
        """Wait up to `timeout` seconds for the routes of these names.

        Returns those of them that cannot serve then.
        """
        give_up = time.monotonic() + timeout
        self.await_first_attempts(timeout)
        wanted = [served for served in self.routes if served.route.name in names]
        while not all(served.ready for served in wanted) and time.monotonic() < give_up:
            time.sleep(_LOOK_SECONDS)
        return [served for served in wanted if not served.ready]

    def stop(self) -> None:
        """Let go of all that it holds; what is in flight ends by itself."""
        self._held.close()
