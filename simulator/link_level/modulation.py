"""Select modulation and code rate of the blocks, fixed by name or adapted by the CQI tables of 5G.

References
----------
3GPP TS 38.214, Tables 5.2.2.1-2 and 5.2.2.1-3 (CQI); 3GPP TS 38.212 (LDPC codes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from matlab_io.errors import NflaeError

MODULATIONS = {"qpsk": 2, "16qam": 4, "64qam": 6, "256qam": 8}
_NAMES = {bits: name for name, bits in MODULATIONS.items()}

# One resource block over one slot of 5G: 12 subcarriers x 14 OFDM symbols.
DEFAULT_SYMBOLS = 168

# 5G LDPC, 3GPP TS 38.212: code blocks of 12 to 8448 bits (without segmentation), code rates up to 948/1024.
_FEWEST_BITS, _MOST_BITS = 12, 8448
_HIGHEST_RATE = 948 / 1024


@dataclass(frozen=True)
class Format:
    """Describe a QAM constellation and the rate of its LDPC code.

    Parameters
    ----------
    bits_per_symbol
        2, 4, 6 or 8.
    rate
        Information bits per coded bit, or None for uncoded transmission.
    """

    bits_per_symbol: int
    rate: float | None = None

    def information_bits(self, symbols: int) -> int:
        """Return the number of information bits per block.

        Parameters
        ----------
        symbols
            Symbols per block.

        Returns
        -------
        int
            Bits, rounded down, so that the code rate does not exceed ``rate``.
        """
        coded = symbols * self.bits_per_symbol
        return coded if self.rate is None else math.floor(coded * self.rate + 1e-9)

    def check(self, symbols: int) -> None:
        """Check that a block length fits the code.

        Parameters
        ----------
        symbols
            Symbols per block.

        Raises
        ------
        NflaeError
            If no LDPC code block of that length and rate exists; the message states the valid range.
        """
        if self.rate is None:
            return
        subject = f"code rate {self.rate:.4g}: {symbols} symbols of {_NAMES[self.bits_per_symbol]}"
        coded = symbols * self.bits_per_symbol
        if _FEWEST_BITS / coded > _HIGHEST_RATE:
            least = math.ceil(_FEWEST_BITS / _HIGHEST_RATE / self.bits_per_symbol)
            raise NflaeError(f"{subject} are too few for any LDPC code block: give --symbols {least} or more")
        if self.rate > _HIGHEST_RATE:
            raise NflaeError(f"{subject} carry {_rates(coded)}: 5G's LDPC codes go up to 948/1024")
        fewest, most = self.symbols_that_fit()
        if not fewest <= symbols <= most:
            raise NflaeError(
                f"{subject} carry {_rates(coded)}; or, at this rate, give --symbols {fewest} to {most}:"
                f" an LDPC code block has {_FEWEST_BITS} to {_MOST_BITS} bits"
            )

    def symbols_that_fit(self) -> tuple[int, int]:
        """Return the smallest and the largest number of symbols of a block with an LDPC code."""
        assert self.rate is not None
        bits = self.bits_per_symbol * self.rate
        return math.ceil(_FEWEST_BITS / bits - 1e-9), math.floor(_MOST_BITS / bits)

    def __str__(self) -> str:
        code = "uncoded" if self.rate is None else f"LDPC {self.rate:.4g}"
        return f"{_NAMES[self.bits_per_symbol]}, {code}"


def _rates(coded_bits: int) -> str:
    lowest = math.ceil(1e4 * _FEWEST_BITS / coded_bits) / 1e4
    highest = math.floor(1e4 * min(_HIGHEST_RATE, _MOST_BITS / coded_bits)) / 1e4
    return f"rates from {lowest:.4f} to {highest:.4f}"


@dataclass(frozen=True)
class CqiEntry:
    """Describe an entry of a CQI table with the SINR at which its block error rate is 10 %.

    Parameters
    ----------
    index
        CQI index, 1 to 15.
    format
        Modulation and code rate.
    short, long
        Required SINR, dB, for blocks of 168 and of 1008 symbols.
    """

    index: int
    format: Format
    short: float
    long: float

    def required_db(self, symbols: int) -> float:
        """Return the required SINR for a block length.

        The loss of a finite block length falls as 1 / sqrt(length): interpolation between ``short`` and ``long``.

        Parameters
        ----------
        symbols
            Symbols per block.

        Returns
        -------
        float
            SINR, dB, for a block error rate of 10 %.
        """
        at_short, at_long = (1 / math.sqrt(length) for length in (_SHORT, _LONG))
        weight = (1 / math.sqrt(symbols) - at_long) / (at_short - at_long)
        return self.long + weight * (self.short - self.long)


_SHORT, _LONG = DEFAULT_SYMBOLS, 6 * DEFAULT_SYMBOLS

# (bits per symbol, code rate x 1024) of the CQI tables: required SINRs at 168 and 1008 symbols, dB, measured over white
# noise with Sionna's codes and decoder by benchmarks/link_thresholds.py.
_MEASURED_DB: dict[tuple[int, int], tuple[float, float]] = {
    (2, 78): (-6.34, -7.12),
    (2, 120): (-4.75, -5.62),
    (2, 193): (-3.01, -3.76),
    (2, 308): (-0.85, -1.52),
    (2, 449): (1.09, 0.54),
    (2, 602): (2.74, 2.39),
    (4, 378): (4.50, 4.22),
    (4, 490): (6.41, 6.09),
    (4, 616): (8.35, 8.02),
    (6, 466): (10.02, 9.75),
    (6, 567): (11.96, 11.71),
    (6, 666): (13.86, 13.46),
    (6, 772): (15.76, 15.54),
    (6, 873): (17.73, 17.51),
    (6, 948): (19.77, 19.44),
    (8, 711): (19.29, 19.04),
    (8, 797): (21.25, 21.02),
    (8, 885): (23.39, 23.19),
    (8, 948): (25.31, 25.08),
}

_TABLES = {
    "auto": (
        *((2, rate) for rate in (78, 120, 193, 308, 449, 602)),
        *((4, rate) for rate in (378, 490, 616)),
        *((6, rate) for rate in (466, 567, 666, 772, 873, 948)),
    ),
    "auto:256qam": (
        *((2, rate) for rate in (78, 193, 449)),
        *((4, rate) for rate in (378, 490, 616)),
        *((6, rate) for rate in (466, 567, 666, 772, 873)),
        *((8, rate) for rate in (711, 797, 885, 948)),
    ),
}


def cqi_table(name: str) -> tuple[CqiEntry, ...]:
    """Return a CQI table of 5G with the required SINRs.

    Parameters
    ----------
    name
        ``auto`` for the table up to 64QAM (5.2.2.1-2), ``auto:256qam`` for the one up to 256QAM (5.2.2.1-3).

    Returns
    -------
    tuple of CqiEntry
        Entries 1 to 15.
    """
    return tuple(
        CqiEntry(index, Format(bits, rate / 1024), *_MEASURED_DB[bits, rate])
        for index, (bits, rate) in enumerate(_TABLES[name], start=1)
    )


@dataclass(frozen=True)
class Modulation:
    """Hold the formats available to the blocks, with the SINR from which each is used.

    Parameters
    ----------
    formats
        Formats in the order of rising SINR.
    required_db
        Required SINR per format, dB; -inf for a format used at any SINR.
    """

    formats: tuple[Format, ...]
    required_db: tuple[float, ...]


def choose_modulation(name: str, code: str | None, symbols: int) -> Modulation:
    """Return the formats named by ``--modulation`` and ``--code``.

    Parameters
    ----------
    name
        ``qpsk``, ``16qam``, ``64qam``, ``256qam``, ``auto`` or ``auto:256qam``.
    code
        ``none`` or ``ldpc:RATE``; None for ``ldpc:1/2``, or the rates of the CQI table.
    symbols
        Symbols per block.

    Returns
    -------
    Modulation
        Formats with their required SINRs.

    Raises
    ------
    NflaeError
        For an unknown name or code, and for a block length outside the code's range; the message states the valid
        values.
    """
    if name in _TABLES:
        if code is not None:
            raise NflaeError(
                f"--code {code}: --modulation {name} takes its code rates from the CQI table; leave it out"
            )
        entries = cqi_table(name)
        fewest, most = zip(*(entry.format.symbols_that_fit() for entry in entries), strict=True)
        if not max(fewest) <= symbols <= min(most):
            raise NflaeError(
                f"--modulation {name}: blocks of {symbols} symbols cannot carry every entry of the CQI table;"
                f" give --symbols {max(fewest)} to {min(most)}"
            )
        return Modulation(
            tuple(entry.format for entry in entries), tuple(entry.required_db(symbols) for entry in entries)
        )
    if name not in MODULATIONS:
        raise NflaeError(f"no modulation {name!r}: there are {', '.join([*MODULATIONS, *_TABLES])}")
    form = Format(MODULATIONS[name], _code_rate("ldpc:1/2" if code is None else code))
    form.check(symbols)
    return Modulation((form,), (-math.inf,))


def _code_rate(code: str) -> float | None:
    if code == "none":
        return None
    kind, _, text = code.partition(":")
    try:
        rate = float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        rate = math.nan
    if kind != "ldpc" or not 0 < rate < 1:
        raise NflaeError(f"no code {code!r}: there are none and ldpc:RATE with a rate below 1, e.g. ldpc:1/2, ldpc:0.9")
    return rate
