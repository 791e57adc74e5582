"""Pure rules: which setting a name is probably meant to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from authproxy.errors import Fault

#: How alike an environment's variable has to be to one of ours (difflib's ratio). Others are there
#: for other programs: INGESTION_PORT is as like INGESTION_URL as 0.81.
_ALIKE = 0.85

#: First words that other proxies have for ours.
_WORDS = {"UPSTREAM": "TARGET", "BACKEND": "TARGET", "LISTEN": "LISTENING"}

#: What Kubernetes sets in each pod for a Service:
#: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(r"(.+?)_(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_[0-9]+_.+)?)")


def nearest(name: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """Return the known name that is most like another one, in any case; None if none is."""
    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=alike)
    return by_lower[near[0]] if near else None


def unknown(name: str, known: Iterable[str], place: str = "") -> Fault:
    """Return the fault of a name that is none of those known, with the nearest one that is."""
    name = name if name.isprintable() else ascii(name)
    near = nearest(name, known)
    hint = f"Did you mean {near.lower()}?" if near else "Remove it."
    return Fault(name, None, f"there is no such setting{place}", hint)


def misspelt(
    environ: Mapping[str, str], ours: Collection[str], others: Collection[str] = ()
) -> dict[str, str]:
    """Return the variables of an environment that are not known, and those that they resemble.

    `ours` and `others` are known: settings, and variables of other programs that are read as well.
    A name resembles another that is spelt nearly so, or one of ours that begins with the same word
    and has all its words (TARGET_TIMEOUT). What is empty, or set by Kubernetes for its Services,
    does not count.
    """
    known = {*ours, *others}
    found = {}
    for name, value in environ.items():
        if value and name not in known and not _is_service_link(name, environ):
            first, *more = name.upper().split("_")
            spelt = "_".join((_WORDS.get(first, first), *more))
            near = nearest(spelt, known, _ALIKE) or _with_words_of(spelt, ours)
            if near is not None:
                found[name] = near
    return found


def _with_words_of(name: str, known: Iterable[str]) -> str | None:
    first, *others = name.split("_")
    for one in known:
        words = one.split("_")
        if others and words[0] == first and set(others) <= set(words):
            return one
    return None


def _is_service_link(name: str, environ: Mapping[str, str]) -> bool:
    link = _SERVICE_LINK.fullmatch(name)
    return link is not None and f"{link[1]}_SERVICE_HOST" in environ
