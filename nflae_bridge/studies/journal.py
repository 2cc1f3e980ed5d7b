"""Finished pieces of a long run, a line of JSON each, so that a run that was interrupted goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from matlab_io.errors import NflaeError

Entry = TypeVar("Entry")


class Journal(Generic[Entry]):
    """A file whose first line says what its entries depend on, and every further line is an entry.

    path: the file, in a folder that is made if it is missing. identity: whatever the entries depend on.
    parse: makes an entry of a line's content; ValueError, KeyError and TypeError from it mean that the line is damaged.
    remedy: what to do about a file with another identity, for the error message.
    entries: those of an earlier run with the same identity.

    Raises NflaeError if the folder can't be made or written to, or the file has another identity or is damaged.
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
        whole = self._read(identity, parse, remedy) if path.exists() else 0
        self._file = path.open("r+" if whole else "w", encoding="utf-8")
        # A line that a kill cut short goes, or the next would be appended to it.
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self.add({"identity": identity})

    def _read(self, identity: dict[str, str], parse: Callable[[dict[str, Any]], Entry], remedy: str) -> int:
        """Take the entries in; the bytes up to the end of the last whole line."""
        whole = 0
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
            whole += len(line)
        return whole

    def add(self, content: dict[str, Any]) -> None:
        """Append an entry's content, so that it survives whatever ends this process."""
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
