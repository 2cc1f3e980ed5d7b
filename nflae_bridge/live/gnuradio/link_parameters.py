"""What a drop is precoded for: its size and its link budget, as options and PDU metadata state them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.pmt import Pmt


@dataclass(frozen=True)
class LinkParameters:
    """users K and antennas N of a drop; power P and noise_power, W; alpha_c, share of P; min_rate, bps/Hz."""

    users: int
    antennas: int
    power: float
    noise_power: float
    alpha_c: float
    min_rate: float

    @property
    def length(self) -> int:
        """Complex numbers in an item."""
        return self.users * self.antennas

    def overruled_by(self, metadata: Mapping[Pmt, Pmt]) -> LinkParameters:
        """These terms, but for the entries of ``metadata`` that bear their names.

        Raises NflaeError, naming the entry, for one that is no number or out of its range.
        """
        said = {field.name: metadata[field.name] for field in fields(self) if field.name in metadata}
        if not said:
            return self
        for name, value in said.items():
            whole = name in ("users", "antennas")
            allowed = (int, np.integer) if whole else (int, float, np.integer, np.floating)
            if isinstance(value, bool) or not isinstance(value, allowed):
                raise NflaeError(f"its metadata's {name} is a {type(value).__name__}, not a {_RULES[name]}")
            if not _in_range(name, float(value)):
                raise NflaeError(f"its metadata's {name} is {value:g}, not a {_RULES[name]}")
            said[name] = int(value) if whole else float(value)
        return replace(self, **said)


# A matrix of users x users is computed: a PDU must not be able to ask for one that fills the memory.
MOST_USERS = 128
_WIDEST_WATTS = 1e30

_RULES = {
    "users": f"integer from 1 to {MOST_USERS}",
    "antennas": "positive integer",
    "power": "positive number of watts within 300 dBW of 1 W",
    "noise_power": "positive number of watts within 300 dBW of 1 W",
    "alpha_c": "number in (0, 1]",
    "min_rate": "number of at least 0",
}


def _in_range(name: str, value: float) -> bool:
    if name in ("power", "noise_power"):
        return 1 / _WIDEST_WATTS <= value <= _WIDEST_WATTS
    if name == "users":
        return 1 <= value <= MOST_USERS
    if name == "alpha_c":
        return 0 < value <= 1
    return math.isfinite(value) and value >= (name == "antennas")
