"""A file that appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from matlab_io.errors import MatFileError, writing

__all__ = ["AtomicFile"]


class AtomicFile:
    """Writes go to ``part``, a hidden file in the same folder, which :meth:`commit` renames to ``path``.

    Until then a file that was at ``path`` stays as it was; :meth:`discard` leaves nothing behind.
    Raises MatFileError at once where ``path`` is one of ``inputs`` (through links too), is no regular file,
    or lies in a folder that is missing or cannot be written to.
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
        self.part = folder / f".{self._target.name[:200]}.{secrets.token_hex(4)}.part"

    def create(self) -> None:
        """Creates the empty ``part``, with the permissions of the file it replaces or of any new file."""
        with writing(self.path):
            os.close(os.open(self.part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            if self._target.exists():
                with contextlib.suppress(OSError):
                    self.part.chmod(self._target.stat().st_mode & 0o777)

    def commit(self) -> None:
        """Forces ``part`` to the disk and renames it to ``path``."""
        with writing(self.path):
            with self.part.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(self.part, self._target)
            with contextlib.suppress(OSError):  # a folder cannot be synchronised everywhere
                folder = os.open(self._target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)

    def discard(self) -> None:
        """Removes ``part``."""
        with contextlib.suppress(OSError):
            self.part.unlink(missing_ok=True)


def _same(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)
