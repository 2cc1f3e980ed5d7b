"""Write a file that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from matlab_io.errors import MatFileError, writing

__all__ = ["AtomicFile"]

_PART = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<process>\d{1,10})-[0-9a-f]{8}\.part")
_ABANDONED_SECONDS = 86400


class AtomicFile:
    """Replace a file in one step: write to the hidden file `part` beside it, then rename.

    Until `commit` a file at `path` stays unchanged; `discard` removes `part`.

    Parameters
    ----------
    path : str or os.PathLike
        File to make or replace; of a symbolic link, the file behind it.
    inputs : iterable of str or os.PathLike, optional
        Files that must not be replaced.

    Attributes
    ----------
    part : pathlib.Path
        Hidden file in the same folder to which the content is written.

    Raises
    ------
    MatFileError
        If `path` is one of `inputs` (through links too), is no regular file, or is in a folder that is missing or
        cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
        self.path = Path(path)
        with writing(self.path):
            # The file behind a symbolic link is replaced, not the link.
            self._target = Path(os.path.realpath(self.path))
            folder = self._target.parent
            for source in inputs:
                if _same(self._target, Path(source)):
                    raise MatFileError(f"{self.path}: is the input {source}; name another file for the output")
            if self._target.is_dir():
                raise MatFileError(f"{self.path}: is a directory; name a file for the output")
            if self._target.exists() and not self._target.is_file():
                raise MatFileError(f"{self.path}: is not a regular file; name another for the output")
            if not folder.is_dir():
                raise MatFileError(f"{self.path}: the folder {folder} does not exist; make it first")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise MatFileError(f"{self.path}: no permission to write in {folder}; write elsewhere")
        self._prefix = f".{self._target.name[:180]}."
        self.part = folder / f"{self._prefix}{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part"

    def create(self) -> None:
        """Create `part`, empty, with the permissions of the file it replaces or else of a new file.

        Parts that killed processes left of the same file are removed first.
        """
        with writing(self.path):
            self._remove_abandoned()
            os.close(os.open(self.part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            if self._target.exists():
                with contextlib.suppress(OSError):
                    self.part.chmod(self._target.stat().st_mode & 0o777)

    def _remove_abandoned(self) -> None:
        """Remove parts of processes of this host that no longer run, and of other hosts after a day without change."""
        for part in self.part.parent.glob(f"{glob.escape(self._prefix)}*.part"):
            found = _PART.fullmatch(part.name[len(self._prefix) :])
            with contextlib.suppress(OSError):
                if found and (
                    not _runs(int(found["process"]))
                    if found["host"] == _host()
                    else time.time() - part.stat().st_mtime > _ABANDONED_SECONDS
                ):
                    part.unlink()

    def commit(self) -> None:
        """Force `part` to the disk and rename it to `path`."""
        with writing(self.path):
            with self.part.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(self.part, self._target)
            with contextlib.suppress(OSError):  # not every system can synchronize a folder
                folder = os.open(self._target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)

    def discard(self) -> None:
        """Remove `part`."""
        with contextlib.suppress(OSError):
            self.part.unlink(missing_ok=True)


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    """Return whether a process of this host runs; True where that is not known."""
    if os.name != "posix":  # elsewhere os.kill ends the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _same(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)
