"""All settings, and the routes that have settings of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from authproxy.settings.admission import AdmissionSettings
from authproxy.settings.declaration import Group, Setting
from authproxy.settings.declared import Declared
from authproxy.settings.header_fields import HeaderSettings
from authproxy.settings.identity import IdentitySettings
from authproxy.settings.kinds import FilePath, Flag, Text
from authproxy.settings.match import EVERYTHING, Match, host_pattern, path_prefix
from authproxy.settings.serving import LimitSettings
from authproxy.settings.telemetry import LogSettings, TelemetrySettings


class Settings(
    IdentitySettings,
    AdmissionSettings,
    LimitSettings,
    HeaderSettings,
    LogSettings,
    TelemetrySettings,
):
    """What authproxy runs with. Made by `authproxy.settings.load_settings`."""

    #: Those of the settings file.
    _routes: tuple[Route, ...] = ()

    @property
    def routes(self) -> tuple[Route, ...]:
        """Where requests go; one route for all of them, unless the settings file has several."""
        return self._routes or (Route("", EVERYTHING, self),)

    @property
    def has_routes(self) -> bool:
        """Whether the settings file has routes, so that target and audience are those of each."""
        return bool(self._routes)

    def with_routes(self, routes: Iterable[Route]) -> Settings:
        """Return these settings with such routes."""
        return self.replace(_routes=tuple(routes))

    @property
    def identity_key(self) -> object:
        """The same for settings that get the same tokens."""
        return self.scope, self.values_of(Group.IDENTITY)

    @property
    def identity_files(self) -> tuple[str, ...]:
        """The files that hold a part of the identity, such as a secret.

        A service account's token is none: it is replaced each hour, and proves the same identity.
        """
        paths = (
            one.value(self)
            for one in self.declared.values()
            if one.group is Group.IDENTITY and isinstance(one.kind, FilePath) and one.kind.private
        )
        return tuple(path for path in paths if path is not None)

    def within(self, process: Settings) -> Settings:
        """Return these settings, with what is fixed as it is in `process`."""
        fixed = self.fixed_variables()
        kept = {**process.given(fixed), **self.given(self.declared.keys() - fixed)}
        routes = (replace(route, settings=route.settings.within(process)) for route in self._routes)
        return type(self)(kept).with_routes(routes)


@dataclass(frozen=True)
class Route:
    """Where some of the requests go, and how: `settings` holds what is in force for them.

    `name` is empty where one route takes all.
    """

    name: str
    match: Match
    settings: Settings

    @property
    def restricts_requests(self) -> bool:
        """Whether method or path decide if a request may take it."""
        settings = self.settings
        restrictions = (self.name, settings.allowed_methods, settings.allowed_paths)
        return settings.forwards_only_remote_write or any(restrictions)

    def shown(self) -> dict[str, str]:
        """Return which requests take it, and what is in force there, secrets masked."""
        effective = self.settings.effective()
        return {
            "Name": self.name,
            "Host": self.match.host or "",
            "Path": self.match.path,
            "StripPath": str(self.match.strip_path).lower(),
            **{v: effective[v] for v, one in self.settings.declared.items() if one.per_route},
        }


class RouteKeys(Declared, group=Group.MATCH):
    """The keys of a route in the settings file, besides its settings."""

    name = Setting(Text(), None, "What to call it.")
    host = Setting(
        Text(host_pattern, "Give it as clients write it: metrics.example.com, or with a port."),
        None,
        "The host that requests are for.",
    )
    path = Setting(
        Text(path_prefix, "Give a prefix as it is in requests, such as /query."),
        "/",
        "The path that requests are below.",
    )
    strip_path = Setting(Flag(), False, "Whether to take that path off.")

    @property
    def match(self) -> Match:
        """Which requests take the route."""
        return Match(self.host, self.path, self.strip_path)
