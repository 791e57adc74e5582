"""Kubernetes' quantities, and what the proxy may take of memory and disk."""

from __future__ import annotations

from authproxy.settings import Settings

MEBIBYTE = 1024 * 1024
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1024, "Mi": MEBIBYTE, "Gi": 1024**3}

#: What the kubelet keeps of a container's log: five files of 10Mi by default, and room.
LOG_BYTES = 128 * MEBIBYTE


def in_bytes(quantity: str) -> int:
    """Return the number of bytes that a quantity such as 1152Mi is."""
    digits = quantity.rstrip("kMGi")
    return int(float(digits) * _UNITS[quantity.removeprefix(digits)])


def memory_bytes(workers: int) -> int:
    """Return the memory that so many workers need: while they idle, and for bodies in memory."""
    return (50 + 45 * workers) * MEBIBYTE


def buffered_bytes() -> int:
    """Return what bodies and waiting responses may take in each worker (MAX_BUFFERED_BYTES)."""
    return Settings().max_buffered_bytes
