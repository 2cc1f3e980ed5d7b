"""The finished units of a run, a line each, so that a run that was interrupted goes on where it was."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nflae_bridge.errors import NflaeError
from nflae_bridge.link.counting import Tally

_NAME = "units.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What a unit counted: for each scheme by user, and, of a timeline, by drop."""

    snr_db: float
    index: int
    tallies: dict[str, Tally]
    series: dict[str, Tally]


class Record:
    """``units.jsonl`` in a folder, which is made if it is missing.

    identity: whatever the outcomes depend on. outcomes: those of an earlier run with the same identity.
    Raises NflaeError if the folder can't be made or written to, or holds a run with another identity.
    """

    def __init__(self, folder: Path, identity: dict[str, str]) -> None:
        self.path = folder / _NAME
        self.outcomes: list[Outcome] = []
        if folder.exists() and not folder.is_dir():
            raise NflaeError(f"{folder}: is a file; name a folder for the results")
        folder.mkdir(parents=True, exist_ok=True)
        whole = self._read(folder, identity) if self.path.exists() else 0
        self._file = self.path.open("r+" if whole else "w", encoding="utf-8")
        # A line that a kill cut short goes, or the next would be appended to it.
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write({"identity": identity})

    def _read(self, folder: Path, identity: dict[str, str]) -> int:
        """Take the outcomes in; the bytes up to the end of the last whole line."""
        whole = 0
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                break
            try:
                content = json.loads(line)
                if number == 0:
                    _require_same(folder, content["identity"], identity)
                else:
                    self.outcomes.append(_outcome(content))
            except (ValueError, KeyError, TypeError) as error:
                raise NflaeError(
                    f"{self.path}: line {number + 1} is damaged; remove the file to start anew, or name another folder"
                ) from error
            whole += len(line)
        return whole

    def add(self, outcome: Outcome) -> None:
        """Append one, so that it survives whatever ends this process."""
        self._write(
            {
                "snr_db": outcome.snr_db,
                "unit": outcome.index,
                "tallies": {name: each.as_lists() for name, each in outcome.tallies.items()},
                "series": {name: each.as_lists() for name, each in outcome.series.items()},
            }
        )

    def _write(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(content, separators=(",", ":")) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _outcome(content: dict[str, Any]) -> Outcome:
    def tallies(of: dict[str, Any]) -> dict[str, Tally]:
        return {name: Tally.from_lists(lists) for name, lists in of.items()}

    return Outcome(content["snr_db"], content["unit"], tallies(content["tallies"]), tallies(content["series"]))


def _require_same(folder: Path, there: dict[str, str], wanted: dict[str, str]) -> None:
    for name in [*wanted, *there]:
        if there.get(name) != wanted.get(name):
            raise NflaeError(
                f"{folder}: holds another run: {name} is {there.get(name)} there, {wanted.get(name)} here;"
                f" name another folder, or remove {_NAME} to start anew"
            )
