"""What serves the routes of one configuration; a reload replaces it as a whole.

What two configurations have in common, they share: an identity that a reload
leaves as it was keeps its token, callers' keys stay known, and connections to a
target that is still there stay open.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

from authproxy.admission.admission import (
    UNRESTRICTED,
    Admission,
    AdmissionResult,
    admission_for,
)
from authproxy.errors import NoRoute
from authproxy.files.state import state_of
from authproxy.http1.headers import OVERRULING, Field, canonical
from authproxy.http1.inbound_request import InboundRequest
from authproxy.http1.references import TargetOnProxy
from authproxy.http1.urls import REMOTE_WRITE_PATH, path_of
from authproxy.http1.writes import is_write
from authproxy.identity.credentials import TokenFetcher
from authproxy.identity.refresher import Refresher
from authproxy.identity.tokens import TokenSource
from authproxy.proxy.routes import RouteTable
from authproxy.proxy.shared import Shared
from authproxy.redaction import Redactor
from authproxy.settings import Route, Settings
from authproxy.settings.audiences import kind_of
from authproxy.settings.azure_services import Kind
from authproxy.settings.declaration import Group
from authproxy.telemetry.events import Telemetry
from authproxy.tls import TLSContextCache, forward_proxy
from authproxy.upstream.refused_identity import Refusal, told
from authproxy.upstream.session import TargetSession
from authproxy.upstream.target import Target


class Routing(Protocol):
    """What has the routes in force: a reload replaces them."""

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
            fetcher = TokenFetcher(settings, contexts=self._contexts)
            return TokenSource(
                fetcher,
                self.refresher,
                percentage=settings.aad_token_refresh_interval_in_percentage,
                audience=settings.scope,
                certificate_expiry=lambda: fetcher.certificate_expiry,
                telemetry=self.telemetry.of_tokens(settings),
            )

        # A secret that was replaced is another identity: its first token is to show that it works.
        key = (settings.identity_key, state_of(settings.identity_files))
        return held.enter_context(self._sources.hold(key, make))

    def admission(self, settings: Settings, held: ExitStack) -> Admission | None:
        """Return what admits the requests under these settings, held likewise."""
        key = settings.values_of(Group.ADMISSION)
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
            "idle_seconds": settings.target_idle_connection_seconds,
            "max_age": settings.target_connection_max_age_seconds,
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
        self.settings = settings
        self.url = url
        #: Its name in the log, where there are several.
        self.label = route.name or None
        self.tokens = resources.tokens(settings, held)
        self.admission = resources.admission(settings, held)
        self._telemetry = resources.telemetry.of_target(url)
        self.target = Target(resources.session(settings, held), self.tokens, self._telemetry)
        self.dropped = OVERRULING if route.restricts_requests else frozenset()
        overrides = settings.override_request_headers
        self.overrides = {canonical(name): value.reveal() for name, value in overrides.items()}
        self.redact = Redactor(self.overrides.values())
        self._on_proxy = TargetOnProxy(url, route.match.stripped)

    def outbound_target(self, request: InboundRequest) -> str:
        """Return the request target to send.

        Raises BadRequest, and NoRoute for what is no remote write where INGESTION_URL is set.
        """
        target = self.route.match.outbound(request.target)
        if not self.settings.forwards_only_remote_write:
            return self.url.join(target)
        if path_of(target) != REMOTE_WRITE_PATH:
            raise NoRoute(f"only {REMOTE_WRITE_PATH} is forwarded where INGESTION_URL is set")
        return self.url.join("/")

    def returned(
        self, request: InboundRequest, requested: str, fields: Sequence[Field]
    ) -> Sequence[Field]:
        """Return the fields of a response with references and cookies as they hold on the proxy.

        `requested` is the request target that the target was sent. Where INGESTION_URL is set,
        the proxy leads to no other URL of the target.
        """
        if self.settings.forwards_only_remote_write:
            return fields
        on_proxy = self._on_proxy
        if request.mount:
            on_proxy = replace(on_proxy, prefix=request.mount + on_proxy.prefix)
        return on_proxy.returned(fields, requested, lambda: request.origin)

    def why_refused(self, request: InboundRequest, status: int, text: str, challenge: str) -> str:
        """Return why the target refused the identity, by what it says, and the hints."""
        url, scope = self.url, self.settings.scope
        writes = is_write(request.method, request.target, request.fields)
        kind = Kind.INGESTION if writes else kind_of(url, scope)
        return told(Refusal(status, url.host, scope, kind, text=text, challenge=challenge))

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
    def last_error(self) -> str:
        """Why it is not ready."""
        if self.tokens.ready:
            return "there is nothing to tell callers by"
        return str(self.tokens.status()["last_error"] or "no token came in time")

    def status(self) -> dict[str, Any]:
        """Return what a probe may show: no token, no secret."""
        return {
            "name": self.route.name,
            "ready": self.ready,
            "target": self.url.origin,
            "audience": self.settings.scope,
            "token": self.tokens.status(),
        }


class RouteSet:
    """All routes, and what they hold.

    Routes with the same identity and audience share one source of tokens, and
    those that admit callers alike share one admission.
    """

    def __init__(self, settings: Settings, resources: Resources) -> None:
        """Make all of it; nothing is fetched, no socket opened.

        Raises SettingsError where a CA bundle of the environment cannot be read.
        """
        self.settings = settings
        self._refresher = resources.refresher
        with ExitStack() as held:
            self.routes = [ServedRoute(route, resources, held) for route in settings.routes]
            self._held = held.pop_all()
        #: The sources of tokens, each once.
        self.sources = list(dict.fromkeys(served.tokens for served in self.routes))
        self._table = RouteTable((served.route.match, served) for served in self.routes)

    @property
    def sole_target_host(self) -> str:
        """The target's host where all routes have the same, else an empty text."""
        hosts = {served.url.authority for served in self.routes}
        return hosts.pop() if len(hosts) == 1 else ""

    @property
    def ready_names(self) -> set[str]:
        """The names of the routes that can serve."""
        return {served.route.name for served in self.routes if served.ready}

    @property
    def restricted(self) -> bool:
        """Whether a request may be refused for its head alone."""
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

    def admit(self, request: InboundRequest) -> tuple[ServedRoute, AdmissionResult]:
        """Return the route of a request, and that it may take it.

        Raises NoRoute, BadRequest, and what `Admission.admit` raises.
        """
        served = self._table.find(request)
        admission = served.admission
        return served, UNRESTRICTED if admission is None else admission.admit(request)

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
        self._refresher.wait_for(lambda: self.tried, timeout)

    def wait_until_ready(self, names: set[str], timeout: float) -> list[ServedRoute]:
        """Wait up to `timeout` seconds for the routes of these names; return those not ready."""
        wanted = [served for served in self.routes if served.route.name in names]
        self._refresher.wait_for(
            lambda: self.tried and all(served.ready for served in wanted), timeout
        )
        return [served for served in wanted if not served.ready]

    def stop(self) -> None:
        """Let go of all that it holds; what is in flight ends by itself."""
        self._held.close()
