"""Numbers as Grafana shows them: with units, and at steps that read well."""

from __future__ import annotations

import math

_TIMES = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BINARY = tuple((1024.0**power, f"{prefix}iB") for power, prefix in ((3, "G"), (2, "M"), (1, "K")))
_DECIMAL = ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"))

#: Divisors and suffixes by Grafana's name of the unit, the largest first.
_SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": _TIMES,
    "ms": tuple((size * 1000, suffix) for size, suffix in _TIMES),
    "bytes": (*_BINARY, (1.0, "B")),
    "Bps": (*_DECIMAL, (1.0, "B/s")),
    "percentunit": ((0.01, "%"),),
    "reqps": ((1.0, "req/s"),),
    "none": ((1.0, ""),),
    "short": ((1.0, ""),),
}


def scale(unit: str, largest: float) -> tuple[float, str]:
    """Return by what to divide, and what to write behind, values up to `largest`."""
    scales = _SCALES[unit]
    return next((each for each in scales if abs(largest) >= each[0]), scales[-1])


def shown(value: float, unit: str) -> str:
    """Return a value by itself, to three digits."""
    divisor, suffix = scale(unit, value)
    scaled = value / divisor
    digits = max(0, 2 - math.floor(math.log10(abs(scaled)))) if scaled else 0
    number = f"{scaled:.{min(digits, 2)}f}"
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {suffix}".strip()


def ticks(low: float, high: float, unit: str, count: int = 4) -> list[tuple[float, str]]:
    """Return about `count` round values from `low` to beyond `high`, with their texts."""
    divisor, suffix = scale(unit, high)
    rough = max(high - low, 1e-9) / divisor / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step)))
    first, last = math.floor(low / divisor / step), math.ceil(high / divisor / step)
    return [
        (number * step * divisor, f"{number * step:.{digits}f} {suffix}".strip())
        for number in range(first, last + 1)
    ]
