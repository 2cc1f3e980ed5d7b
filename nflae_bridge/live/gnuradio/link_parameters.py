"""Define the size and the link budget of a drop, as options and PDU metadata state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.pmt import Pmt
from simulator.downlink.budget import BudgetError, LinkBudget

# The computation holds matrices of users x users: a PDU must not be able to fill the memory.
MAX_USERS = 128


@dataclass(frozen=True)
class LinkParameters:
    """Hold the size and the link budget of a drop.

    Parameters
    ----------
    users, antennas : int
        Users K and antennas N.
    budget : LinkBudget
        Link budget.
    """

    users: int
    antennas: int
    budget: LinkBudget = field(default_factory=LinkBudget)

    @property
    def length(self) -> int:
        """Complex numbers per item."""
        return self.users * self.antennas

    def updated(self, metadata: Mapping[Pmt, Pmt]) -> LinkParameters:
        """Return the parameters with the values that the metadata of a PDU states under the same names.

        Parameters
        ----------
        metadata : mapping
            Dictionary of a PDU.

        Returns
        -------
        LinkParameters
            Parameters of that PDU.

        Raises
        ------
        NflaeError
            If an entry is not a number or out of its range; the message names it.
        """
        sizes = {name: _integer(name, metadata[name]) for name in ("users", "antennas") if name in metadata}
        quantities = {name: _number(name, metadata[name]) for name in asdict(self.budget) if name in metadata}
        if not sizes and not quantities:
            return self
        try:
            budget = replace(self.budget, **quantities)
        except BudgetError as error:
            raise NflaeError(f"its metadata's {error}") from None
        return replace(self, budget=budget, **sizes)


def _integer(name: str, value: Pmt) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise NflaeError(f"its metadata's {name} must be an integer, got a {type(value).__name__}")
    if value < 1 or (name == "users" and value > MAX_USERS):
        limit = f"from 1 to {MAX_USERS}" if name == "users" else "at least 1"
        raise NflaeError(f"its metadata's {name} must be {limit}, got {value}")
    return int(value)


def _number(name: str, value: Pmt) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise NflaeError(f"its metadata's {name} must be a number, got a {type(value).__name__}")
    return float(value)
