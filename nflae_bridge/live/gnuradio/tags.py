"""Encode and decode the header that gr-zeromq's stream blocks put before the samples where *Pass Tags* is on.

    u16 0x5FF0 | u8 1 | u64 offset | u64 count | count x ( u64 offset, key, value, srcid: three serialised PMTs )

Little-endian, without gaps (the PMTs inside are big-endian). Offsets count items (vectors) from the start of the
sender's stream: the header has that of the message's first item, a tag that of its own item.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.pmt import Buffer, Dialect, Pmt, PmtError, decode_at, encode

_HEADER = struct.Struct("<HBQQ")
_OFFSET = struct.Struct("<Q")
_MAGIC, _VERSION = 0x5FF0, 1
# An offset, and three PMTs of at least one byte.
_SMALLEST_TAG = _OFFSET.size + 3


class TagError(NflaeError):
    """Report a message without a tag header, or with a damaged one."""


@dataclass(frozen=True)
class Tag:
    """Hold a stream tag.

    Parameters
    ----------
    offset : int
        Number of its item.
    key, value, srcid : Pmt
        PMTs; the srcid False is GNU Radio's "no source".
    """

    offset: int
    key: Pmt
    value: Pmt
    srcid: Pmt = False


def encode_header(offset: int, tags: Sequence[Tag], dialect: Dialect = "3.10") -> bytes:
    """Encode the header of a message.

    Parameters
    ----------
    offset : int
        Number of the message's first item.
    tags : sequence of Tag
        Tags of its items.
    dialect : {"3.10", "3.9", "3.8"}
        Form of the PMTs, see `nflae_bridge.live.gnuradio.pmt`.

    Returns
    -------
    bytes
        Header.
    """
    parts = [_HEADER.pack(_MAGIC, _VERSION, offset, len(tags))]
    for tag in tags:
        parts.append(_OFFSET.pack(tag.offset))
        parts += [encode(value, dialect) for value in (tag.key, tag.value, tag.srcid)]
    return b"".join(parts)


def decode_header(message: Buffer, dialect: Dialect = "3.10") -> tuple[int, list[Tag], int]:
    """Decode the header of a message.

    Parameters
    ----------
    message : bytes-like
        Message.
    dialect : {"3.10", "3.9", "3.8"}
        Form of the PMTs.

    Returns
    -------
    offset : int
        Number of the message's first item.
    tags : list of Tag
        Tags of its items.
    start : int
        First byte of its samples.

    Raises
    ------
    TagError
        If the header is missing or damaged.
    """
    if not has_header(message):
        raise TagError("it does not begin with a tag header")
    _, _, offset, count = _HEADER.unpack_from(message)
    position = _HEADER.size
    if count * _SMALLEST_TAG > len(message) - position:
        raise TagError(f"its header announces {count} tags, more than {len(message)} bytes can hold")
    tags = []
    for _ in range(count):
        if len(message) - position < _OFFSET.size:
            raise TagError("its tags are cut short")
        (tag_offset,) = _OFFSET.unpack_from(message, position)
        position += _OFFSET.size
        pmts = []
        for _ in range(3):
            try:
                value, position = decode_at(message, position, dialect)
            except PmtError as error:
                raise TagError(f"its tags are damaged: {error}") from None
            pmts.append(value)
        tags.append(Tag(tag_offset, *pmts))
    return offset, tags, position


def has_header(message: Buffer) -> bool:
    """Return whether a message begins with a tag header.

    Parameters
    ----------
    message : bytes-like
        Message.

    Returns
    -------
    bool
        True for a message that is long enough and has the header's magic number and version.
    """
    return len(message) >= _HEADER.size and _HEADER.unpack_from(message)[:2] == (_MAGIC, _VERSION)
