"""Refuse HDF5 files whose heaps would keep the HDF5 library in an endless loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from matlab_io.errors import MatFileError

__all__ = ["check_heaps", "find_superblock"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_GLOBAL = b"GCOL\x01"
_LOCAL = b"HEAP\0\0\0\0"
_PREFIX = 8  # bytes before the first length, of a heap and of an object in it
_LAST_FREE = 1  # offset that ends the list of a local heap's free blocks
_WINDOW = 32 << 20
_MAX_OBJECTS = 500_000
_SMALLEST_USER_BLOCK = 512


class _Sizes(NamedTuple):
    """Place of the superblock, from which addresses count, and the bytes of an address and of a length."""

    superblock: int
    addresses: int
    lengths: int


def check_heaps(path: Path) -> None:
    """Walk the objects of every global heap and the free blocks of every local heap, as the library does.

    The heaps with their heads in the first and the last 32 MiB of a file are checked. In a global heap the library
    advances by the size that an object states: after a size of zero, or one that overflows, it stays where it is. In a
    local heap it follows the list of free blocks, also in a circle. No signal ends either loop (seen in HDF5 2.0.0).

    Parameters
    ----------
    path : pathlib.Path
        File.

    Raises
    ------
    MatFileError
        If the walk over a heap would not end, or takes over 500,000 objects.

    References
    ----------
    HDF5 File Format Specification 3.0, sections III.D, "Disk Format: Level 1D - Local Heaps", and III.E, "Disk Format:
    Level 1E - Global Heap".
    """
    status = path.stat()
    if fault := _fault(str(path), status.st_ino, status.st_size, status.st_mtime_ns):
        raise MatFileError(f"{path}: {fault}; save or copy the file again")


@lru_cache(maxsize=64)
def _fault(path: str, inode: int, size: int, changed_ns: int) -> str:
    """Describe the fault of a file's heaps; "" without one."""
    with open(path, "rb") as file:
        windows = [file.read(_WINDOW)]
        if size > _WINDOW:
            file.seek(max(_WINDOW - len(_LOCAL), size - _WINDOW))
            windows.append(file.read())
        superblock = find_superblock(file)
        if superblock is None:
            return "damaged or cut short in its header"
        sizes, objects = _sizes(file, superblock), 0
        for content in windows:
            for step in _steps(file, content, sizes):
                objects += 1
                if not step:
                    return "damaged in a heap of HDF5"
                if objects > _MAX_OBJECTS:
                    return f"holds more than {_MAX_OBJECTS} objects in heaps of HDF5"
    return ""


def _steps(file: BinaryIO, content: bytes, sizes: _Sizes) -> Iterator[bool]:
    """Yield, for each object of the heaps in a part of a file, whether the library would pass it but once."""
    for place in _places(content, _GLOBAL):
        yield from _global_objects(content, place, sizes)
    for place in _places(content, _LOCAL):
        yield from _free_blocks(file, content[place : place + _PREFIX + 2 * sizes.lengths + sizes.addresses], sizes)


def _places(content: bytes, signature: bytes) -> Iterator[int]:
    at = content.find(signature)
    while at >= 0:
        yield at
        at = content.find(signature, at + len(signature))


def _global_objects(content: bytes, heap: int, sizes: _Sizes) -> Iterator[bool]:
    """Yield whether the walk over a global heap goes on, object by object."""
    head = _aligned(_PREFIX + sizes.lengths)
    end = min(heap + _number(content, heap + _PREFIX, sizes.lengths), len(content))
    place = heap + head
    while place + head <= end:
        length = _number(content, place + _PREFIX, sizes.lengths)
        is_object = any(content[place : place + 2])  # the free space has the index 0
        step = (head + _aligned(length) if is_object else length) % 2**64
        yield 0 < step < 2**63
        place += step


def _free_blocks(file: BinaryIO, head: bytes, sizes: _Sizes) -> Iterator[bool]:
    """Yield whether the list of free blocks of a local heap goes on to a new one, block by block."""
    length = sizes.lengths
    size, offset = _number(head, _PREFIX, length), _number(head, _PREFIX + length, length)
    data = sizes.superblock + _number(head, _PREFIX + 2 * length, sizes.addresses)
    passed: set[int] = set()
    while offset != _LAST_FREE and offset < size and data < 2**63 - offset:
        yield offset not in passed
        passed.add(offset)
        file.seek(data + offset)
        block = file.read(length)
        if len(block) < length:
            return  # the library refuses a list that leaves the file
        offset = _number(block, 0, length)


def find_superblock(file: BinaryIO) -> int | None:
    """Return where an HDF5 file begins: at byte 0, or after a user block of 512 (MATLAB's), 1024, 2048, ... bytes.

    Parameters
    ----------
    file : binary file
        Open file, whose position is lost.

    Returns
    -------
    int or None
        Place of the superblock; None for other files.
    """
    size, place = file.seek(0, os.SEEK_END), 0
    while place < size:
        file.seek(place)
        if file.read(len(_SIGNATURE)) == _SIGNATURE:
            return place
        place = 2 * place or _SMALLEST_USER_BLOCK
    return None


def _sizes(file: BinaryIO, superblock: int) -> _Sizes:
    """Return the sizes that the superblock states."""
    file.seek(superblock)
    start = file.read(16)
    addresses = 13 if start[8] < 2 else 9
    return _Sizes(superblock, start[addresses], start[addresses + 1])


def _number(content: bytes, place: int, count: int) -> int:
    return int.from_bytes(content[place : place + count], "little")


def _aligned(count: int) -> int:
    return (count + 7) // 8 * 8
