"""The current token of one identity, and when another one is to be fetched."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from random import Random, SystemRandom

from authproxy.clock import Clock, SystemClock
from authproxy.errors import AuthenticationTokenNotFound, AuthProxyError, CredentialError
from authproxy.files.expiry import Expiry
from authproxy.identity.lifetimes import BACKOFF_FIRST, FetchedToken, Token, backoff
from authproxy.identity.refresher import Attempt, Refreshed, Refresher
from authproxy.identity.renewals import Renewal, Renewals
from authproxy.identity.token_state import LastError, TokenState
from authproxy.telemetry.events import NO_TOKEN_TELEMETRY, Refresh, TokenTelemetry

log = logging.getLogger(__name__)


class TokenSource(Refreshed):
    """The token of one identity for one audience, kept fresh by a refresher.

    The current token is one attribute that holds an immutable object: readers
    take no lock. The lock inside `_changed` guards everything else, and is
    never held during a fetch.
    """

    def __init__(
        self,
        fetch: Callable[[str | None], FetchedToken],
        refresher: Refresher,
        *,
        percentage: int,
        audience: str | None = None,
        certificate_expiry: Callable[[], Expiry | None] = lambda: None,
        telemetry: TokenTelemetry = NO_TOKEN_TELEMETRY,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(refresher)
        self._fetch = fetch
        self._percentage = percentage
        self._audience = audience
        self._certificate_expiry = certificate_expiry
        self._telemetry = telemetry
        self._clock: Clock = clock or SystemClock()
        # SystemRandom keeps no state: forked workers must not share one jitter.
        self._random = random or SystemRandom()
        self._changed = threading.Condition()
        self._current: Token | None = None
        self._last_error: LastError | None = None
        self._tried_at: float | None = None
        #: Attempts in a row without a new token.
        self._unsuccessful = 0
        #: Monotonic times before which no attempt is due, and before which the
        #: endpoint allows none (Retry-After).
        self._not_before = self._asked_until = self._clock.monotonic()
        self._renewals = Renewals()
        #: The renewal that waits for an attempt.
        self._wanted: Renewal | None = None
        #: How many attempts have ended.
        self._ended = 0

    # For requests and probes.

    def current(self) -> Token:
        """Return the valid token at once, whatever is under way.

        Raises AuthenticationTokenNotFound, which says why there is none and
        when the next attempt is.
        """
        token = self._current
        if token is not None and token.seconds_valid(self._clock) > 0:
            return token
        with self._changed:
            due = not self.under_way and self._seconds_until_due() <= 0
        if due:
            self.refresher.wake()  # after a suspend it may not have noticed
        error = self._last_error
        reason = error.summary if error else "the first one is still being fetched"
        raise AuthenticationTokenNotFound(
            f"There is no valid token for the target: {reason}",
            retry_after=float(max(1, ceil(self._not_before - self._clock.monotonic()))),
        )

    def renew(self, rejected: Token, claims: str | None, timeout: float) -> Token | None:
        """Return a newer token after the target's 401 to `rejected`, or None.

        If `rejected` has been replaced meanwhile, that token is returned at
        once. Otherwise one is fetched, with the `claims` of the target's
        challenge, and waited for at most `timeout` seconds. Any number of
        callers share one fetch, also one that was due anyway. None means:
        pass the 401 on. `rejected` stays current until there is a better one,
        as the 401 may be the target's own fault.

        No fetch is begun, and None returned at once, before the end of a wait
        that the endpoint asked for (Retry-After), and where the rules of
        `Renewals` say so.

        So they shorten the back-off at most once in 30 s, three times if the claims differ; and
        as their failures count among the others, it grows all the same.
        """
        with self._changed:
            newer = self._other_than(rejected)
            if newer is not None or not self.refresher.alive or not self._request_renewal(claims):
                return newer
            ended, give_up = self._ended, self._clock.monotonic() + timeout
            while self._ended == ended and not self.stopped:
                if (remaining := give_up - self._clock.monotonic()) <= 0:
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

    def status(self) -> dict[str, str | float | None]:
        """Return what a probe may show, without token or secret (`TokenState.brief`)."""
        return self._state().brief(self._clock.wall())

    def state(self) -> TokenState:
        """Return the state for people, without token or secret."""
        with self._changed:
            return self._state()

    # For the configurations that use it.

    def stop(self) -> None:
        super().stop()
        with self._changed:
            self._changed.notify_all()
        self._telemetry.ended()

    def in_force(self) -> None:
        """Report it in metrics from now on: requests are sent with its tokens."""
        self._telemetry.in_force()

    # For the refresher.

    def seconds_until_due(self) -> float:
        """Return the time until the next attempt; zero when it is due."""
        with self._changed:
            if self._wanted is not None and not self.stopped:
                return 0.0
            return self._seconds_until_due()

    def begin(self) -> Attempt[FetchedToken] | None:
        """Begin the attempt that is due; None where none is, or one is under way."""
        with self._changed:
            if self.stopped or self.under_way:
                return None
            wanted, self._wanted = self._wanted, None
            if wanted is None and self._seconds_until_due() > 0:
                return None
            self._attempt = _TokenAttempt(self, wanted)
            return self._attempt

    def conclude(
        self, outcome: FetchedToken | AuthProxyError, refresh: Refresh, *, because_rejected: bool
    ) -> None:
        """Apply the outcome of an attempt."""
        with self._changed:
            self._attempt = self._wanted = None
            if not self.stopped:
                checked = self._checked(outcome)
                self._apply(checked, because_rejected=because_rejected)
                next_refresh = self._clock.wall() + self._seconds_until_due()
                if isinstance(checked, AuthProxyError):
                    refresh.failed(str(checked), next_refresh)
                else:
                    refresh.succeeded((self._current or checked).expires_at, next_refresh)
            self._ended += 1
            self._changed.notify_all()

    # Below, the lock is held.

    def _checked(self, outcome: FetchedToken | AuthProxyError) -> Token | AuthProxyError:
        if isinstance(outcome, AuthProxyError):
            return outcome
        token = Token.acquired(outcome, self._percentage, self._clock)
        if token.seconds_valid(self._clock) > 0:
            return token
        why = "Entra sent a token that has already expired: check this machine's clock"
        return CredentialError(why)

    def _apply(self, outcome: Token | AuthProxyError, *, because_rejected: bool) -> None:
        """Apply the outcome of an attempt to the state, and log it."""
        now, self._tried_at = self._clock.monotonic(), self._clock.wall()
        if isinstance(outcome, AuthProxyError):
            retry_after = outcome.retry_after if isinstance(outcome, CredentialError) else None
            self._unsuccessful += 1
            self._last_error = LastError.of(outcome)
            self._not_before = now + backoff(self._unsuccessful, self._random, retry_after)
            if retry_after is not None:
                self._asked_until = self._not_before
            level = logging.WARNING if self.ready else logging.ERROR
            self._report(level, "Failed to refresh token", outcome)
            return
        self._last_error = None
        self._not_before = now + BACKOFF_FIRST
        current = self._current
        left = 0.0 if current is None else current.seconds_valid(self._clock)
        if current is None or left <= 0 or outcome.replaces(current, because_rejected):
            self._current = outcome
            self._unsuccessful = 0
            self._report(logging.INFO, "Token refreshed")
            if outcome.mismatch and (current is None or current.mismatch != outcome.mismatch):
                self._report(logging.WARNING, "Token of another identity")
            return
        if not because_rejected:
            # Managed identity endpoints cache tokens, some until shortly before expiry: the next
            # attempt is after a twentieth of what is left, so that their number stays small.
            self._unsuccessful += 1
            wait = min(left, max(backoff(self._unsuccessful, self._random), left / 20))
            self._current = replace(
                current, refresh_at=self._clock.wall() + wait, refresh_by=now + wait
            )
        self._report(logging.INFO, "Token not refreshed: no newer one was given")

    def _request_renewal(self, claims: str | None) -> bool:
        """Request a fetch, by the rules of `renew`. Return whether to wait for it."""
        now = self._clock.monotonic()
        if self.stopped or self.under_way or self._wanted is not None:
            return not self.stopped
        if now >= self._asked_until:
            self._wanted = self._renewals.begin(claims, now)
        if self._wanted is None:
            return False
        self.refresher.wake()
        return True

    def _other_than(self, rejected: Token) -> Token | None:
        token = self._current
        if token is None or token.value == rejected.value:
            return None
        return token if token.seconds_valid(self._clock) > 0 else None

    def _seconds_until_due(self) -> float:
        """Return the time until the next attempt that no rejection asked for."""
        token = self._current
        pause = self._not_before - self._clock.monotonic()
        return max(0.0, pause, token.seconds_fresh(self._clock) if token else 0.0)

    def _state(self) -> TokenState:
        return TokenState(
            ready=self.ready,
            token=self._current,
            tried_at=self._tried_at,
            last_error=self._last_error,
            next_attempt_at=self._clock.wall() + self._seconds_until_due(),
            certificate_expiry=self._certificate_expiry(),
        )

    def _report(self, level: int, message: str, error: AuthProxyError | None = None) -> None:
        fields = self._state().fields(self._audience, error, self._clock.wall())
        log.log(level, message, extra={"fields": fields})


class _TokenAttempt(Attempt[FetchedToken]):
    """An attempt to get a token; in its thread, it is traced."""

    def __init__(self, source: TokenSource, wanted: Renewal | None) -> None:
        claims = wanted.claims if wanted else None
        rejected = wanted is not None
        super().__init__(
            lambda: source._fetch(claims),
            lambda outcome: source.conclude(outcome, self._refresh, because_rejected=rejected),
        )
        self._telemetry = source._telemetry
        self._refresh = Refresh()

    def run(self) -> None:
        with self._telemetry.refresh() as self._refresh:
            super().run()
