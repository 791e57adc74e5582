"""The settings of where requests go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from authproxy.errors import Fault
from authproxy.files.regular_file import MAX_BUNDLE_BYTES, UnreadableFile, require_regular_file
from authproxy.http1.urls import TargetURL
from authproxy.redaction import MASK
from authproxy.settings import audiences
from authproxy.settings.declaration import Group, OneOf, Required, Setting, derived, rule
from authproxy.settings.kinds import FilePath, Flag, Integer, Number, Text
from authproxy.settings.rules import Draft
from authproxy.settings.serving import ServingSettings


def host_or_url(text: str) -> str:
    """Take a host, host:port or URL to forward to."""
    TargetURL.parse(text)
    return text


def host_of(url: str) -> str:
    """Return the host of a target's URL."""
    return TargetURL.parse(url).host


def whole_url(text: str) -> TargetURL:
    """Return the parts of a URL that has a scheme. Raises ValueError."""
    if not re.match(r"https?://", text, re.IGNORECASE):
        raise ValueError("it is not a whole https:// URL")
    return TargetURL.parse(text, allow_http=True)


def ingestion_endpoint(text: str) -> str:
    """Take the whole URL of an ingestion endpoint."""
    if whole_url(text).path in ("", "/"):
        raise ValueError("it has no path")
    return text


def scope_or_resource(text: str) -> str:
    """Take a scope or a resource; return the scope."""
    return audiences.scope_of(audiences.check_audience(text))


class AuthoritiesFile(FilePath):
    """A PEM file of certificate authorities."""

    def __init__(self) -> None:
        super().__init__(_load, "Name a readable PEM file with the authority's certificate.")


def _load(path: str) -> None:
    import ssl  # takes a while, and few need it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        require_regular_file(path, MAX_BUNDLE_BYTES)
        context.load_verify_locations(cafile=path)
    except UnreadableFile as error:
        raise ValueError(f"it {error.problem}") from None
    except ssl.SSLError:
        raise ValueError("it holds no PEM certificate, or a damaged one") from None
    if not context.cert_store_stats()["x509"]:
        raise ValueError("it holds no certificate")


class TargetSettings(ServingSettings, group=Group.TARGET):
    """Where requests go."""

    target_host = Setting(
        Text(host_or_url, "Give a host, host:port or URL, such as metrics.example.com."),
        None,
        "Host, host:port or URL to forward to. Always over https, whatever its scheme says, unless "
        "TARGET_ALLOW_HTTP. A path and a query in it are put in front of each request's, so that a "
        "whole metrics ingestion endpoint can be pasted.",
        inherited=False,
    )
    target_allow_http = Setting(
        Flag(),
        False,
        "Honour http:// in TARGET_HOST and INGESTION_URL. Tokens then travel in clear: for tests "
        "and for meshes that encrypt by themselves.",
    )
    target_ca_file = Setting(
        AuthoritiesFile(),
        None,
        "PEM file of certificate authorities to trust for the target, besides the usual ones.",
        unset="system and certifi",
    )
    target_connect_timeout_seconds = Setting(
        Number("seconds", most=3600),
        5.0,
        "How long a connection to the target may take to open: the look-up of its name, all its "
        "addresses and TLS together.",
    )
    target_read_timeout_seconds = Setting(
        Number("seconds", most=3600),
        150.0,
        "How long the target may be silent, before its response and within it. Longer than the two "
        "minutes that a query may take.",
    )
    target_pool_size = Setting(
        Integer(1, 10_000),
        derived(ServingSettings.threads, lambda threads: threads),
        "Connections to the target that each worker keeps open.",
    )
    target_idle_connection_seconds = Setting(
        Number("seconds", most=3600),
        60.0,
        "A connection to the target that has been idle for so long is not used again: load "
        "balancers and firewalls forget idle connections, Azure's after four minutes.",
    )
    target_connection_max_age_seconds = Setting(
        Number("seconds", most=86400),
        300.0,
        "A connection to the target that has been open for so long is not used again: the next is "
        "opened to where the target's name leads by then.",
    )
    ingestion_url = Setting(
        Text(
            ingestion_endpoint,
            "Paste the whole metrics ingestion endpoint, from https:// to api-version.",
        ),
        None,
        "Instead of TARGET_HOST, as Azure Monitor's remote-write sidecar had it: the whole URL of "
        "the metrics ingestion endpoint. /api/v1/write is sent to exactly this URL, and nothing "
        "else is forwarded.",
        inherited=False,
    )
    destination = OneOf(
        target_host,
        ingestion_url,
        hint="Keep INGESTION_URL for remote write alone, TARGET_HOST for everything else.",
        required=Required(
            "Set TARGET_HOST to a host or URL, or INGESTION_URL to a whole ingestion endpoint",
            because="nothing says where requests go",
        ),
    )
    cluster = Setting(
        Text(),
        None,
        "A name that the sidecar knew; it is logged at start and used for nothing.",
    )
    audience = Setting(
        Text(
            scope_or_resource,
            "Give one scope or resource, such as https://monitor.azure.com/.default.",
        ),
        derived(destination, lambda url: audiences.scope_for_host(host_of(url)), "by target"),
        "Scope or resource to get tokens for. `/.default` is added where it is missing. Unset, it "
        "is derived from the target's host where that tells it, as those of most services of Azure "
        "do; any other target needs it.",
        also=("INGESTION_AAD_AUDIENCE",),
    )

    @property
    def target(self) -> TargetURL:
        """Where requests are forwarded to."""
        url = self.target_host or self.ingestion_url
        if url is None:
            raise ValueError("neither TARGET_HOST nor INGESTION_URL is set")
        return TargetURL.parse(url, allow_http=self.target_allow_http)

    @property
    def forwards_only_remote_write(self) -> bool:
        """Whether only /api/v1/write is forwarded, to exactly the target's URL."""
        return self.ingestion_url is not None

    @property
    def scope(self) -> str:
        """The scope to get tokens for, given or derived."""
        if self.audience is None:
            raise ValueError("AUDIENCE is not set, and the target implies none")
        return self.audience

    @property
    def unfit_audience(self) -> str | None:
        """What is wrong with the audience, if the target's host takes another; else None."""
        wanted = audiences.unfit(self.target.host, self.scope)
        return wanted and (
            f"AUDIENCE={self.scope} does not fit: {self.target.host} takes tokens for {wanted} "
            "only. Leave AUDIENCE out"
        )

    @rule(per_route=True)
    def known_audience(self, draft: Draft) -> Iterator[Fault]:
        """AUDIENCE is given, or the target implies one."""
        one, target = TargetSettings.audience, TargetSettings.destination.chosen(self)
        if draft.lacks(one) and target is not None and self.audience is None:
            likely = audiences.likely_audience(self.target.host)
            example = "such as https://prometheus.monitor.azure.com/.default"
            yield draft.fault(
                one,
                f"it is required: the target {self.target.host} does not imply it",
                "Set it to the scope or resource that the target takes tokens for, "
                f"{f'probably {likely}' if likely else example}.",
            )

    @rule(per_route=False)
    def usable_forward_proxy(self, draft: Draft) -> Iterator[Fault]:
        """HTTPS_PROXY, if there is one, is a proxy that can be tunnelled through.

        As urllib has it, the small name goes before the large one, even if it is empty.
        """
        variable = "https_proxy" if "https_proxy" in draft.environ else "HTTPS_PROXY"
        value = draft.environ.get(variable, "")
        if value and not _is_http_proxy(value):
            yield Fault(
                variable,
                MASK if "@" in value else value,  # what is before an @ may be a password
                "it is not the URL of an HTTP proxy, the only kind that is tunnelled through",
                "Set it to http://host:port or https://host:port, or remove it.",
            )


def _is_http_proxy(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
