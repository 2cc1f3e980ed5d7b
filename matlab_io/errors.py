"""Define the base exception of the project, and contexts that turn low-level errors into file errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["MatFileError", "NflaeError", "check_writable", "printable", "reading", "writing"]


def printable(text: str) -> str:
    """Replace each character that is not printable by its Python escape.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        One line without control characters.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


class NflaeError(Exception):
    """Base of every error this project raises for its users; the message is one line, ready to be shown.

    Characters that are not printable, which names within damaged files contain, appear as Python escapes.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(printable(each) if isinstance(each, str) else each for each in arguments))


class MatFileError(NflaeError):
    """Report a ``.mat`` file that cannot be read or written.

    The message is one line with the file, the variable or axis, the expectation and the remedy.
    """


def _reason(error: BaseException) -> str:
    """Return the message of an operating-system or parser error on one line, without the path."""
    if isinstance(error, OSError) and error.strerror and error.errno:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return text[:160] if text else type(error).__name__


@contextmanager
def reading(path: Path, variable: str = "") -> Iterator[None]:
    """Convert every exception of the enclosed read into a one-line `MatFileError`.

    All classes of exceptions are caught: on damaged bytes zlib, struct, numpy, scipy and h5py raise nearly every class
    there is, with messages that do not name the damaged file.

    Parameters
    ----------
    path : pathlib.Path
        File being read.
    variable : str, optional
        Variable being read, named in the message too.

    Yields
    ------
    None

    Raises
    ------
    MatFileError
        If anything is raised inside.
    """
    where = f"{path}: {variable}: " if variable else f"{path}: "
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


def check_writable(path: Path) -> None:
    """Check, before the work starts, that a file can be written.

    Parameters
    ----------
    path : pathlib.Path
        File to write.

    Raises
    ------
    NflaeError
        If the folder is missing or not writable, or if ``path`` is a folder.
    """
    if not path.parent.is_dir():
        raise NflaeError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise NflaeError(f"{path}: cannot be written; name another file")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert a failure of the enclosed write into a one-line `MatFileError` with the remedy.

    Parameters
    ----------
    path : pathlib.Path
        File being written.

    Yields
    ------
    None

    Raises
    ------
    MatFileError
        If an `OSError` or `MemoryError` is raised inside.
    """
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
