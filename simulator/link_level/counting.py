"""What is counted on the link, how sure the counts make us, and when they suffice.

A bit error is seldom alone: a code block that fails fails in many bits. So the interval of a bit error rate counts
blocks, not bits, as what is independent, and weighs how unlike they are.
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
    """Sums over blocks, float64, one entry a user (or a drop, or one for all).

    chances: drops times users summed over, a block sent or not. near_field: labels among them. blocks: sent.
    block_errors: with at least one wrong bit. bits, bit_errors: information bits. delivered_bits: of error-free blocks.
    errors_squared, errors_times_bits, bits_squared: of each block's bits and bit errors.
    symbols, error_energy: of sent blocks; inverse_sinr: symbols / SINR of the same.
    rate: log2(1 + SINR) of the true channel, expected_rate: of the CSI the precoder was computed from; bps/Hz.
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
        """The entries of both, one after the other."""
        return Tally(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def pooled(self) -> Tally:
        """All entries as one."""
        return Tally(*(getattr(self, field.name).sum(keepdims=True) for field in fields(self)))

    def as_lists(self) -> dict[str, list[float]]:
        """For a JSON file, which gives back the same numbers to the last bit."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}

    @classmethod
    def from_lists(cls, lists: dict[str, Any]) -> Tally:
        """The inverse of `as_lists`. Raises KeyError or ValueError for anything else."""
        return cls(*(np.asarray(lists[field.name], dtype=np.float64) for field in fields(cls)))

    @property
    def bler(self) -> Counts:
        """Block error rate; NaN where nothing was sent."""
        return _ratio(self.block_errors, self.blocks)

    @property
    def ber(self) -> Counts:
        """Bit error rate over information bits; NaN where nothing was sent."""
        return _ratio(self.bit_errors, self.bits)

    @property
    def evm_db(self) -> Counts:
        """Error vector magnitude, 10 log10 of error energy over symbol energy; NaN where nothing was sent."""
        return _decibels(_ratio(self.error_energy, self.symbols))

    @property
    def sinr_db(self) -> Counts:
        """The formula's SINR of the same symbols: 1 over the mean of 1 / SINR, dB."""
        return -_decibels(_ratio(self.inverse_sinr, self.symbols))

    def block_interval(self) -> tuple[Counts, Counts]:
        """95 % interval of `bler` (Clopper and Pearson)."""
        return clopper_pearson(self.block_errors, self.blocks)

    def bit_interval(self) -> tuple[Counts, Counts]:
        """95 % interval of `ber`: Clopper and Pearson's with the bits divided by the design effect (Korn, Graubard).

        The design effect is the variance of the rate over blocks, divided by what independent bits would have, and at
        least 1. Without a single error nothing tells it, and a whole block counts as one trial.
        """
        rate = self.ber
        spread = self.errors_squared - 2 * rate * self.errors_times_bits + rate**2 * self.bits_squared
        independent = self.bits * rate * (1 - rate)
        with np.errstate(invalid="ignore", divide="ignore"):
            effect = np.where(independent > 0, spread / independent, _ratio(self.bits, self.blocks))
        trials = self.bits / np.maximum(effect, 1)
        return clopper_pearson(rate * trials, trials)


def tally(received: Received, symbols: int, expected_rate: Tensor, near_field: Tensor, each: str = "user") -> Tally:
    """Count a batch. expected_rate, near_field: (drops, users). each: what has an entry, ``user`` or ``drop``."""
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
    """Exact 95 % interval of a binomial rate; errors and trials need not be whole. NaN without trials."""
    errors, trials = np.asarray(errors, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    tail = (1 - _CONFIDENCE) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(errors > 0, betaincinv(np.maximum(errors, 1e-12), trials - errors + 1, tail), 0.0)
        right = np.maximum(trials - errors, 1e-12)
        high = np.where(errors < trials, betaincinv(errors + 1, right, 1 - tail), 1.0)
    counted = trials > 0
    return np.where(counted, low, math.nan), np.where(counted, high, math.nan)


def enough(tallies: Sequence[Tally], errors: int, coded: bool) -> bool:
    """Whether every one of them has counted this many errors: of blocks with a code, of bits without."""
    return all(float((each.block_errors if coded else each.bit_errors).sum()) >= errors for each in tallies)


def _ratio(part: Counts, whole: Counts) -> Counts:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, math.nan)


def _decibels(linear: Counts) -> Counts:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(10 * np.log10(linear))
