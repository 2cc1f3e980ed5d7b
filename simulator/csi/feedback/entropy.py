"""Code symbols of known probabilities into a number of a given number of bits (arithmetic coding).

Probabilities are frequencies out of 2^16. The interval is a whole number of as many digits as the report has bits plus
32, so that rounding costs less than a hundredth of a bit per report.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from matlab_io.errors import NflaeError

TOTAL_LOG2 = 16
TOTAL = 1 << TOTAL_LOG2
MARGIN = 0.05  # bits by which estimated lengths have to stay below the number of bits
_GUARD_BITS = 32


@dataclass(frozen=True)
class FrequencyTable:
    """Hold the frequencies of the symbols 0, 1, ... and their running sums.

    Parameters
    ----------
    frequencies
        Positive, with the sum 2^16.
    """

    frequencies: tuple[int, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, probabilities: Sequence[float]) -> FrequencyTable:
        """Round probabilities to frequencies of at least 1.

        Parameters
        ----------
        probabilities
            Not negative, with any positive sum.

        Returns
        -------
        FrequencyTable
            The table; the most probable symbol takes the rounding.
        """
        scale = (TOTAL - len(probabilities)) / math.fsum(probabilities)
        rounded = [1 + int(scale * probability) for probability in probabilities]
        rounded[rounded.index(max(rounded))] += TOTAL - sum(rounded)
        return cls(tuple(rounded), (0, *accumulate(rounded[:-1])))

    def lengths(self) -> list[float]:
        """Return the code length of each symbol, bits."""
        return [TOTAL_LOG2 - math.log2(frequency) for frequency in self.frequencies]


def encode_symbols(symbols: Sequence[int], tables: Sequence[FrequencyTable], bits: int) -> int:
    """Code symbols into a number of B bits.

    Parameters
    ----------
    symbols
        The symbols, in the order in which they are decoded.
    tables
        Table of each.
    bits
        B; at least the sum of the symbols' code lengths and `MARGIN`.

    Returns
    -------
    int
        Number from 0 to 2^B - 1.

    Raises
    ------
    NflaeError
        If the symbols do not fit.
    """
    low, width = 0, 1 << (bits + _GUARD_BITS)
    for symbol, table in zip(symbols, tables, strict=True):
        width >>= TOTAL_LOG2
        low += width * table.starts[symbol]
        width *= table.frequencies[symbol]
    if width < 1 << _GUARD_BITS:
        raise NflaeError(f"the symbols do not fit into {bits} bits")
    return -(-low >> _GUARD_BITS)


class SymbolReader:
    """Decode the symbols of a number of B bits one by one.

    Parameters
    ----------
    number
        The number.
    bits
        B.
    """

    def __init__(self, number: int, bits: int) -> None:
        self._offset = number << _GUARD_BITS
        self._width = 1 << (bits + _GUARD_BITS)

    def read(self, table: FrequencyTable) -> int:
        """Decode the next symbol.

        Parameters
        ----------
        table
            Its frequencies.

        Returns
        -------
        int
            The symbol.
        """
        self._width >>= TOTAL_LOG2
        place = min(self._offset // self._width, TOTAL - 1) if self._width else 0
        symbol = bisect_right(table.starts, place) - 1
        self._offset -= self._width * table.starts[symbol]
        self._width *= table.frequencies[symbol]
        return symbol
