"""The header that gr-zeromq's stream blocks put before the samples where *Pass Tags* is on.

    u16 0x5FF0 | u8 1 | u64 offset | u64 count | count x ( u64 offset, key, value, srcid: three serialised PMTs )

Little-endian, without gaps (the PMTs inside are big-endian). Offsets count items (vectors): the header's is that of the
message's first, a tag's that of the item it belongs to, both counted from the start of the sender's stream.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.pmt import Buffer, Pmt, PmtError, decode_at, encode

_HEADER = struct.Struct("<HBQQ")
_OFFSET = struct.Struct("<Q")
_MAGIC, _VERSION = 0x5FF0, 1
# An offset, and three PMTs of a byte at least.
_SMALLEST_TAG = _OFFSET.size + 3


class TagError(NflaeError):
    """A message that does not begin with a tag header, or with a damaged one."""


@dataclass(frozen=True)
class Tag:
    """A stream tag. offset: the item it belongs to. key, value, srcid: PMTs (False is GNU Radio's "no source")."""

    offset: int
    key: Pmt
    value: Pmt
    srcid: Pmt = False


def encode_header(offset: int, tags: Sequence[Tag]) -> bytes:
    """The header of a message whose first item is number ``offset``."""
    parts = [_HEADER.pack(_MAGIC, _VERSION, offset, len(tags))]
    for tag in tags:
        parts += _OFFSET.pack(tag.offset), encode(tag.key), encode(tag.value), encode(tag.srcid)
    return b"".join(parts)


def decode_header(message: Buffer) -> tuple[int, list[Tag], int]:
    """The offset of a message's first item, its tags, and the byte at which its samples begin. Raises TagError."""
    if not has_header(message):
        raise TagError("it does not begin with a tag header")
    _, _, offset, count = _HEADER.unpack_from(message)
    at = _HEADER.size
    if count * _SMALLEST_TAG > len(message) - at:
        raise TagError(f"its header announces {count} tags, more than {len(message)} bytes can hold")
    tags = []
    for _ in range(count):
        if len(message) - at < _OFFSET.size:
            raise TagError("its tags are cut short")
        (place,) = _OFFSET.unpack_from(message, at)
        at += _OFFSET.size
        pmts = []
        for _ in range(3):
            try:
                value, at = decode_at(message, at)
            except PmtError as error:
                raise TagError(f"its tags are damaged: {error}") from None
            pmts.append(value)
        tags.append(Tag(place, *pmts))
    return offset, tags, at


def has_header(message: Buffer) -> bool:
    """Whether a message begins as a tag header does."""
    return len(message) >= _HEADER.size and _HEADER.unpack_from(message)[:2] == (_MAGIC, _VERSION)
