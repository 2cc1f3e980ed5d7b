"""Configure the C library's allocator for a long-running server."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_SETTINGS = {_M_MMAP_THRESHOLD: 256 << 10, _M_TRIM_THRESHOLD: 16 << 20, _M_ARENA_MAX: 2}


def return_freed_memory() -> bool:
    """Have large blocks returned to the system as soon as they are freed.

    By default glibc raises the size from which it maps a block by itself with every large block that is freed, up to
    32 MiB; requests and answers then stay in its heaps, in pieces, after they are freed.

    Returns
    -------
    bool
        False where the C library has no ``mallopt``, or has refused a setting.

    References
    ----------
    mallopt(3), M_MMAP_THRESHOLD.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    accepted = [mallopt(parameter, value) == 1 for parameter, value in _SETTINGS.items()]
    return all(accepted)
