"""What a block of symbols can carry: modulation and code rate, asked for by name or chosen by the CQI tables of 5G."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from matlab_io.errors import NflaeError

MODULATIONS = {"qpsk": 2, "16qam": 4, "64qam": 6, "256qam": 8}
_NAMES = {bits: name for name, bits in MODULATIONS.items()}

# One resource block of one slot of 5G: 12 subcarriers x 14 OFDM symbols.
DEFAULT_SYMBOLS = 168

# 5G LDPC: code blocks of 12 to 8448 bits (without segmentation), 3GPP TS 38.212, and no code rate above 948/1024.
_FEWEST_BITS, _MOST_BITS = 12, 8448
_HIGHEST_RATE = 948 / 1024


@dataclass(frozen=True)
class Format:
    """A modulation and, unless it is sent uncoded, the rate of its LDPC code.

    bits_per_symbol: 2, 4, 6 or 8. rate: information bits a coded bit, or None.
    """

    bits_per_symbol: int
    rate: float | None = None

    def information_bits(self, symbols: int) -> int:
        """Bits a block of so many symbols carries."""
        coded = symbols * self.bits_per_symbol
        # Rounded down: the code's rate stays at or below what was asked for.
        return coded if self.rate is None else math.floor(coded * self.rate + 1e-9)

    def check(self, symbols: int) -> None:
        """Raises NflaeError, saying what fits, if a block of so many symbols can't carry this code."""
        if self.rate is None:
            return
        where = f"code rate {self.rate:.4g}: {symbols} symbols of {_NAMES[self.bits_per_symbol]}"
        coded = symbols * self.bits_per_symbol
        if _FEWEST_BITS / coded > _HIGHEST_RATE:
            least = math.ceil(_FEWEST_BITS / _HIGHEST_RATE / self.bits_per_symbol)
            raise NflaeError(f"{where} are too few for any LDPC code block: give --symbols {least} or more")
        if self.rate > _HIGHEST_RATE:
            raise NflaeError(f"{where} carry {_rates(coded)}: 5G's LDPC codes go up to 948/1024")
        fewest, most = self.symbols_that_fit()
        if not fewest <= symbols <= most:
            raise NflaeError(
                f"{where} carry {_rates(coded)}; or, at this rate, give --symbols {fewest} to {most}:"
                f" an LDPC code block has {_FEWEST_BITS} to {_MOST_BITS} bits"
            )

    def symbols_that_fit(self) -> tuple[int, int]:
        """The fewest and the most symbols a block with an LDPC code can have."""
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
    """An entry of a CQI table, and the SINR in dB at which its blocks fail 1 time in 10.

    short, long: that SINR for blocks of 168 and of 1008 symbols.
    """

    index: int
    format: Format
    short: float
    long: float

    def required_db(self, symbols: int) -> float:
        """The SINR for blocks of any length: what a finite block costs falls as 1 / sqrt(its length)."""
        steps = [1 / math.sqrt(length) for length in (_SHORT, _LONG)]
        along = (1 / math.sqrt(symbols) - steps[1]) / (steps[0] - steps[1])
        return self.long + along * (self.short - self.long)


_SHORT, _LONG = DEFAULT_SYMBOLS, 6 * DEFAULT_SYMBOLS

# 3GPP TS 38.214, Tables 5.2.2.1-2 and 5.2.2.1-3: bits per symbol and code rate x 1024 of CQI 1 to 15. Beside them the
# SINRs, measured over white noise with Sionna's codes and decoder by benchmarks/link_thresholds.py.
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
    """``auto``: the table up to 64QAM (5.2.2.1-2). ``auto:256qam``: the one up to 256QAM (5.2.2.1-3)."""
    return tuple(
        CqiEntry(index, Format(bits, rate / 1024), *_MEASURED_DB[bits, rate])
        for index, (bits, rate) in enumerate(_TABLES[name], start=1)
    )


@dataclass(frozen=True)
class Modulation:
    """The formats blocks may have, and from which SINR on.

    formats: by rising SINR. required_db: dB, one a format; -inf for a format that is used whatever the SINR.
    """

    formats: tuple[Format, ...]
    required_db: tuple[float, ...]


def choose_modulation(name: str, code: str | None, symbols: int) -> Modulation:
    """What ``--modulation`` and ``--code`` ask for, in blocks of so many symbols.

    name: qpsk, 16qam, 64qam, 256qam, auto or auto:256qam. code: none or ldpc:RATE; None: ldpc:1/2, or the table's.
    Raises NflaeError, with the list or what fits, for anything else.
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
                f"--modulation {name}: blocks of {symbols} symbols can't carry every entry of the CQI table;"
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
