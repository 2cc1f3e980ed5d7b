"""Check and write the side outputs of a command: plots and CSV tables beside the results."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from matlab_io.errors import NflaeError


@dataclass(frozen=True)
class SideFile:
    """Content of a side output, made before the results are committed and written after them.

    Attributes
    ----------
    path : Path
        File to write.
    content : bytes
        The whole content.
    """

    path: Path
    content: bytes

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            part.write_bytes(self.content)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)


def check_output_path(path: Path, forbidden: tuple[Path, ...]) -> None:
    """Check, before the work starts, that a side output can be written.

    Parameters
    ----------
    path : Path
        File to write.
    forbidden : tuple of Path
        The command's input and its other outputs.

    Raises
    ------
    NflaeError
        If the folder is missing or not writable, or if ``path`` is a folder or one of ``forbidden``.
    """
    if not path.parent.is_dir():
        raise NflaeError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise NflaeError(f"{path}: cannot be written; name another file")
    if any(path.resolve() == other.resolve() for other in forbidden):
        raise NflaeError(f"{path}: is also the input or another output; name another file")
