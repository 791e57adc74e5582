"""What serves the routes of one configuration; a reload replaces it as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from authproxy.admission import Admission, admission_for
from authproxy.forwarder import Forwarder
from authproxy.identity.credentials import TokenFetcher
from authproxy.identity.tokens import TokenSource
from authproxy.routes import RouteTable
from authproxy.settings import Route, Settings
from authproxy.telemetry.events import Telemetry
from authproxy.tls import KeptContexts, forward_proxy
from authproxy.upstream.target import Target
from authproxy.upstream.transport import TargetAdapter, open_session

#: How often to look whether routes are ready: tokens and callers' keys come by threads of
#: their own, and nothing tells of both.
_LOOK_SECONDS = 0.05


class Routing(Protocol):
    """Who knows the routes in force: a reload puts others in their place."""

    @property
    def routes(self) -> RouteSet: ...


class ServedRoute:
    """One route, with all that serves it."""

    def __init__(
        self,
        route: Route,
        tokens: TokenSource,
        admission: Admission | None,
        telemetry: Telemetry,
        contexts: KeptContexts,
    ) -> None:
        settings, url = route.settings, route.settings.target
        tls = contexts.current(settings.target_ca_file) if url.scheme == "https" else None
        adapter = TargetAdapter(
            url,
            pool_size=settings.pool_size,
            connect_timeout=settings.target_connect_timeout_seconds,
            read_timeout=settings.target_read_timeout_seconds,
            ssl_context=tls,
            proxy=forward_proxy(url.origin),
        )
        self.route = route
        self.tokens = tokens
        self.admission = admission
        target = Target(adapter, tokens, telemetry.of_target(url))
        self.forwarder = Forwarder(route, target)
        self._session = open_session(url, adapter)

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

    def close(self) -> None:
        """Close the idle connections; those in use end with their answers."""
        self._session.close()


class RouteSet:
    """All routes, and the threads behind them.

    Routes with the same identity and audience share one source of tokens, and
    those that admit callers alike share what they are judged by.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, contexts: KeptContexts) -> None:
        """Make all of it; no thread is started, no socket opened.

        Raises SettingsError where a CA bundle of the environment cannot be read.
        """
        self.settings = settings
        self._contexts = contexts
        self._sources: dict[object, TokenSource] = {}
        self._admissions: dict[object, Admission | None] = {}
        self.routes = [self._served(route, telemetry) for route in settings.routes]
        self._table = RouteTable((served.route.match, served) for served in self.routes)

    def _served(self, route: Route, telemetry: Telemetry) -> ServedRoute:
        settings = route.settings
        whose = settings.identity_key
        if whose not in self._sources:
            self._sources[whose] = TokenSource(
                TokenFetcher(settings, contexts=self._contexts),
                percentage=settings.aad_token_refresh_interval_in_percentage,
                audience=settings.scope,
                telemetry=telemetry.of_tokens(settings),
            )
        who = settings.admission_key
        if who not in self._admissions:
            self._admissions[who] = admission_for(settings)
        tokens, admission = self._sources[whose], self._admissions[who]
        return ServedRoute(route, tokens, admission, telemetry, self._contexts)

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
    def sources(self) -> list[TokenSource]:
        """The sources of tokens, each once."""
        return list(self._sources.values())

    @property
    def judges(self) -> bool:
        """Whether a request may be turned away for its head alone."""
        return len(self.routes) > 1 or self.routes[0].admission is not None

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

    @property
    def alive(self) -> bool:
        """Whether every thread that fetches tokens lives."""
        return all(source.alive for source in self.sources)

    def find(self, environ: Mapping[str, Any]) -> ServedRoute:
        """Return the route of a request. Raises NoRoute or BadRequest."""
        return self._table.find(environ)

    def start(self) -> None:
        """Start getting tokens; harmless when repeated, from any thread."""
        for source in self.sources:
            source.start()
        for admission in self._admissions.values():
            if admission is not None:
                admission.start()

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
        """End the threads and the idle connections; what is in flight ends by itself."""
        for source in self.sources:
            source.stop()
        for admission in self._admissions.values():
            if admission is not None:
                admission.stop()
        for served in self.routes:
            served.close()
