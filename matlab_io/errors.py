"""Define the base exception of the project, and the boundary that turns any other into a file error."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["MatFileError", "NflaeError", "reading", "writing"]


class NflaeError(Exception):
    """Base of every error this project raises for its users; the message is one line, ready to be shown."""


class MatFileError(NflaeError):
    """A ``.mat`` file that cannot be read or written as asked.

    The message is one line that names the file, the variable or the axis, what was expected and what to do.
    """


def _reason(error: BaseException) -> str:
    """What an operating-system or parser error says, on one line and without repeating the path."""
    if isinstance(error, OSError) and error.strerror and error.errno:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return text[:160] if text else type(error).__name__


@contextmanager
def reading(path: Path, what: str = "") -> Iterator[None]:
    """Turns whatever goes wrong inside into a one-line :class:`MatFileError` naming ``path`` (and ``what``).

    Every kind of exception is caught on purpose: on damaged bytes zlib, struct, numpy, scipy and h5py raise
    between them nearly every class there is, and none of those texts tells the user which file is damaged.
    """
    where = f"{path}: {what}: " if what else f"{path}: "
    try:
        yield
    except MatFileError:
        raise
    except FileNotFoundError:
        raise MatFileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise MatFileError(f"{path}: is a directory, not a .mat file") from None
    except PermissionError:
        raise MatFileError(f"{path}: no permission to read it") from None
    except MemoryError:
        raise MatFileError(
            f"{where}does not fit in memory, or is damaged; save it with -v7.3, which is read in blocks"
        ) from None
    except Exception as error:
        raise MatFileError(f"{where}damaged or cut short ({_reason(error)}); save or copy the file again") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failed write into a one-line :class:`MatFileError` naming ``path`` and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "free some space or write elsewhere"
        elif isinstance(error, PermissionError):
            remedy = "write elsewhere or change the folder's permissions"
        else:
            remedy = "write elsewhere"
        raise MatFileError(f"{path}: cannot be written: {_reason(error)}; {remedy}") from error
    except MemoryError:
        raise MatFileError(f"{path}: the results do not fit in memory; write version 7.3 instead") from None
