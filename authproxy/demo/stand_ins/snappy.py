"""Snappy's block format, which remote write demands: literals out, everything in.

https://github.com/google/snappy/blob/main/format_description.txt: the length of
the content, then elements, each a literal or a copy of what has come before.
"""

from __future__ import annotations


class NotSnappy(ValueError):
    """The block breaks the format; the message says how."""


def compress(content: bytes) -> bytes:
    """Return a block with `content` as it is: right for who reads it, and no shorter."""
    block = bytearray(_varint(len(content)))
    for start in range(0, len(content), 65536):
        literal = content[start : start + 65536]
        if len(literal) <= 60:
            block.append(len(literal) - 1 << 2)
        else:
            # 61: the length less one follows, in two bytes.
            block += bytes([61 << 2]) + (len(literal) - 1).to_bytes(2, "little")
        block += literal
    return bytes(block)


def decompress(block: bytes, most: int) -> bytes:
    """Return the content of `block`. Raises NotSnappy, also for more than `most` bytes."""
    length, at = _length(block)
    if length > most:
        raise NotSnappy("the decoded body would be too large")
    content = bytearray()

    def take(count: int) -> bytes:
        nonlocal at
        taken = block[at : at + count]
        if len(taken) < count:
            raise NotSnappy("cut short")
        at += count
        return taken

    while at < len(block):
        (tag,) = take(1)
        kind, size = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if size > 60:
                size = int.from_bytes(take(size - 60), "little") + 1
            content += take(size)
        else:
            if kind == 1:
                size, far = (tag >> 2 & 7) + 4, tag >> 5
                back = far << 8 | take(1)[0]
            else:
                back = int.from_bytes(take(2 if kind == 2 else 4), "little")
            if not 0 < back <= len(content):
                raise NotSnappy("a copy of what has not come")
            # A copy may reach into itself: what it repeats is the last `back` bytes.
            start = len(content) - back
            repeated = content[start : start + size]
            content += (repeated * (size // back + 1))[:size]
        if len(content) > length:
            raise NotSnappy("longer than it says")
    if len(content) < length:
        raise NotSnappy("cut short")
    return bytes(content)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def _length(block: bytes) -> tuple[int, int]:
    """Return the length that a block begins with, of 32 bits at most, and where that ends."""
    length = 0
    for at, byte in enumerate(block[:5]):
        length |= (byte & 127) << 7 * at
        if byte < 128:
            if length < 2**32:
                return length, at + 1
            break
    raise NotSnappy("no length at its beginning")
