"""The settings of who and what may come in."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from authproxy.errors import Fault, Unusable
from authproxy.files.inbound_tokens import parse_tokens
from authproxy.files.jwks import parse_jwks
from authproxy.files.regular_file import read_regular_file
from authproxy.files.secret import read_secret
from authproxy.http1.globs import Glob
from authproxy.http1.headers import REFUSED_METHODS, is_token
from authproxy.http1.path_rules import PathRules
from authproxy.http1.urls import REMOTE_WRITE_PATH
from authproxy.settings.declaration import Group, OneOf, Required, Setting, rule
from authproxy.settings.kinds import CommaList, FilePath, Flag, Text
from authproxy.settings.rules import Draft
from authproxy.settings.target import AuthoritiesFile, TargetSettings, whole_url

#: A file of tokens that let callers in.
TOKENS_FILE = FilePath(
    lambda path: parse_tokens(read_regular_file(path)),
    "Write one token a line into it, such as `openssl rand -hex 32` makes.",
    private=True,
)


def methods(given: tuple[str, ...]) -> tuple[str, ...]:
    """Take methods to allow; they are upper case by convention (RFC 9110 section 9.1)."""
    upper = tuple(each.upper() for each in given)
    for method in upper:
        if not is_token(method):
            raise ValueError(f"{method!r} is no method")
        if method in REFUSED_METHODS:
            raise Unusable(f"{method} is never forwarded", f"Leave {method} out.")
    return tuple(dict.fromkeys(upper))


def paths(given: tuple[str, ...]) -> tuple[str, ...]:
    """Take prefixes and globs of paths."""
    PathRules(given)
    return given


def subjects(given: tuple[str, ...]) -> tuple[str, ...]:
    """Take globs of subjects."""
    for each in given:
        Glob(each, ":")
    return given


def jwks_url(text: str) -> str:
    """Take the URL of a key set: over TLS, or from this machine."""
    url = whole_url(text)
    if url.scheme == "http" and not _is_loopback(url.host):
        raise ValueError("it is http: what is on the way could put other keys in")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AdmissionSettings(TargetSettings, group=Group.ADMISSION):
    """Which methods and paths are forwarded, and for which callers."""

    allowed_methods = Setting(
        CommaList(methods, "Give a list such as GET,POST."),
        None,
        "Comma list of the methods that are forwarded; others get 405.",
        unset="any",
    )
    allowed_paths = Setting(
        CommaList(paths, "Give plain paths such as /api/v1/write, and * for what varies."),
        None,
        "Comma list of the paths that are forwarded; others get 403. Without a star, a prefix that "
        "ends at a slash: /api admits /api and /api/v1, not /apis. With stars, a whole path: `*` "
        "is anything but a slash, `**` any number of segments. A path that could be read in two "
        "ways gets 400.",
        unset="any",
    )
    inbound_token_file = Setting(
        TOKENS_FILE,
        None,
        "File of tokens, one a line: a request must carry one of them, as `Authorization: Bearer` "
        "or X-Authproxy-Token, else it gets 401. Read anew when it changes.",
        chart_key="inboundTokens.key",
    )
    inbound_jwks_url = Setting(
        Text(jwks_url, "Give a whole URL, such as https://kubernetes.default.svc/openid/v1/jwks."),
        None,
        "URL of the keys (JWKS) of callers' tokens, such as a cluster's "
        "https://kubernetes.default.svc/openid/v1/jwks: a request with a token signed by one of "
        "them, for INBOUND_JWT_AUDIENCE and by one of INBOUND_JWT_SUBJECTS, is let in.",
    )
    inbound_jwks_ca_file = Setting(
        AuthoritiesFile(),
        None,
        "PEM file of the only certificate authorities to trust for INBOUND_JWKS_URL.",
        unset="system and certifi",
        needs=inbound_jwks_url,
    )
    inbound_jwks_token_file = Setting(
        FilePath(read_secret),  # not private: the kubelet alone says who may read it
        None,
        "File that holds the bearer token to send to INBOUND_JWKS_URL; read at each fetch.",
        needs=inbound_jwks_url,
    )
    inbound_jwks_file = Setting(
        FilePath(
            lambda path: parse_jwks(read_regular_file(path)),
            "Store the key set there, as `kubectl get --raw /openid/v1/jwks` prints it.",
        ),
        None,
        "File of such keys, instead of INBOUND_JWKS_URL; read anew when it changes.",
    )
    keys = OneOf(
        inbound_jwks_url,
        inbound_jwks_file,
        hint="Keep one of them; keys from a URL are renewed by themselves.",
    )
    inbound_jwt_issuer = Setting(
        Text(),
        None,
        "The `iss` of callers' tokens, exactly.",
        needs=keys,
        required=Required(
            "Set it, such as to https://kubernetes.default.svc.cluster.local", where=keys
        ),
    )
    inbound_jwt_audience = Setting(
        Text(),
        None,
        "What callers' tokens must be for: their `aud` holds exactly this.",
        needs=keys,
        required=Required("Set it, such as to authproxy", where=keys),
    )
    inbound_jwt_subjects = Setting(
        CommaList(
            subjects,
            "Give subjects such as system:serviceaccount:NAMESPACE:NAME, or * for a part of it.",
        ),
        None,
        "Comma list of the `sub` of callers that are let in, such as "
        "system:serviceaccount:NAMESPACE:NAME; others get 403. `*` is anything but a colon, "
        "`**` any number of parts between colons.",
        needs=keys,
        required=Required("Set it, such as to system:serviceaccount:NAMESPACE:NAME", where=keys),
    )

    inbound_allow_preflight = Setting(
        Flag(),
        False,
        "Let in preflights of browsers (OPTIONS with Origin and Access-Control-Request-Method), "
        "which cannot carry a token, by the method and the path that they ask for. They go to the "
        "target without the token of Entra ID, and once more with it if it responds with 401.",
    )

    @rule(per_route=True)
    def preflights_need_a_caller_to_identify(self, draft: Draft) -> Iterator[Fault]:
        """Where no caller has to show a token, preflights come in as all requests do."""
        setting = AdmissionSettings.inbound_allow_preflight
        callers = (AdmissionSettings.inbound_token_file, AdmissionSettings.keys)
        if self.inbound_allow_preflight and draft.gives(setting) and all(map(draft.lacks, callers)):
            yield draft.fault(
                setting,
                "no request has to carry a token, so that preflights are let in as it is",
                "Leave it out, or set INBOUND_TOKEN_FILE or INBOUND_JWKS_URL.",
            )

    @rule(per_route=True)
    def remote_writes_may_come_in(self, draft: Draft) -> Iterator[Fault]:
        """Where only remote writes are forwarded, they are not shut out."""
        if not self.forwards_only_remote_write:
            return
        if self.allowed_paths and not PathRules(self.allowed_paths).admit(REMOTE_WRITE_PATH):
            yield draft.fault(
                AdmissionSettings.allowed_paths,
                f"it shuts out {REMOTE_WRITE_PATH}, the one path that INGESTION_URL has forwarded",
                f"Leave it out, or set it to {REMOTE_WRITE_PATH}.",
            )
        if self.allowed_methods and "POST" not in self.allowed_methods:
            yield draft.fault(
                AdmissionSettings.allowed_methods,
                "it shuts out POST, the method of the remote writes that INGESTION_URL is for",
                "Leave it out, or set it to POST.",
            )
