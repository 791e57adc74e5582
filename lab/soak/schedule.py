"""Pure rules: which faults come, in which order and for how long, from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

#: Faults of the target that its front plays on each request while they last.
RESPONSES = (
    "reset before the response",
    "response lost after storing",
    "response cut short",
    "target stalled",
    "target slow",
    "429 of the target",
    "503 of the target",
    "401 of the target",
    "403 of the target",
)
#: Faults of where the target listens.
PLACES = ("target refused", "target restarted", "address changed")
IDENTITY = (
    "identity refused",
    "identity silent",
    "identity 500",
    "identity 429",
    "identity talks nonsense",
)
RELOAD = "SIGHUP"
#: What ends processes, and so has no place in the stretch where their memory is measured.
ENDINGS = ("SIGKILL of a worker", "SIGTERM and start")

#: The stretch, as shares of the whole, in which no process is ended by a fault...
UNENDED = (0.25, 0.92)
#: ... and the one in which memory and descriptors are measured: what lives has by then met
#: each kind of fault, and has grown by as much as the first meeting takes.
MEASURED = (0.4, 0.92)


@dataclass(frozen=True)
class Fault:
    """One fault; times in seconds. `quiet` is how long nothing follows once it has healed."""

    kind: str
    lasts: float
    quiet: float
    #: How many of the requests it strikes, from 0 to 1.
    share: float


def lasts(kind: str, random: Random) -> float:
    """Return for how long a fault of this kind stays."""
    if kind in IDENTITY:
        return random.uniform(10, 45)  # Tokens of 60 s: some outages outlast them.
    if kind == RELOAD or kind in ENDINGS:
        return 0.0
    return random.uniform(1, 5)


class Schedule:
    """The faults of one run: each kind once, shuffled, then each once again.

    Of the identity's ways to fail, two come in each round.
    """

    def __init__(self, seed: int, *, without: tuple[str, ...] = ()) -> None:
        self._random = Random(seed)
        self._without = without

    def rounds(self) -> Iterator[Fault]:
        """Yield faults without end."""
        identity: list[str] = []
        while True:
            while len(identity) < 2:
                identity += self._random.sample(IDENTITY, len(IDENTITY))
            kinds = [*RESPONSES, *PLACES, RELOAD, *ENDINGS, identity.pop(0), identity.pop(0)]
            self._random.shuffle(kinds)
            for kind in kinds:
                fault = Fault(
                    kind,
                    lasts(kind, self._random),
                    quiet=self._random.uniform(1, 4),
                    share=self._random.choice((0.3, 0.7, 1.0)),
                )
                if kind not in self._without:
                    yield fault


def is_within(stretch: tuple[float, float], elapsed: float, seconds: float) -> bool:
    """Whether a time is in a stretch of a run of `seconds`."""
    begin, end = stretch
    return begin * seconds <= elapsed < end * seconds
