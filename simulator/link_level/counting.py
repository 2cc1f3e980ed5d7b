"""Count errors of the link, with confidence intervals and a stopping rule.

Bit errors come in bursts: a code block that fails has many wrong bits. The confidence interval of a bit error rate
therefore treats blocks, not bits, as independent, and accounts for the variance between blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv
from torch import Tensor

from simulator.downlink.sinr import rates
from simulator.link_level.chain import Received

Counts = npt.NDArray[np.float64]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Tally:
    """Hold sums over blocks, float64, one entry per user (or per drop, or one in total).

    Parameters
    ----------
    chances
        Transmission opportunities: pairs of drop and user, whether or not a block was sent.
    near_field
        Near-field labels among them.
    blocks, block_errors
        Blocks sent, and those with at least one wrong bit.
    bits, bit_errors
        Information bits of the blocks sent.
    errors_squared, errors_times_bits, bits_squared
        Sums of products of the bit errors and bits of each block.
    delivered_bits
        Information bits of error-free blocks.
    symbols, error_energy, inverse_sinr
        Of the blocks sent: symbols, sum of |error|^2 over symbols, symbols / SINR.
    rate, expected_rate
        log2(1 + SINR) of the true channel, and of the CSI that the precoder was computed from; bps/Hz.
    """

    chances: Counts
    near_field: Counts
    blocks: Counts
    block_errors: Counts
    bits: Counts
    bit_errors: Counts
    errors_squared: Counts
    errors_times_bits: Counts
    bits_squared: Counts
    delivered_bits: Counts
    symbols: Counts
    error_energy: Counts
    inverse_sinr: Counts
    rate: Counts
    expected_rate: Counts

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def followed_by(self, other: Tally) -> Tally:
        """Concatenate the entries of two tallies.

        Parameters
        ----------
        other
            Tally whose entries follow.

        Returns
        -------
        Tally
            Entries of both.
        """
        return Tally(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def pooled(self) -> Tally:
        """Return the sum of all entries as a single entry."""
        return Tally(*(getattr(self, field.name).sum(keepdims=True) for field in fields(self)))

    def as_lists(self) -> dict[str, list[float]]:
        """Return all sums as lists for a JSON file, which preserves float64 exactly."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}

    @classmethod
    def from_lists(cls, lists: dict[str, Any]) -> Tally:
        """Restore a tally from `as_lists`.

        Parameters
        ----------
        lists
            Field name -> values.

        Returns
        -------
        Tally
            The same sums.

        Raises
        ------
        KeyError, ValueError
            For anything but the output of `as_lists`.
        """
        return cls(*(np.asarray(lists[field.name], dtype=np.float64) for field in fields(cls)))

    @property
    def bler(self) -> Counts:
        """Block error rate; NaN without blocks."""
        return _ratio(self.block_errors, self.blocks)

    @property
    def ber(self) -> Counts:
        """Bit error rate over information bits; NaN without blocks."""
        return _ratio(self.bit_errors, self.bits)

    @property
    def evm_db(self) -> Counts:
        """Error vector magnitude, 10 log10(error energy / symbol energy), dB; NaN without blocks."""
        return _decibels(_ratio(self.error_energy, self.symbols))

    @property
    def sinr_db(self) -> Counts:
        """SINR by the formula, dB: harmonic mean over the same symbols."""
        return -_decibels(_ratio(self.inverse_sinr, self.symbols))

    def block_interval(self) -> tuple[Counts, Counts]:
        """Return the 95 % Clopper-Pearson interval of `bler`."""
        return clopper_pearson(self.block_errors, self.blocks)

    def bit_interval(self) -> tuple[Counts, Counts]:
        """Return the 95 % interval of `ber`, with blocks as independent units.

        Clopper-Pearson interval with the number of bits divided by the design effect: the variance of the rate over
        blocks, relative to that of independent bits, and at least 1. Without errors the design effect is undefined,
        and each block counts as one trial.

        References
        ----------
        E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data", Survey Methodology, 1998.
        """
        rate = self.ber
        spread = self.errors_squared - 2 * rate * self.errors_times_bits + rate**2 * self.bits_squared
        independent = self.bits * rate * (1 - rate)
        with np.errstate(invalid="ignore", divide="ignore"):
            effect = np.where(independent > 0, spread / independent, _ratio(self.bits, self.blocks))
        trials = self.bits / np.maximum(effect, 1)
        return clopper_pearson(rate * trials, trials)


def tally(received: Received, symbols: int, expected_rate: Tensor, near_field: Tensor, each: str = "user") -> Tally:
    """Sum the outcome of a batch over its drops or users.

    Parameters
    ----------
    received
        Outcome of the batch.
    symbols
        Symbols per block.
    expected_rate
        Rates by the transmitter's CSI, real (drops, users), bps/Hz.
    near_field
        Labels, bool (drops, users).
    each
        ``user`` for one entry per user, ``drop`` for one entry per drop.

    Returns
    -------
    Tally
        Sums.
    """
    bits, errors = received.information_bits.double(), received.bit_errors.double()
    sent, lost = received.sent.double(), (received.bit_errors > 0).double()
    inverse = (1 / received.sinr).where(received.sent, 0.0)

    def summed(values: Tensor) -> Counts:
        return np.asarray(values.double().sum(0 if each == "user" else 1).cpu().numpy())

    return Tally(
        chances=summed(torch.ones_like(sent)),
        near_field=summed(near_field),
        blocks=summed(sent),
        block_errors=summed(lost),
        bits=summed(bits),
        bit_errors=summed(errors),
        errors_squared=summed(errors * errors),
        errors_times_bits=summed(errors * bits),
        bits_squared=summed(bits * bits),
        delivered_bits=summed(bits * (1 - lost)),
        symbols=summed(symbols * sent),
        error_energy=summed(received.error_energy),
        inverse_sinr=summed(symbols * inverse),
        rate=summed(rates(received.sinr)),
        expected_rate=summed(expected_rate),
    )


def clopper_pearson(errors: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[Counts, Counts]:
    """Compute the exact 95 % interval of a binomial rate.

    Parameters
    ----------
    errors, trials
        Numbers, not necessarily integer.

    Returns
    -------
    low, high : ndarray
        float64, bounds of the rate; NaN without trials.

    References
    ----------
    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika, 1934.
    """
    errors, trials = np.asarray(errors, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    tail = (1 - _CONFIDENCE) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(errors > 0, betaincinv(np.maximum(errors, 1e-12), trials - errors + 1, tail), 0.0)
        right = np.maximum(trials - errors, 1e-12)
        high = np.where(errors < trials, betaincinv(errors + 1, right, 1 - tail), 1.0)
    counted = trials > 0
    return np.where(counted, low, math.nan), np.where(counted, high, math.nan)


def enough(tallies: Sequence[Tally], errors: int, coded: bool) -> bool:
    """Return whether every tally has counted enough errors.

    Parameters
    ----------
    tallies
        Tallies, e.g. one per scheme.
    errors
        Errors required of each.
    coded
        Whether block errors count (coded transmission) or bit errors (uncoded).

    Returns
    -------
    bool
        True if all tallies have at least ``errors`` errors.
    """
    return all(float((each.block_errors if coded else each.bit_errors).sum()) >= errors for each in tallies)


def _ratio(part: Counts, whole: Counts) -> Counts:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, math.nan)


def _decibels(linear: Counts) -> Counts:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(10 * np.log10(linear))
