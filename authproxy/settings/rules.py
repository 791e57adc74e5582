"""Rules between settings, and between settings and the files that they name.

Each rule is one small function that yields the faults it finds. Rules see the
values that are valid by themselves; what is wrong already counts as given.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from authproxy.errors import Fault
from authproxy.files.regular_file import MAX_BYTES, UnreadableFile, require_regular_file
from authproxy.redaction import MASK
from authproxy.settings.admission_rules import ADMISSION_RULES
from authproxy.settings.draft import Draft, Rule
from authproxy.settings.socket_activation import passed_descriptors
from authproxy.settings.target_rules import TARGET_RULES
from authproxy.settings.telemetry_rules import SIGNALS, unusable_variables
from authproxy.settings.values import group_number

#: Bytes of a Unix socket's path: sun_path without its final NUL (unix(7)).
_MAX_SOCKET_PATH = 107

#: Those of OpenTelemetry's variables that name files, for all signals and for each.
_OTEL_FILES = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}{what}"
    for signal in ("", *(f"{signal.upper()}_" for signal in SIGNALS))
    for what in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
)

_FORWARD_PROXY = ("https_proxy", "HTTPS_PROXY")


def broken_rules(draft: Draft) -> list[Fault]:
    """Return every fault of what holds for the whole process."""
    return [fault for rule in _RULES for fault in rule(draft)]


def broken_rules_of_routes(draft: Draft) -> list[Fault]:
    """Return every fault of what may differ from route to route."""
    return [fault for rule in (*TARGET_RULES, *ADMISSION_RULES) for fault in rule(draft)]


def one_listener(draft: Draft) -> Iterator[Fault]:
    """A port, a Unix socket or sockets that were passed: to serve, one of the three."""
    if draft.serving and passed_descriptors(draft.environ):
        for variable in sorted(draft.given.intersection({"LISTENING_PORT", "LISTENING_SOCKET"})):
            yield Fault(
                variable,
                draft.value(variable),
                "it is set, although systemd passes sockets to listen on (LISTEN_FDS)",
                f"Remove {variable}, or disable the socket unit.",
            )
    elif draft.gives("LISTENING_PORT", "LISTENING_SOCKET"):
        yield Fault(
            "LISTENING_SOCKET",
            draft.settings.listening_socket,
            "it is set besides LISTENING_PORT",
            "Keep one of them.",
        )
    elif draft.serving and draft.lacks("LISTENING_PORT", "LISTENING_SOCKET"):
        yield Fault(
            "LISTENING_PORT",
            None,
            "it is required: nothing says where to listen",
            "Set it to a port, such as 8081, or LISTENING_SOCKET to a path.",
        )


def placeable_socket(draft: Draft) -> Iterator[Fault]:
    """A Unix socket can be made at its path."""
    path = draft.settings.listening_socket
    if path is None or not draft.serving:
        return
    mend = "Name a path in an existing directory that authproxy may write to."
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        yield Fault("LISTENING_SOCKET", path, f"it is longer than {_MAX_SOCKET_PATH} bytes", mend)
    elif not Path(path).absolute().parent.is_dir():
        yield Fault("LISTENING_SOCKET", path, "its directory does not exist", mend)
    elif not _free_for_socket(path):
        yield Fault("LISTENING_SOCKET", path, "something that is no socket is there", mend)


def socket_of_a_group(draft: Draft) -> Iterator[Fault]:
    """What is said of the Unix socket has one to hold for, and can be done."""
    settings = draft.settings
    for variable in ("LISTENING_SOCKET_MODE", "LISTENING_SOCKET_GROUP"):
        if draft.gives(variable) and draft.lacks("LISTENING_SOCKET"):
            mend = "Set LISTENING_SOCKET, or leave it out."
            yield Fault(variable, draft.value(variable), "there is no LISTENING_SOCKET", mend)
    group = settings.listening_socket_group
    if group is None or not draft.serving:
        return
    number = group_number(group)
    if number is None:
        mend = "Give the name or the number of a group of this machine."
        yield Fault("LISTENING_SOCKET_GROUP", group, "there is no such group", mend)
    elif os.geteuid() != 0 and number not in {os.getegid(), *os.getgroups()}:
        mend = "Add that user to the group, or choose one of its own."
        problem = "the user that authproxy runs as is not in it"
        yield Fault("LISTENING_SOCKET_GROUP", group, problem, mend)


def metrics_port_of_its_own(draft: Draft) -> Iterator[Fault]:
    """METRICS_PORT is not the proxied port: there, /metrics is forwarded."""
    port = draft.settings.metrics_port
    if port is not None and port == draft.settings.listening_port:
        yield Fault("METRICS_PORT", str(port), "it is LISTENING_PORT", "Choose another port.")


def usable_otel_variables(draft: Draft) -> Iterator[Fault]:
    """OpenTelemetry's own variables ask for exporters that there are."""
    for wrong in unusable_variables(draft.environ):
        yield Fault(wrong.variable, wrong.value, wrong.problem, wrong.mend)


def otel_files(draft: Draft) -> Iterator[Fault]:
    """Files of OpenTelemetry's own variables, which its exporters open, are files."""
    for variable in _OTEL_FILES:
        path = draft.environ.get(variable, "").strip()
        try:
            if path:
                require_regular_file(path, MAX_BYTES)
        except UnreadableFile as error:
            # Of one that is missing the exporters tell.
            if not error.regular or error.too_large:
                yield Fault(variable, path, str(error), "Name a PEM file.")


def usable_forward_proxy(draft: Draft) -> Iterator[Fault]:
    """HTTPS_PROXY, if there is one, is a proxy that can be tunnelled through.

    As urllib has it, the small name goes before the large one, even if it is empty.
    """
    variable = next((name for name in _FORWARD_PROXY if name in draft.environ), "")
    value = draft.environ.get(variable, "")
    if not value or _is_http_proxy(value):
        return
    # What stands before an @ may be a password.
    yield Fault(
        variable,
        MASK if "@" in value else value,
        "it is not the URL of an HTTP proxy, the only kind that is tunnelled through",
        "Set it to http://host:port or https://host:port, or remove it.",
    )


def target_in_the_routes(draft: Draft) -> Iterator[Fault]:
    """Where there are routes, each says its target, and nothing goes anywhere else."""
    for variable in ("TARGET_HOST", "INGESTION_URL"):
        if draft.routed and draft.gives(variable):
            yield Fault(
                variable,
                draft.value(variable),
                "it is set besides routes, of which each has its own",
                "Remove it, or move it into a route; one with `path: /` takes what is left.",
            )


def room_for_a_body(draft: Draft) -> Iterator[Fault]:
    """What may be kept in all is enough for one largest body, or that one could never be read."""
    settings = draft.settings
    if settings.buffered_bytes < settings.max_request_body_bytes:
        yield Fault(
            "MAX_BUFFERED_BYTES",
            draft.value("MAX_BUFFERED_BYTES"),
            f"it is less than MAX_REQUEST_BODY_BYTES ({settings.max_request_body_bytes})",
            "Raise it, or lower MAX_REQUEST_BODY_BYTES.",
        )


def _is_http_proxy(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _free_for_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True  # nothing there, or what binding will tell


_RULES: tuple[Rule, ...] = (
    one_listener,
    placeable_socket,
    socket_of_a_group,
    metrics_port_of_its_own,
    usable_otel_variables,
    otel_files,
    usable_forward_proxy,
    target_in_the_routes,
    room_for_a_body,
)
