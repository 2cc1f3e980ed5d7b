"""Check and write the outputs of a command: side files (plots, CSV tables) and folders of results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from matlab_io.errors import NflaeError, check_writable
from nflae_bridge.cli.options.common import refuse_options


@dataclass(frozen=True)
class SideFile:
    """Hold the content of a side output, to be written whole.

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
    check_writable(path)
    if any(path.resolve() == other.resolve() for other in forbidden):
        raise NflaeError(f"{path}: is also the input or another output; name another file")


def make_folder(folder: Path) -> None:
    """Make the folder of the results, if it is missing.

    Parameters
    ----------
    folder : Path
        The folder.

    Raises
    ------
    NflaeError
        If it is a file, or cannot be made or written to.
    """
    if folder.exists() and not folder.is_dir():
        raise NflaeError(f"{folder}: is a file; name a folder for the results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # permission bits do not suffice: not for root, not on every file system
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NflaeError(
            f"{folder}: cannot be written to ({reason}); name another folder, or change its permissions"
        ) from error


def refuse_mat_version(output: Path | None) -> None:
    """Refuse ``--mat-version`` for a file that is no ``.mat`` file.

    Parameters
    ----------
    output : Path or None
        Output of the command; None for its default, a ``.mat`` file.

    Raises
    ------
    click.UsageError
        If it is typed.
    """
    if output is not None and output.suffix.lower() == ".npz":
        refuse_options(f"is for .mat files, and {output} is a .npz file: leave it out.", ("mat_version",))
