"""How many times as long something takes for four times the input, whatever else the machine does.

What is measured is processor time of this thread, the least of several tries on both sizes: a busy
machine only ever adds to it. The sizes are that far apart so that what is linear, and takes four
times as long, is not taken for what is quadratic, and takes sixteen times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

#: Bytes of input; the larger size is a quarter of what a head may have (MAX_REQUEST_HEADER_BYTES).
SIZES = (4_096, 16_384)

#: The larger may take this many times as long: two and a half times for each doubling.
MOST = 2.5**2

#: What takes less than so many seconds for the larger one can be left as it is.
WORTH_IT = 0.0005

#: Each size is tried so many times before it is found to take too long.
TRIES = 200

Input = TypeVar("Input")


def growth(
    read: Callable[[Input], object], of_size: Callable[[int], Input], tries: int = TRIES
) -> float:
    """Return how many times as long `read` takes for the larger size, or 0 if next to nothing."""
    small, large = map(of_size, SIZES)
    least_of_small = least_of_large = float("inf")
    for _ in range(tries):
        least_of_large = min(least_of_large, _seconds(read, large))
        if least_of_large < WORTH_IT:
            return 0.0
        least_of_small = min(least_of_small, _seconds(read, small))
        if least_of_large <= MOST * least_of_small:
            break
    return least_of_large / least_of_small


def _seconds(read: Callable[[Input], object], given: Input) -> float:
    began = time.thread_time()
    read(given)
    return time.thread_time() - began
