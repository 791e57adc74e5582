"""The keys of INBOUND_JWKS_URL, fetched and kept fresh by the refresher.

No request waits for the endpoint. While it fails, the keys that were fetched
last stay in force, however long: an issuer that publishes no keys issues no
tokens either, and those issued before expire.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from random import Random, SystemRandom
from typing import TYPE_CHECKING

from requests import RequestException, Session
from urllib3.exceptions import HTTPError

from authproxy.clock import Clock, SystemClock
from authproxy.errors import AuthProxyError, SettingsError, Unusable
from authproxy.files.jwks import parse_jwks
from authproxy.files.regular_file import MAX_BUNDLE_BYTES, UnreadableFile, require_regular_file
from authproxy.files.secret import read_secret
from authproxy.identity.bounded_fetch import BoundedAdapter, Budget
from authproxy.identity.lifetimes import backoff
from authproxy.identity.refresher import Attempt, Refreshed, Refresher
from authproxy.redaction import Redactor
from authproxy.tls import client_context, default_context, forward_proxy

if TYPE_CHECKING:
    from authproxy.files.jwks import Keys

log = logging.getLogger(__name__)

#: Keys are fetched this often, in seconds. A new one is usually published long before
#: it is used; an unknown one is asked for at once.
REFRESH_SECONDS = 300.0

#: Shortest time between two fetches because of unknown keys, in seconds:
#: made-up key ids must not become a load on the endpoint.
UNKNOWN_KEY_SECONDS = 2.0

#: Unknown key ids that are remembered.
MAX_UNKNOWN_KEYS = 1000

_CONNECT_SECONDS, _SILENCE_SECONDS = 5.0, 10.0


class KeysError(AuthProxyError):
    """The keys could not be fetched; the message says why."""


class Endpoint:
    """Fetches the key set, on a new connection each time, as that is seldom."""

    def __init__(self, url: str, *, ca_file: str | None = None, token_file: str | None = None):
        self._url = url
        self._ca_file = ca_file
        self._token_file = token_file
        self._token: str | None = None

    def __call__(self) -> Keys:
        """Return the keys. Raises KeysError, which does not quote the token."""
        budget = Budget()
        try:
            keys = parse_jwks(self._fetch(budget))
        except (RequestException, HTTPError, OSError) as error:
            why = Redactor([self._token])(f"{type(error).__name__}: {error}")
            raise KeysError(budget.exceeded or why) from error
        except UnreadableFile as error:
            raise KeysError(f"INBOUND_JWKS_CA_FILE={self._ca_file!r}: {error}") from error
        except Unusable as error:
            raise KeysError(f"INBOUND_JWKS_TOKEN_FILE={self._token_file!r}: {error}") from error
        except SettingsError as error:
            raise KeysError(str(error)) from error
        except ValueError as error:
            raise KeysError(f"the response cannot be used: {error}") from error
        redact = Redactor([self._token])
        if any(redact(key_id) != key_id for key_id in keys):  # the log has them
            raise KeysError("the ids of its keys quote the token that it was sent")
        return keys

    def _fetch(self, budget: Budget) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._token_file is not None:  # read each time: the kubelet renews it
            self._token = read_secret(self._token_file)
            headers["Authorization"] = f"Bearer {self._token}"
        with Session() as session:
            session.trust_env = False  # a .netrc would replace our token
            session.mount("https://", BoundedAdapter(budget, self._context()))
            response = session.get(
                self._url,
                headers=headers,
                proxies={"https": forward_proxy(self._url) or ""},
                allow_redirects=False,  # the token goes nowhere else
                timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS),
            )
        if response.status_code != 200:
            hint = ""
            if response.status_code in (401, 403):
                hint = ": it wants a token, in INBOUND_JWKS_TOKEN_FILE, that may read it"
            raise KeysError(f"the endpoint responded {response.status_code}{hint}")
        return response.content

    def _context(self) -> ssl.SSLContext:
        """With a CA file, trust that alone, as a cluster's authority is for the cluster alone."""
        if self._ca_file is None:
            return client_context()
        require_regular_file(self._ca_file, MAX_BUNDLE_BYTES)
        return default_context(self._ca_file)


class EndpointKeys(Refreshed):
    """The keys of an endpoint; a `jwks.KeySource`.

    The current keys are one attribute: readers take no lock. The lock guards
    everything else, and is not held during a fetch.
    """

    def __init__(
        self,
        fetch: Callable[[], Keys],
        refresher: Refresher,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(refresher)
        self._fetch = fetch
        self._clock: Clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._failures = 0
        self._due = self._clock.monotonic()
        #: When the latest fetch began, and the latest that brought keys.
        self._began: float | None = None
        self._keys_of = float("-inf")
        #: Key ids that were asked for and not there, and since when.
        self._unknown: dict[str, float] = {}
        self._wanted = False

    #: It has no thread of its own: the refresher is watched for all.
    alive = True

    def current(self) -> Keys | None:
        return self._keys

    def look_for(self, key_id: str) -> float | None:
        """Have the keys fetched because of one that is not there.

        Returns the seconds until it may be there; None, as there is no such key, only once
        a fetch that began after the key was first asked for has ended without it.
        """
        with self._lock:
            now = self._clock.monotonic()
            if len(self._unknown) >= MAX_UNKNOWN_KEYS:
                self._unknown.clear()
            since = self._unknown.setdefault(key_id, now)
            # Also where None is returned: of several API servers, the one that
            # responded last may have been an old one.
            if not self._wanted:
                self._wanted = True
                self.refresher.wake()
            if self._keys_of > since:
                return None
            return max(1.0, self._next_fetch() - now)

    # For the refresher.

    def seconds_until_due(self) -> float:
        """Return the time until the next fetch; zero when it is due."""
        with self._lock:
            return max(0.0, self._next_fetch() - self._clock.monotonic())

    def begin(self) -> Attempt[Keys] | None:
        """Begin the fetch that is due; None where none is, or one is under way."""
        with self._lock:
            now = self._clock.monotonic()
            if self.stopped or self.under_way or self._next_fetch() > now:
                return None
            self._began, self._wanted = now, False
            self._attempt = Attempt(self._fetch, self._conclude)
            return self._attempt

    def _conclude(self, outcome: Keys | AuthProxyError) -> None:
        with self._lock:
            self._attempt = None
            self._take_in(outcome)

    # Below, the lock is held.

    def _next_fetch(self) -> float:
        """Return the monotonic time of the next fetch."""
        if not self._wanted or self._began is None:
            return self._due
        return min(self._due, self._began + UNKNOWN_KEY_SECONDS)

    def _take_in(self, outcome: Keys | AuthProxyError) -> None:
        now = self._clock.monotonic()
        if isinstance(outcome, AuthProxyError):
            self._failures += 1
            self._due = now + backoff(self._failures, self._random)
            known = "none are known yet" if self._keys is None else "the old stay in use"
            log.log(
                logging.ERROR if self._keys is None else logging.WARNING,
                f"Failed to fetch the keys of inbound tokens, {known}",
                extra={"fields": {"Error": str(outcome), "NextAttempt": round(self._due - now, 1)}},
            )
            return
        before = self._keys or {}
        if self._failures or set(before) != set(outcome):
            fields = {"KeyIDs": ", ".join(sorted(outcome))}
            log.info("Keys of inbound tokens fetched", extra={"fields": fields})
        self._keys = outcome
        self._failures = 0
        self._due = now + self._random.uniform(0.8, 1.2) * REFRESH_SECONDS
        assert self._began is not None  # by `begin`
        self._keys_of = self._began
        for key_id in set(self._unknown).intersection(outcome):
            del self._unknown[key_id]
