"""Have the kernel run the receiving thread of a server soon after a message has arrived."""

from __future__ import annotations

import ctypes
import os
import platform

_NUMBERS = {"x86_64": (314, 315), "aarch64": (274, 275)}  # of the system calls sched_setattr, sched_getattr


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def _call(index: int, attributes: _Attributes, *arguments: int) -> bool:
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None or platform.system() != "Linux":
        return False
    try:
        return bool(ctypes.CDLL(None).syscall(numbers[index], 0, ctypes.byref(attributes), *arguments) == 0)
    except (AttributeError, OSError):
        return False


def time_slice() -> float | None:
    """Return the time slice of the calling thread, s; None where the system has none to return."""
    found = _Attributes()
    return found.runtime / 1e9 if _call(1, found, ctypes.sizeof(found), 0) else None


def set_time_slice(seconds: float) -> bool:
    """Set the time slice of the calling thread, and leave its policy and nice value.

    A thread with a short slice that wakes up precedes threads with longer ones on the same processor, and gives way
    after its slice: it waits less and receives no more of the processor. Kernels before 6.12 ignore the slice.

    Parameters
    ----------
    seconds : float
        Time slice, 0.1 ms to 0.1 s.

    Returns
    -------
    bool
        False where the system has no such setting, or the thread has a real-time policy.

    References
    ----------
    sched_setattr(2); Linux, Documentation/scheduler/sched-eevdf.rst.
    """
    if platform.system() != "Linux" or (policy := os.sched_getscheduler(0)) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _Attributes(ctypes.sizeof(_Attributes), policy, 0, nice, 0, round(1e9 * seconds))
    return _call(0, wanted, 0)
