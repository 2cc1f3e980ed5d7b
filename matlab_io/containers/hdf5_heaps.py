"""Refuse HDF5 files whose global heaps would keep the HDF5 library in an endless loop."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from matlab_io.errors import MatFileError

__all__ = ["HDF5_SIGNATURE", "check_heaps"]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01"
_PREFIX = 8  # bytes before the length, of a heap and of an object in it
_WINDOW = 32 << 20
_MAX_OBJECTS = 500_000


def check_heaps(path: Path) -> None:
    """Walk the objects of every global heap in the first and the last 32 MiB of a file.

    The library advances by the size that an object states (seen in HDF5 2.0.0): after a size of zero, or one that
    overflows, it stays where it is, and no signal ends the loop.

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
    HDF5 File Format Specification 3.0, section III.E, "Disk Format: Level 1E - Global Heap".
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
            file.seek(max(_WINDOW - len(_HEAP), size - _WINDOW))
            windows.append(file.read())
    lengths, objects = _length_bytes(windows[0]), 0
    head = _aligned(_PREFIX + lengths)
    for content in windows:
        at = content.find(_HEAP)
        while at >= 0:
            end = min(at + _length(content, at, lengths), len(content))
            place = at + head
            while place + head <= end:
                length = _length(content, place, lengths)
                is_object = any(content[place : place + 2])  # the free space has the index 0
                step = (head + _aligned(length) if is_object else length) % 2**64
                if step == 0 or step >= 2**63:
                    return "damaged in a global heap"
                place, objects = place + step, objects + 1
                if objects > _MAX_OBJECTS:
                    return f"holds more than {_MAX_OBJECTS} objects in global heaps"
            at = content.find(_HEAP, at + len(_HEAP))
    return ""


def _length_bytes(start: bytes) -> int:
    """Return the size of lengths, which the superblock states."""
    superblock = start.find(HDF5_SIGNATURE)
    version, old, new = (start[superblock + offset] for offset in (8, 14, 10))
    return old if version < 2 else new


def _length(content: bytes, place: int, count: int) -> int:
    return int.from_bytes(content[place + _PREFIX : place + _PREFIX + count], "little")


def _aligned(count: int) -> int:
    return (count + 7) // 8 * 8
