"""Make and check segments: memory files of a fixed size, which a client makes and both sides map.

The size is sealed, so that no access can end beyond the file: a mapping of a file that shrinks ends the process with
SIGBUS. Linux only.

References
----------
memfd_create(2), fcntl(2) "File Sealing".
"""

from __future__ import annotations

import mmap
import os
import sys

from nflae_bridge.live.errors import WireError

if sys.platform == "linux":
    import fcntl

IS_SUPPORTED = sys.platform == "linux" and hasattr(os, "memfd_create") and sys.byteorder == "little"
"""The system has memory files that can be sealed, and numbers as on the wire."""

ALIGNMENT = 64
"""Every array in a segment begins at a multiple of this number of bytes."""


def aligned(size: int) -> int:
    """Round a size up to a multiple of `ALIGNMENT`.

    Parameters
    ----------
    size : int
        Size, bytes.

    Returns
    -------
    int
        Size, bytes.
    """
    return -(-size // ALIGNMENT) * ALIGNMENT


def make_segment(size: int) -> tuple[int, mmap.mmap]:
    """Make a segment with a sealed size.

    Parameters
    ----------
    size : int
        Size, bytes.

    Returns
    -------
    descriptor : int
        File descriptor, to be closed by the caller.
    memory : mmap.mmap
        Mapping of the whole segment.

    Raises
    ------
    OSError
        If there is no memory or no free file descriptor.
    """
    descriptor = os.memfd_create("nflae", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor, mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise


def map_segment(descriptor: int, largest: int) -> mmap.mmap:
    """Map a segment that another process has made, after a check of its kind, owner, seals and size.

    Parameters
    ----------
    descriptor : int
        File descriptor; it remains open.
    largest : int
        Largest size, bytes.

    Returns
    -------
    mmap.mmap
        Mapping of the whole segment.

    Raises
    ------
    WireError
        ``bad_request``, for any other file, and for a segment of another account.
    """
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise WireError("bad_request", f"the segment belongs to account {status.st_uid}, not to the server's")
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        raise WireError("bad_request", "the segment is not a memory file: make it with memfd_create") from None
    required = {"F_SEAL_SHRINK": fcntl.F_SEAL_SHRINK, "F_SEAL_GROW": fcntl.F_SEAL_GROW}
    missing = [name for name, seal in required.items() if not seals & seal]
    if missing:
        raise WireError("bad_request", f"the segment has no {' and no '.join(missing)}: seal its size")
    # Pages of hugetlbfs cannot always be had when they are first touched, which ends the process.
    if os.fstatvfs(descriptor).f_bsize != mmap.PAGESIZE:
        raise WireError("bad_request", f"the segment has pages of another size than {mmap.PAGESIZE} bytes")
    if not 0 < status.st_size <= largest:
        raise WireError(
            "bad_request", f"a segment of {status.st_size} bytes: this server maps segments of 1 to {largest} bytes"
        )
    try:
        return mmap.mmap(descriptor, status.st_size)
    except OSError as error:  # sealed against writing, or no memory
        raise WireError("bad_request", f"the segment cannot be mapped: {error.strerror}") from None
