"""Keep the finished pieces of a long run on disk, one line of JSON each, so that an interrupted run can resume."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from matlab_io.errors import NflaeError

Entry = TypeVar("Entry")


class Journal(Generic[Entry]):
    """Journal of a run: a file whose first line holds the run's identity, every further line one entry.

    Parameters
    ----------
    path
        The file; its folder is made if it is missing.
    identity
        Everything that the entries depend on.
    parse
        Makes an entry of a line's content; a ValueError, KeyError or TypeError from it marks the line as damaged.
    remedy
        What to do about a file with another identity, for the error message.

    Attributes
    ----------
    path
        The file.
    entries
        Those of an earlier run with the same identity.
    count
        Number of entries in the file, those added included.

    Raises
    ------
    NflaeError
        If the folder cannot be made or written to, or the file has another identity or is damaged.
    """

    def __init__(
        self, path: Path, identity: dict[str, str], parse: Callable[[dict[str, Any]], Entry], remedy: str
    ) -> None:
        self.path = path
        self.entries: list[Entry] = []
        folder = path.parent
        if folder.exists() and not folder.is_dir():
            raise NflaeError(f"{folder}: is a file; name a folder for the results")
        folder.mkdir(parents=True, exist_ok=True)
        length = self._read(identity, parse, remedy) if path.exists() else 0
        self._file = path.open("r+" if length else "w", encoding="utf-8")
        # A line cut short by a kill is removed, or the next would be appended to it.
        self._file.truncate(length)
        self._file.seek(length)
        if not length:
            self._write({"identity": identity})
        self.count = len(self.entries)

    def _read(self, identity: dict[str, str], parse: Callable[[dict[str, Any]], Entry], remedy: str) -> int:
        """Read the entries and return the number of bytes up to the end of the last whole line."""
        length = 0
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                break
            try:
                content = json.loads(line)
                if number == 0:
                    _require_same(self.path, content["identity"], identity, remedy)
                else:
                    self.entries.append(parse(content))
            except (ValueError, KeyError, TypeError) as error:
                raise NflaeError(
                    f"{self.path}: line {number + 1} is damaged; remove the file to start anew, or name another folder"
                ) from error
            length += len(line)
        return length

    def add(self, content: dict[str, Any]) -> None:
        """Append an entry's content and flush it to disk."""
        self._write(content)
        self.count += 1

    def _write(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(content, separators=(",", ":")) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _require_same(path: Path, there: dict[str, str], wanted: dict[str, str], remedy: str) -> None:
    for name in [*wanted, *there]:
        if there.get(name) != wanted.get(name):
            raise NflaeError(
                f"{path.parent}: holds another run: {name} is {there.get(name)} there, {wanted.get(name)} here;"
                f" name another folder, or {remedy}"
            )
