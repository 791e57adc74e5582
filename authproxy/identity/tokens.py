"""The current token and the thread that keeps it fresh (DESIGN section 4)."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from math import ceil
from random import Random, SystemRandom

from authproxy.clock import Clock, SystemClock
from authproxy.errors import AuthenticationTokenNotFound, CredentialError
from authproxy.identity.credentials import FetchedToken
from authproxy.identity.lifetimes import BACKOFF_FIRST, Token, backoff
from authproxy.identity.renewals import Renewal, Renewals
from authproxy.identity.token_state import TokenState, Trouble
from authproxy.telemetry.events import NO_TOKEN_TELEMETRY, Refresh, TokenTelemetry

__all__ = ["Token", "TokenSource"]

log = logging.getLogger(__name__)

#: The thread looks at both clocks this often, to notice a jump or the end of a suspend.
LONGEST_SLICE = 5.0


class TokenSource:
    """The token of one audience, refreshed by a daemon thread.

    The current token is one attribute that holds an immutable object: readers
    take no lock. The lock inside `_changed` guards everything else, and is
    never held during a fetch.
    """

    def __init__(
        self,
        fetch: Callable[[str | None], FetchedToken],
        *,
        percentage: int,
        audience: str | None = None,
        telemetry: TokenTelemetry = NO_TOKEN_TELEMETRY,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._fetch = fetch
        self._percentage = percentage
        self._audience = audience
        self._telemetry = telemetry
        self._clock: Clock = clock or SystemClock()
        # SystemRandom keeps no state: forked workers must not share one jitter.
        self._random = random or SystemRandom()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._pid: int | None = None
        self._stopped = False
        self._current: Token | None = None
        self._trouble: Trouble | None = None
        self._tried_at: float | None = None
        #: Attempts in a row that brought no new token.
        self._fruitless = 0
        #: Monotonic times before which the thread does not try again, and before
        #: which nobody does because the endpoint asked for it.
        self._not_before = self._asked_until = self._clock.monotonic()
        self._renewals = Renewals()
        #: The renewal that waits for the thread.
        self._wanted: Renewal | None = None
        #: Whether an attempt runs, and how many have ended.
        self._fetching = False
        self._ended = 0

    # For requests and probes.

    def current(self) -> Token:
        """Return the valid token at once, whatever the thread is doing.

        Raises AuthenticationTokenNotFound, which says why there is none and
        when the next attempt is.
        """
        token = self._current
        if token is not None and token.seconds_valid(self._clock) > 0:
            return token
        self._hurry()
        reason = self._trouble.summary if self._trouble else "the first one is still being fetched"
        raise AuthenticationTokenNotFound(
            f"There is no valid token for the target: {reason}",
            retry_after=float(max(1, ceil(self._not_before - self._clock.monotonic()))),
        )

    def _hurry(self) -> None:
        """Have the thread fetch now if that is due: after a suspend it may not know yet."""
        with self._changed:
            if not self._fetching and self._seconds_until_due() <= 0:
                self._changed.notify_all()

    def renew(self, rejected: Token, claims: str | None, timeout: float) -> Token | None:
        """Return a newer token after the target answered 401 to `rejected`, or None.

        If the thread has replaced `rejected` meanwhile, that token is returned
        at once. Otherwise the thread is asked for one, with the `claims` of the
        target's challenge, and waited for at most `timeout` seconds. Any number
        of callers share one fetch, also one that the thread began by itself.
        None means: pass the 401 on. `rejected` stays current until there is a
        better one, for the 401 may well be the target's own fault.

        No fetch is begun, and None returned at once, before the end of a wait
        that the endpoint asked for (Retry-After), and where the rules of
        `Renewals` say so.

        It follows that renewals shorten the thread's own back-off at most once
        in 30 s (three times if the claims differ). Their failures count among
        the thread's, so that its back-off grows all the same.
        """
        with self._changed:
            newer = self._other_than(rejected)
            if newer is not None or not self.alive or not self._ask(claims):
                return newer
            ended, give_up = self._ended, self._clock.monotonic() + timeout
            while self._ended == ended and not self._stopped and self.alive:
                remaining = give_up - self._clock.monotonic()
                if remaining <= 0:
                    break
                self._clock.wait(self._changed, remaining)
            return self._other_than(rejected)

    @property
    def ready(self) -> bool:
        """Whether there is a valid token now."""
        token = self._current
        return token is not None and token.seconds_valid(self._clock) > 0

    @property
    def tried(self) -> bool:
        """Whether the first attempt has ended, well or not."""
        return self._ended > 0

    @property
    def alive(self) -> bool:
        """Whether the thread runs in this process."""
        thread = self._thread
        return thread is not None and self._pid == os.getpid() and thread.is_alive()

    def status(self) -> dict[str, str | float | None]:
        """Return what a probe may show: no token, no secret.

        `expires_at` is RFC 3339, `next_attempt_seconds` the time until the
        thread tries again by itself.
        """
        token = self._current
        return {
            "expires_at": None if token is None else _rfc3339(token.expires_at),
            "last_error": self._trouble.summary if self._trouble else None,
            "next_attempt_seconds": round(self._seconds_until_due(), 1),
        }

    def state(self) -> TokenState:
        """Return what there is to tell people: no token, no secret."""
        with self._changed:
            token = self._current
            return TokenState(
                ready=self.ready,
                acquired_at=token.acquired_at if token else None,
                expires_at=token.expires_at if token else None,
                refresh_at=token.refresh_at if token else None,
                tried_at=self._tried_at,
                trouble=self._trouble,
                next_attempt_at=self._clock.wall() + self._seconds_until_due(),
            )

    # The thread.

    def start(self) -> None:
        """Start the thread, once in each process: after a fork it starts anew.

        A thread that a bug has ended is not started again: it stays visible.
        """
        with self._changed:
            if self._stopped or self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._fetching, self._wanted = False, None
            self._thread = threading.Thread(target=self._run, name="token", daemon=True)
            self._thread.start()

    def await_first_attempt(self, timeout: float) -> None:
        """Return once the first attempt has ended, well or not, or after `timeout` seconds."""
        give_up = self._clock.monotonic() + timeout
        with self._changed:
            while not self._ended and not self._stopped:
                remaining = give_up - self._clock.monotonic()
                if remaining <= 0:
                    return
                self._clock.wait(self._changed, remaining)

    def stop(self) -> None:
        """Let the thread end, without waiting for it: it may hang in a call to Entra."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._telemetry.ended()

    def step(self) -> float:
        """Fetch if that is due. Return the seconds after which to look again."""
        with self._changed:
            wanted, self._wanted = self._wanted, None
            if self._stopped or (wanted is None and self._seconds_until_due() > 0):
                return min(LONGEST_SLICE, self._seconds_until_due())
            self._fetching = True
        with self._telemetry.refresh() as refresh:
            return self._fetch_once(wanted, refresh)

    def _fetch_once(self, wanted: Renewal | None, refresh: Refresh) -> float:
        try:
            fetched = self._fetch(wanted.claims if wanted else None)
            token = Token.acquired(fetched, self._percentage, self._clock)
            if token.seconds_valid(self._clock) <= 0:
                raise CredentialError(
                    "Entra sent a token that has already expired: check this machine's clock"
                )
        except CredentialError as error:
            outcome: Token | CredentialError = error
        else:
            outcome = token
        with self._changed:
            self._fetching, self._wanted = False, None
            if not self._stopped:
                self._conclude(outcome, because_rejected=wanted is not None)
                self._observe(refresh, outcome)
            self._ended += 1
            self._changed.notify_all()
            return min(LONGEST_SLICE, self._seconds_until_due())

    def _run(self) -> None:
        try:
            while not self._stopped:
                seconds = self.step()
                with self._changed:
                    if self._wanted is None and not self._stopped:
                        self._clock.wait(self._changed, seconds)
        except Exception:  # The last stop of a bug: log it; `alive` turns False, /health 503.
            log.critical("Token thread ended by an unexpected error", exc_info=True)
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()

    # Below, the lock is held.

    def _conclude(self, outcome: Token | CredentialError, *, because_rejected: bool) -> None:
        """Take in the outcome of an attempt: the one place where it is known."""
        now, self._tried_at = self._clock.monotonic(), self._clock.wall()
        if isinstance(outcome, CredentialError):
            self._fruitless += 1
            self._trouble = Trouble.of(outcome)
            self._not_before = now + backoff(self._fruitless, self._random, outcome.retry_after)
            if outcome.retry_after is not None:
                self._asked_until = self._not_before
            level = logging.WARNING if self.ready else logging.ERROR
            self._report(level, "Failed to refresh token", Error=str(outcome))
            return
        self._trouble = None
        self._not_before = now + BACKOFF_FIRST
        current = self._current
        left = 0.0 if current is None else current.seconds_valid(self._clock)
        if current is None or left <= 0 or outcome.replaces(current, because_rejected):
            self._current = outcome
            self._fruitless = 0
            self._report(logging.INFO, "Token refreshed")
            return
        if not because_rejected:
            # Managed identity endpoints cache: nothing new until they feel like it. Asking
            # again after a twentieth of what is left is often enough, and not a thousand times.
            self._fruitless += 1
            wait = min(left, max(backoff(self._fruitless, self._random), left / 20))
            self._current = replace(
                current, refresh_at=self._clock.wall() + wait, refresh_by=now + wait
            )
        self._report(logging.INFO, "Token not refreshed: no newer one was given")

    def _observe(self, refresh: Refresh, outcome: Token | CredentialError) -> None:
        next_refresh = self._clock.wall() + self._seconds_until_due()
        if isinstance(outcome, CredentialError):
            refresh.failed(str(outcome), next_refresh)
        else:
            refresh.succeeded((self._current or outcome).expires_at, next_refresh)

    def _ask(self, claims: str | None) -> bool:
        """Have the thread fetch, by the rules of `renew`. Return whether to wait for it."""
        now = self._clock.monotonic()
        if self._stopped or self._fetching or self._wanted is not None:
            return not self._stopped
        if now >= self._asked_until:
            self._wanted = self._renewals.begin(claims, now)
        if self._wanted is None:
            return False
        self._changed.notify_all()
        return True

    def _other_than(self, rejected: Token) -> Token | None:
        token = self._current
        if token is None or token.value == rejected.value:
            return None
        return token if token.seconds_valid(self._clock) > 0 else None

    def _seconds_until_due(self) -> float:
        """Return the time until the thread tries by itself; zero when it is due."""
        token = self._current
        pause = self._not_before - self._clock.monotonic()
        return max(0.0, pause, token.seconds_fresh(self._clock) if token else 0.0)

    def _report(self, level: int, message: str, **first: str) -> None:
        token, due = self._current, self._seconds_until_due()
        fields: dict[str, str | float | None] = {**first, "Audience": self._audience}
        if token is not None:
            fields["ExpiresOn"] = _rfc3339(token.expires_at)
        if first:
            fields["NextAttempt"] = round(due, 1)
        else:
            fields["NextRefresh"] = _rfc3339(self._clock.wall() + due)
        log.log(level, message, extra={"fields": fields})


def _rfc3339(wall: float) -> str:
    return datetime.fromtimestamp(wall, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
