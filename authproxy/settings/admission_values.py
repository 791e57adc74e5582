"""What one value may be: pure rules for the settings of who and what may come in."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

from authproxy.globs import Glob
from authproxy.headers import REFUSED_METHODS, is_token
from authproxy.path_rules import PathRules
from authproxy.settings.values import Unusable
from authproxy.urls import TargetURL


def comma_list(value: Any) -> Any:
    """Split a comma list; a YAML file may have a list of its own."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        return value
    members = tuple(each.strip() if isinstance(each, str) else each for each in value)
    if not members or not all(members):
        raise Unusable("it has an empty member", "Put one comma between two members, none else.")
    return members


def methods(value: tuple[str, ...]) -> tuple[str, ...]:
    """Take methods to allow; they are upper case by convention (RFC 9110 section 9.1)."""
    upper = tuple(each.upper() for each in value)
    for method in upper:
        if not is_token(method):
            raise Unusable(f"{method!r} is no method", "Give a list such as GET,POST.")
        if method in REFUSED_METHODS:
            raise Unusable(f"{method} is never forwarded", f"Leave {method} out.")
    return tuple(dict.fromkeys(upper))


def paths(value: tuple[str, ...]) -> tuple[str, ...]:
    """Take prefixes and globs of paths."""
    try:
        PathRules(value)
    except ValueError as error:
        raise Unusable(
            str(error), "Give plain paths such as /api/v1/write, and * for what varies."
        ) from None
    return value


def subjects(value: tuple[str, ...]) -> tuple[str, ...]:
    """Take globs of subjects."""
    try:
        for each in value:
            Glob(each, ":")
    except ValueError as error:
        mend = "Give subjects such as system:serviceaccount:NAMESPACE:NAME, or * for a part of it."
        raise Unusable(str(error), mend) from None
    return value


def jwks_url(value: str) -> str:
    """Take the URL of a key set: over TLS, or from this machine."""
    mend = "Give a whole URL, such as https://kubernetes.default.svc/openid/v1/jwks."
    if not re.match(r"https?://", value, re.IGNORECASE):
        raise Unusable("it is not a whole https:// URL", mend)
    try:
        url = TargetURL.parse(value, allow_http=True)
    except ValueError as error:
        raise Unusable(str(error), mend) from None
    if url.scheme == "http" and not _is_loopback(url.host):
        raise Unusable("it is http: whoever is on the way could put other keys in", mend)
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
