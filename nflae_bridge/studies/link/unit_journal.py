"""Keep the finished units of a link study on disk, so that an interrupted run can resume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nflae_bridge.studies.journal import Journal
from simulator.link_level.counting import Tally

_NAME = "units.jsonl"


@dataclass(frozen=True)
class Outcome:
    """Counts of one unit.

    Parameters
    ----------
    snr_db, index
        SNR in dB and number of the batch.
    tallies
        Counts per user, by scheme.
    series
        Counts per drop, by scheme; empty without a timeline.
    """

    snr_db: float
    index: int
    tallies: dict[str, Tally]
    series: dict[str, Tally]


class UnitJournal:
    """Journal ``units.jsonl`` of a link study; see `nflae_bridge.studies.journal.Journal`.

    Parameters
    ----------
    folder
        The study's folder, made if it is missing.
    identity
        Everything that the outcomes depend on.

    Attributes
    ----------
    path
        The file.
    outcomes
        Those of an earlier run with the same identity.

    Raises
    ------
    NflaeError
        If the folder cannot be made or written to, or holds a run with another identity.
    """

    def __init__(self, folder: Path, identity: dict[str, str]) -> None:
        self._journal = Journal(folder / _NAME, identity, _outcome, f"remove {_NAME} to start anew")
        self.path = self._journal.path
        self.outcomes = self._journal.entries

    @property
    def count(self) -> int:
        """Number of outcomes in the file, those added included."""
        return self._journal.count

    def add(self, outcome: Outcome) -> None:
        """Append an outcome and flush it to disk."""
        self._journal.add(
            {
                "snr_db": outcome.snr_db,
                "unit": outcome.index,
                "tallies": {name: each.as_lists() for name, each in outcome.tallies.items()},
                "series": {name: each.as_lists() for name, each in outcome.series.items()},
            }
        )

    def close(self) -> None:
        """Close the file."""
        self._journal.close()


def _outcome(content: dict[str, Any]) -> Outcome:
    def tallies(of: dict[str, Any]) -> dict[str, Tally]:
        return {name: Tally.from_lists(lists) for name, lists in of.items()}

    return Outcome(content["snr_db"], content["unit"], tallies(content["tallies"]), tallies(content["series"]))
