"""Rules of the settings that say who and what may come in."""

from __future__ import annotations

from collections.abc import Iterator

from authproxy.errors import Fault
from authproxy.files.inbound_tokens import parse_tokens
from authproxy.files.jwks import parse_jwks
from authproxy.files.regular_file import read_regular_file
from authproxy.path_rules import PathRules
from authproxy.settings.draft import Draft, Rule
from authproxy.urls import REMOTE_WRITE_PATH

_KEYS = ("INBOUND_JWKS_URL", "INBOUND_JWKS_FILE")

#: What there must be to judge a signed token by, and an example of each.
_WITH_KEYS = {
    "INBOUND_JWT_ISSUER": "https://kubernetes.default.svc.cluster.local",
    "INBOUND_JWT_AUDIENCE": "authproxy",
    "INBOUND_JWT_SUBJECTS": "system:serviceaccount:NAMESPACE:NAME",
}
_WITH_URL = ("INBOUND_JWKS_CA_FILE", "INBOUND_JWKS_TOKEN_FILE")


def usable_token_file(draft: Draft) -> Iterator[Fault]:
    """The file of inbound tokens holds at least one, and no weak one."""
    path = draft.settings.inbound_token_file
    if path is None:
        return
    try:
        parse_tokens(read_regular_file(path))
    except ValueError as error:
        mend = "Write one token a line into it, such as `openssl rand -hex 32` makes."
        yield Fault("INBOUND_TOKEN_FILE", path, str(error), mend)


def one_key_source(draft: Draft) -> Iterator[Fault]:
    """Keys come from a URL or from a file."""
    if draft.gives(*_KEYS):
        yield Fault(
            "INBOUND_JWKS_FILE",
            draft.settings.inbound_jwks_file,
            "it is set besides INBOUND_JWKS_URL",
            "Keep one of them; keys from a URL are renewed by themselves.",
        )


def usable_key_file(draft: Draft) -> Iterator[Fault]:
    """The file of keys holds at least one that can be used."""
    path = draft.settings.inbound_jwks_file
    if path is None:
        return
    try:
        parse_jwks(read_regular_file(path))
    except ValueError as error:
        mend = "Store the key set there, as `kubectl get --raw /openid/v1/jwks` prints it."
        yield Fault("INBOUND_JWKS_FILE", path, str(error), mend)


def whole_of_signed_tokens(draft: Draft) -> Iterator[Fault]:
    """Keys, issuer, audience and subjects belong together."""
    if draft.lacks(*_KEYS):
        for variable in (*_WITH_KEYS, *_WITH_URL):
            if draft.gives(variable):
                yield Fault(
                    variable,
                    draft.value(variable),
                    "there are no keys to judge a token by",
                    "Set INBOUND_JWKS_URL or INBOUND_JWKS_FILE, or leave it out.",
                )
        return
    for variable, example in _WITH_KEYS.items():
        if draft.lacks(variable):
            given = next(each for each in _KEYS if draft.gives(each))
            yield Fault(variable, None, f"it is required with {given}", f"Set it, as to {example}.")
    if draft.lacks("INBOUND_JWKS_URL"):
        for variable in _WITH_URL:
            if draft.gives(variable):
                mend = "Leave it out: nothing is fetched."
                yield Fault(variable, draft.value(variable), "there is no INBOUND_JWKS_URL", mend)


def remote_writes_may_come_in(draft: Draft) -> Iterator[Fault]:
    """Where only remote writes are forwarded, they must not be shut out."""
    settings = draft.settings
    if settings.ingestion_url is None:
        return
    paths, methods = settings.allowed_paths, settings.allowed_methods
    if paths is not None and not PathRules(paths).admit(REMOTE_WRITE_PATH):
        yield Fault(
            "ALLOWED_PATHS",
            draft.value("ALLOWED_PATHS"),
            f"it shuts out {REMOTE_WRITE_PATH}, the one path that INGESTION_URL has forwarded",
            f"Leave it out, or set it to {REMOTE_WRITE_PATH}.",
        )
    if methods is not None and "POST" not in methods:
        yield Fault(
            "ALLOWED_METHODS",
            draft.value("ALLOWED_METHODS"),
            "it shuts out POST, the method of the remote writes that INGESTION_URL is for",
            "Leave it out, or set it to POST.",
        )


ADMISSION_RULES: tuple[Rule, ...] = (
    usable_token_file,
    one_key_source,
    usable_key_file,
    whole_of_signed_tokens,
    remote_writes_may_come_in,
)
