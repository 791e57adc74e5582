"""Every setting, declared once: name, type, range, default, meaning.

The variable is the attribute's name in capitals. Command line, documentation
and messages are made from this declaration. The first half of it, target and
identity, is in `settings_target`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr

from authproxy.routes import EVERYTHING, Match
from authproxy.settings import admission_values, values
from authproxy.settings.target import (
    IDENTITY,
    TARGET,
    Seconds,
    TargetSettings,
    Text,
    Timeout,
    about,
    setting,
)

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

CommaList = Annotated[tuple[Text, ...], BeforeValidator(admission_values.comma_list)]
Methods = Annotated[CommaList, AfterValidator(admission_values.methods)]
Paths = Annotated[CommaList, AfterValidator(admission_values.paths)]
Subjects = Annotated[CommaList, AfterValidator(admission_values.subjects)]

SERVING, ADMISSION, LIMITS = (
    "Listening and serving",
    "Who and what may come in",
    "Limits and shutdown",
)
HEADERS, LOGS, TELEMETRY = "What is sent", "Logs", "Telemetry"

#: The groups of which each route may have settings of its own.
PER_ROUTE = frozenset({TARGET, IDENTITY, ADMISSION, HEADERS})

#: Of the other settings, those that a reload changes.
_RELOADED = ("log_level", "trace_logging")


#: Kept of bodies and waiting responses, besides the room for one largest body.
_BUFFERED_BYTES = 192 * 1024 * 1024


class Settings(TargetSettings):
    """What authproxy runs with. Made by `authproxy.settings.load_settings`."""

    listening_port: Annotated[int, Field(ge=1, le=65535)] | None = setting(
        SERVING,
        None,
        "Port to listen on. Not where systemd passes sockets.",
        shown="required, unless LISTENING_SOCKET",
    )
    listening_host: Annotated[Text, AfterValidator(values.bind_host)] | None = setting(
        SERVING, None, "Address to listen on.", shown="all interfaces, IPv4 and IPv6"
    )
    listening_socket: Text | None = setting(
        SERVING, None, "Unix socket to listen on instead of a port."
    )
    listening_socket_mode: Annotated[Text, AfterValidator(values.socket_mode)] = setting(
        SERVING,
        "0660",
        "Permissions of that socket, in octal: whoever may write to it may connect.",
    )
    listening_socket_group: Text | None = setting(
        SERVING,
        None,
        "Group of that socket, by name or number: how programs of other users are let in.",
        shown="the process's",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = setting(
        SERVING,
        1,
        "Processes that serve. Where there are as many as the cores that may be used, each keeps "
        "to one of them.",
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = setting(
        SERVING, 32, "Threads in each process: requests that it works on at the same time."
    )

    allowed_methods: Methods | None = setting(
        ADMISSION,
        None,
        "Comma list of the methods that are forwarded; others get 405.",
        shown="any",
    )
    allowed_paths: Paths | None = setting(
        ADMISSION,
        None,
        "Comma list of the paths that are forwarded; others get 403. Without a star, a prefix that "
        "ends at a slash: /api admits /api and /api/v1, not /apis. With stars, a whole path: `*` "
        "is anything but a slash, `**` any number of segments. A path that could be read in two "
        "ways gets 400.",
        shown="any",
    )
    inbound_token_file: Text | None = setting(
        ADMISSION,
        None,
        "File of tokens, one a line: a request must carry one of them, as `Authorization: Bearer` "
        "or X-Authproxy-Token, else it gets 401. Read anew when it changes.",
    )
    inbound_jwks_url: Annotated[Text, AfterValidator(admission_values.jwks_url)] | None = setting(
        ADMISSION,
        None,
        "URL of the keys (JWKS) of callers' tokens, such as a cluster's "
        "https://kubernetes.default.svc/openid/v1/jwks: a request with a token signed by one of "
        "them, for INBOUND_JWT_AUDIENCE and by one of INBOUND_JWT_SUBJECTS, is let in.",
    )
    inbound_jwks_ca_file: Text | None = setting(
        ADMISSION,
        None,
        "PEM file of the only certificate authorities to trust for INBOUND_JWKS_URL.",
        shown="system and certifi",
    )
    inbound_jwks_token_file: Text | None = setting(
        ADMISSION,
        None,
        "File that holds the bearer token to send to INBOUND_JWKS_URL; read at each fetch.",
    )
    inbound_jwks_file: Text | None = setting(
        ADMISSION,
        None,
        "File of such keys, instead of INBOUND_JWKS_URL; read anew when it changes.",
    )
    inbound_jwt_issuer: Text | None = setting(
        ADMISSION, None, "The `iss` of callers' tokens, exactly.", shown="required with keys"
    )
    inbound_jwt_audience: Text | None = setting(
        ADMISSION,
        None,
        "What callers' tokens must be for: their `aud` holds exactly this.",
        shown="required with keys",
    )
    inbound_jwt_subjects: Subjects | None = setting(
        ADMISSION,
        None,
        "Comma list of the `sub` of callers that are let in, such as "
        "system:serviceaccount:NAMESPACE:NAME; others get 403. `*` is anything but a colon, "
        "`**` any number of parts between colons.",
        shown="required with keys",
    )

    max_request_body_bytes: Annotated[int, Field(ge=1, le=2**40)] = setting(
        LIMITS, 64 * 1024 * 1024, "A request with a larger body is answered with 413."
    )
    max_request_header_bytes: Annotated[int, Field(ge=1024, le=2**24)] = setting(
        LIMITS, 64 * 1024, "A request with a larger header is answered with 431."
    )
    max_buffered_bytes: Annotated[int, Field(ge=1, le=2**44)] | None = setting(
        LIMITS,
        None,
        "Bytes of request bodies and of responses that wait for slow clients, in memory and in "
        "the temporary directory, that each process keeps at the same time. Past it no body is "
        "read until there is room. MAX_REQUEST_BODY_BYTES of it are kept for the body that has "
        "waited longest, so it has to be at least that.",
        shown="MAX_REQUEST_BODY_BYTES and 192 MiB",
    )
    request_body_timeout_seconds: Timeout = setting(
        LIMITS,
        300.0,
        "How long a client may take to send a request's body, from the end of its header on, "
        "before it is disconnected. Time in which there was no room for the body does not count.",
    )
    max_queued_requests: Annotated[int, Field(ge=0, le=100_000)] | None = setting(
        LIMITS,
        None,
        "Requests that wait for a thread in each process; more are answered with 503 and "
        "Retry-After at once, instead of waiting for long.",
        shown="4 times THREADS",
    )
    shutdown_delay_seconds: Seconds = setting(
        LIMITS,
        0.0,
        "On SIGTERM, how long to go on accepting requests while /ready already says 503, so that "
        "load balancers notice first.",
    )
    shutdown_grace_seconds: Seconds = setting(
        LIMITS, 25.0, "After that, how long requests in flight may take to finish."
    )

    override_request_headers: Annotated[
        Mapping[str, SecretStr], BeforeValidator(values.header_overrides)
    ] = setting(
        HEADERS,
        {},
        "JSON object of header fields to set on each forwarded request, in place of the client's. "
        "Not for hop-by-hop fields, Authorization, Host or Content-Length. The values are treated "
        "as secrets.",
        secret=True,
        shown="{}",
    )
    remote_write_retry_auth_failures: bool = setting(
        HEADERS,
        True,
        "Answer 503 to a remote write that the target refused with 401 or 403, so that the sender "
        "keeps the samples and tries again: new role assignments take up to half an hour.",
    )

    log_format: Annotated[Literal["logfmt", "json"], BeforeValidator(values.lowered)] = setting(
        LOGS, "logfmt", "Form of the log lines on standard error: logfmt or json."
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(values.log_level)
    ] = setting(LOGS, "info", "Least level that is logged: debug, info, warning or error.")
    log_query: bool = setting(LOGS, True, "Whether the query strings of requests are logged.")
    trace_logging: Annotated[bool, BeforeValidator(values.any_text_is_true)] = setting(
        LOGS, False, "Set to anything, it means LOG_LEVEL=debug, as in the retired proxy."
    )

    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = setting(
        TELEMETRY,
        None,
        "Second port, on LISTENING_HOST, where `authproxy serve` answers /metrics for Prometheus "
        "and /status for people, to whoever asks; nothing is forwarded.",
        shown="off",
    )
    otel_grpc_endpoint: Annotated[Text, AfterValidator(values.grpc_endpoint)] | None = setting(
        TELEMETRY,
        None,
        "Where to send traces and metrics to over OTLP/gRPC: host:port or http:// in clear, "
        "https:// with TLS. OpenTelemetry's own OTEL_* variables work as well.",
        shown="no export",
    )
    otel_service_name: Text = setting(
        TELEMETRY, "aad_auth_proxy", "service.name of what is exported."
    )

    #: Those of the YAML file.
    _routes: tuple[Route, ...] = PrivateAttr(default=())

    @property
    def routes(self) -> tuple[Route, ...]:
        """Where requests go; one route for all of them, unless the YAML file has several."""
        return self._routes or (Route("", EVERYTHING, self),)

    @property
    def has_routes(self) -> bool:
        """Whether the YAML file has routes, so that target and audience are those of each."""
        return bool(self._routes)

    def with_routes(self, routes: Iterable[Route]) -> Settings:
        """Return these settings with such routes."""
        copy = self.model_copy()
        copy._routes = tuple(routes)
        return copy

    @property
    def identity_key(self) -> object:
        """The same for settings that get the same tokens."""
        return self.scope, self.authority_host, self._values_of(IDENTITY)

    @property
    def identity_files(self) -> tuple[str, ...]:
        """The files that hold a part of the identity, such as a secret."""
        fields = type(self).model_fields
        return tuple(
            path
            for name in fields
            if about(fields[name])["group"] == IDENTITY and name.endswith(("_file", "_path"))
            if (path := getattr(self, name)) is not None
        )

    @property
    def admission_key(self) -> object:
        """The same for settings that let in the same requests."""
        return self._values_of(ADMISSION)

    def _values_of(self, group: str) -> tuple[object, ...]:
        fields = type(self).model_fields
        return tuple(
            getattr(self, name) for name in fields if about(fields[name])["group"] == group
        )

    @classmethod
    def fixed_variables(cls) -> frozenset[str]:
        """The settings that hold for a process as long as it lives, whatever is reloaded."""
        return frozenset(
            name.upper()
            for name, field in cls.model_fields.items()
            if about(field)["group"] not in PER_ROUTE and name not in _RELOADED
        )

    def within(self, process: Settings) -> Settings:
        """Return these settings, with what is fixed as it is in `process`."""
        kept = {name.lower() for name in self.fixed_variables()}
        copy = self.model_copy(update={name: getattr(process, name) for name in kept})
        copy._routes = tuple(
            replace(route, settings=route.settings.within(process)) for route in self._routes
        )
        return copy

    @property
    def queue_length(self) -> int:
        """Requests that may wait for a thread."""
        return 4 * self.threads if self.max_queued_requests is None else self.max_queued_requests

    @property
    def buffered_bytes(self) -> int:
        """Bytes of bodies and of waiting responses that a process keeps at the same time."""
        return self.max_buffered_bytes or self.max_request_body_bytes + _BUFFERED_BYTES

    @property
    def pool_size(self) -> int:
        """Connections to the target that each worker keeps."""
        return self.target_pool_size or self.threads

    @property
    def socket_mode(self) -> int:
        """The permissions of the Unix socket."""
        return int(self.listening_socket_mode, 8)

    @property
    def socket_group(self) -> int | None:
        """The number of the Unix socket's group, None for the process's own."""
        group = self.listening_socket_group
        return None if group is None else values.group_number(group)

    @property
    def level(self) -> int:
        """The least level to log, as `logging` counts."""
        return logging.DEBUG if self.trace_logging else _LEVELS[self.log_level]

    def effective(self) -> dict[str, str]:
        """Return what is in force, variable by variable, with secrets masked.

        What is unset is an empty text, but what is derived appears as derived.
        The routes' own are not among them.
        """
        shown = {
            name.upper(): values.shown(getattr(self, name)) for name in type(self).model_fields
        }
        if not self.has_routes:
            shown["AUDIENCE"] = self.scope
            shown["AAD_AUTHORITY_HOST"] = self.authority_host or ""
        shown["TARGET_POOL_SIZE"] = str(self.pool_size)
        shown["MAX_BUFFERED_BYTES"] = str(self.buffered_bytes)
        shown["MAX_QUEUED_REQUESTS"] = str(self.queue_length)
        return shown


@dataclass(frozen=True)
class Route:
    """Where some of the requests go, and how: `settings` holds what is in force for them.

    `name` is empty where one route takes all.
    """

    name: str
    match: Match
    settings: Settings
