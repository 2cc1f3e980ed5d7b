"""Code the difference between a channel and its prediction beam by beam, with as many bits as a report has left.

Both ends derive the spread of each beam from the CSI they already share. Real and imaginary parts of the difference are
rounded to multiples of a step and coded arithmetically, with Laplace distributions of these spreads: a beam in which
little is expected costs next to nothing, no positions are sent, and new beams can appear. The report holds

    scale a of the prediction (1, 0.7, 0.35, 0), level of the difference (2 dB steps), step (1.5 dB steps), the parts.

The step is counted from the one at which reverse water-filling would spend all bits, but never so small that multiples
up to 24 could not hold the largest expected difference: further bits stay unused. The encoder tries all steps with
several strengths of rate-distortion optimised rounding (a smaller multiple where the bits saved outweigh the error) and
keeps the least error that fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from simulator.csi.feedback.entropy import MARGIN, FrequencyTable, SymbolReader, encode_symbols

SCALES = (1.0, 0.7, 0.35, 0.0)
_HELD = len(SCALES)  # symbol of a report without difference
_SCALE_TABLE = FrequencyTable.of([0.8, 0.1, 0.03, 0.03, 0.04])
_LEVELS = 32
_LEVEL_DB = 2.0
_STEPS = 16
_STEP_DB = 1.5
_MIDDLE_STEP = 6
_LARGEST = 24  # multiple of the step
_CLASSES = 48
_CLASS_DB = 1.5
_FIELDS = ("level", "step", "left", "drift")
_FIRST_LEVEL = 5
_ZERO_ERROR = 0.2  # squared steps: largest expected error of a part that was rounded to zero
_LEAST_DRIFT = 0.02
_MIDDLE_CLASS = 34  # spread equal to the step
_TRADES = (0.05, 0.1, 0.2, 0.4)  # squared steps per bit
_SQRT2 = math.sqrt(2)
# Water-filling ends where the largest multiple of the finest step is the largest deviation, log2 below the latter.
_DEPTH = math.log2(_LARGEST * math.sqrt(12)) - _MIDDLE_STEP * _STEP_DB / (20 * math.log10(2))


@dataclass
class SideState:
    """Hold what both ends expect of each user's next difference.

    Parameters
    ----------
    level, step
        Level and step of the last one, int64 (users,).
    left
        Expected power of the error of the last reconstruction, per beam, float64 (users, antennas).
    drift
        Expected power of the prediction's error beyond ``left``, relative to the channel's, float64 (users,).
    """

    level: Tensor
    step: Tensor
    left: Tensor
    drift: Tensor

    @classmethod
    def initial(cls, users: int, antennas: int) -> SideState:
        """Return the state after a reset.

        Parameters
        ----------
        users, antennas
            Numbers of users and antennas.

        Returns
        -------
        SideState
            The state; of the errors of a snapshot's codec nothing is known but that they are largest near its beams.
        """
        ones = torch.ones(users, dtype=torch.float64)
        return cls(
            torch.full((users,), _FIRST_LEVEL),
            torch.full((users,), _MIDDLE_STEP),
            torch.zeros(users, antennas, dtype=torch.float64),
            ones,
        )

    def take(self, rows: Tensor) -> SideState:
        """Return a copy of some users' state.

        Parameters
        ----------
        rows
            Numbers of the users, int64 (rows,).

        Returns
        -------
        SideState
            The copy.
        """
        return SideState(*(getattr(self, name)[rows].clone() for name in _FIELDS))

    def put(self, rows: Tensor, other: SideState) -> None:
        """Replace some users' state.

        Parameters
        ----------
        rows
            Numbers of the users, int64 (rows,).
        other
            Their state.
        """
        for name in _FIELDS:
            getattr(self, name)[rows] = getattr(other, name)

    def settle(self, level: Tensor, step: Tensor, powers: tuple[Tensor, Tensor], multiple: Tensor, bits: int) -> None:
        """Enter a report: expected errors of the reconstruction, and the drift from the error of the prediction.

        Parameters
        ----------
        level, step
            Of the report; -1 as the step of a report without difference.
        powers
            Power of the prediction (users,) and expected power of the channel per beam (users, antennas).
        multiple
            Multiples of the step of all parts, int64 (users, 2 antennas).
        bits
            Bits of the report.
        """
        held = step < 0
        self.level, self.step = torch.where(held, self.level, level), torch.where(held, self.step, step)
        spread = self.left + self.drift.unsqueeze(1) * powers[1]
        deviation = _deviation(spread, powers[0], self.level)
        size = _step_size(deviation, self.step, bits)
        before, step_power = deviation.square(), size.square()
        unsent = before * _ZERO_ERROR * step_power / (before + _ZERO_ERROR * step_power)
        after = torch.where(multiple == 0, unsent, step_power / 12)
        total, power = before.sum(1), powers[1].sum(1)
        moved = (total - self.left.sum(1)).clamp(min=_LEAST_DRIFT * total) / power
        mixed = torch.where(self.left.sum(1) > 0, (self.drift + moved) / 2, moved)
        self.drift = torch.where(held, self.drift, mixed)
        self.left = torch.where(held.unsqueeze(1), spread, after[:, ::2] + after[:, 1::2])


def encode_difference(
    beams: Tensor, prediction: Tensor, channel_power: Tensor, state: SideState, bits: int
) -> tuple[list[int], Tensor]:
    """Code channels given their predictions.

    Parameters
    ----------
    beams, prediction
        complex128 (users, antennas), the phase of ``beams`` aligned with the prediction.
    channel_power
        Expected power of the channel per beam, float64 (users, antennas).
    state
        State of the users' side information; updated.
    bits
        Bits for every report.

    Returns
    -------
    numbers : list of int
        One below 2^bits per user.
    decoded : Tensor
        What `decode_difference` returns for them, complex128 (users, antennas).
    """
    spread = state.left + state.drift.unsqueeze(1) * channel_power
    power = prediction.abs().square().sum(1)
    tiny = torch.finfo(torch.float64).tiny
    correlation = (prediction.conj() * beams).sum(1).real / power.clamp(min=tiny)
    scale = (correlation.unsqueeze(1) - torch.tensor(SCALES)).abs().argmin(1)
    scaled = prediction * torch.tensor(SCALES, dtype=torch.float64)[scale].unsqueeze(1)
    target = torch.view_as_real(beams - scaled).flatten(1)
    ratio = target.square().sum(1) / power.clamp(min=tiny)
    level = (-10 * torch.log10(ratio.clamp(min=1e-30)) / _LEVEL_DB).round().long().clamp(0, _LEVELS - 1)
    deviation = _deviation(spread, power, level)
    side = torch.tensor(_SCALE_TABLE.lengths())[scale] + _near_lengths(_LEVELS)[state.level, level]
    step, multiple = _best_rounding(target, deviation, state.step, bits, side)
    symbols = [[_HELD]] * len(beams)
    tables = [[_SCALE_TABLE]] * len(beams)
    classes = _classes(deviation, _step_size(deviation, step, bits)).tolist()
    laplace, order = _laplace_tables(), _order()
    held = step < 0
    for user in (~held).nonzero().flatten().tolist():
        rows = classes[user]
        symbols[user] = [
            int(scale[user]),
            int(level[user]),
            int(step[user]),
            *(order[value] for value in multiple[user].tolist()),
        ]
        tables[user] = [
            _SCALE_TABLE,
            _near_tables(_LEVELS)[int(state.level[user])],
            _near_tables(_STEPS)[int(state.step[user])],
            *(laplace[row] for row in rows),
        ]
    decoded = _assemble(scaled, deviation, step.clamp(min=0), multiple, bits)
    decoded = torch.where(held.unsqueeze(1), prediction, decoded)
    state.settle(level, step, (power, channel_power), multiple, bits)
    return [encode_symbols(*pair, bits) for pair in zip(symbols, tables, strict=True)], decoded


def decode_difference(
    numbers: Sequence[int], prediction: Tensor, channel_power: Tensor, state: SideState, bits: int
) -> Tensor:
    """Invert `encode_difference`.

    Parameters
    ----------
    numbers
        One per user.
    prediction, channel_power, state, bits
        As there.

    Returns
    -------
    Tensor
        Beams, complex128 (users, antennas).
    """
    spread = state.left + state.drift.unsqueeze(1) * channel_power
    power = prediction.abs().square().sum(1)
    users, antennas = prediction.shape
    readers = [SymbolReader(number, bits) for number in numbers]
    scale = torch.tensor([reader.read(_SCALE_TABLE) for reader in readers])
    held = scale == _HELD
    level, step = state.level.clone(), state.step.clone()
    for user in (~held).nonzero().flatten().tolist():
        level[user] = readers[user].read(_near_tables(_LEVELS)[int(level[user])])
        step[user] = readers[user].read(_near_tables(_STEPS)[int(step[user])])
    deviation = _deviation(spread, power, level)
    classes = _classes(deviation, _step_size(deviation, step, bits)).tolist()
    multiple = torch.zeros(users, 2 * antennas, dtype=torch.int64)
    laplace, values = _laplace_tables(), _values()
    for user in (~held).nonzero().flatten().tolist():
        multiple[user] = torch.tensor([values[readers[user].read(laplace[row])] for row in classes[user]])
    factor = torch.tensor([*SCALES, 1.0], dtype=torch.float64)[scale].unsqueeze(1)
    decoded = _assemble(prediction * factor, deviation, step, multiple, bits)
    state.settle(level, torch.where(held, -1, step), (power, channel_power), multiple, bits)
    return torch.where(held.unsqueeze(1), prediction, decoded)


def _best_rounding(
    target: Tensor, deviation: Tensor, last_step: Tensor, bits: int, side: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the step, -1 where the prediction alone is better or nothing fits, and the multiples of each part."""
    best_step = torch.full((len(target),), -1)
    best_multiple = torch.zeros(target.shape, dtype=torch.int64)
    best_error = target.square().sum(1)
    water_level = _water_level(deviation, bits)
    for step in range(_STEPS):
        candidate = torch.full_like(best_step, step)
        size = _steps_from(water_level, candidate)
        classes = _classes(deviation, size)
        spent = side + _near_lengths(_STEPS)[last_step, step] + MARGIN
        for trade in _TRADES:
            multiple, length = _round(target / size, classes, trade)
            error = (target - _values_of(multiple, classes, size)).square().sum(1)
            better = (spent + length <= bits) & (error < best_error)
            best_error = torch.where(better, error, best_error)
            best_step = torch.where(better, candidate, best_step)
            best_multiple = torch.where(better.unsqueeze(1), multiple, best_multiple)
    return best_step, best_multiple


def _round(values: Tensor, classes: Tensor, trade: float) -> tuple[Tensor, Tensor]:
    """Round to the multiples of least error + trade x bits among the nearest, the one nearer to zero, and zero."""
    lengths, offset = _lengths(), classes * (2 * _LARGEST + 1) + _LARGEST
    best = values.round().clamp(-_LARGEST, _LARGEST)
    bits = lengths[offset + best.long()]
    cost = (values - best).square() + trade * bits
    for other in (best - best.sign(), torch.zeros_like(best)):
        other_bits = lengths[offset + other.long()]
        other_cost = (values - other).square() + trade * other_bits
        cheaper = other_cost < cost
        best, bits = torch.where(cheaper, other, best), torch.where(cheaper, other_bits, bits)
        cost = torch.minimum(cost, other_cost)
    return best.long(), bits.sum(1)


def _assemble(scaled: Tensor, deviation: Tensor, step: Tensor, multiple: Tensor, bits: int) -> Tensor:
    size = _step_size(deviation, step, bits)
    parts = _values_of(multiple, _classes(deviation, size), size)
    return scaled + torch.view_as_complex(parts.reshape(*scaled.shape, 2))


def _values_of(multiple: Tensor, classes: Tensor, size: Tensor) -> Tensor:
    """Return the centroids of the rounding intervals, in the units of the channel."""
    return _centroids()[classes * (2 * _LARGEST + 1) + _LARGEST + multiple] * size


def _deviation(spread: Tensor, power: Tensor, level: Tensor) -> Tensor:
    """Return the expected deviation of every real part, float64 (users, 2 antennas)."""
    total = power.clamp(min=torch.finfo(torch.float64).tiny) * 10 ** (-_LEVEL_DB * level.double() / 10)
    share = spread / spread.sum(1, keepdim=True)
    return (share * total.unsqueeze(1) / 2).sqrt().repeat_interleave(2, 1)


def _step_size(deviation: Tensor, step: Tensor, bits: int) -> Tensor:
    """Return the step from its number, see `_steps_from`, float64 (users, 1)."""
    return _steps_from(_water_level(deviation, bits), step)


def _water_level(deviation: Tensor, bits: int) -> Tensor:
    """Return the water level at which all bits are spent, or the lowest, log2, float64 (users, 1)."""
    logs = deviation.clamp(min=1e-150).log2()
    low, high = logs.amax(1, keepdim=True) - bits - 8, logs.amax(1, keepdim=True) + 1
    for _ in range(40):
        middle = (low + high) / 2
        spends = (logs - middle).clamp(min=0).sum(1, keepdim=True) > bits
        low, high = torch.where(spends, middle, low), torch.where(spends, high, middle)
    return high.clamp(min=logs.amax(1, keepdim=True) - _DEPTH)


def _steps_from(water_level: Tensor, step: Tensor) -> Tensor:
    """Return the step from its number: water-filling's step times 1.5 dB per number, float64 (users, 1)."""
    decibels = _STEP_DB * (step.double() - _MIDDLE_STEP).unsqueeze(1)
    return 2**water_level * math.sqrt(12) * 10 ** (decibels / 20)


def _classes(deviation: Tensor, size: Tensor) -> Tensor:
    """Return the number of the Laplace distribution of each part, int64 (users, 2 antennas)."""
    ratio = 20 * torch.log10((deviation / size).clamp(min=1e-30)) / _CLASS_DB
    return (ratio.round() + _MIDDLE_CLASS).clamp(0, _CLASSES - 1).long()


@cache
def _near_tables(size: int) -> list[FrequencyTable]:
    """Return the distributions of a number given the one before it."""
    return [FrequencyTable.of([0.002 + 2.0 ** -abs(i - j) for j in range(size)]) for i in range(size)]


@cache
def _near_lengths(size: int) -> Tensor:
    return torch.tensor([table.lengths() for table in _near_tables(size)], dtype=torch.float64)


@cache
def _values() -> list[int]:
    """Return the multiples in the order of their symbols: 0, 1, -1, 2, -2, ..."""
    return [0, *(sign * value for value in range(1, _LARGEST + 1) for sign in (1, -1))]


@cache
def _order() -> dict[int, int]:
    return {value: symbol for symbol, value in enumerate(_values())}


@cache
def _laplace_tables() -> list[FrequencyTable]:
    """Return the distributions of the multiples for each ratio of deviation to step."""
    tables = []
    for number in range(_CLASSES):
        scale = 10 ** (_CLASS_DB * (number - _MIDDLE_CLASS) / 20) / _SQRT2
        tails = [math.exp(-max(abs(value) - 0.5, 0) / scale) / 2 for value in _values()]
        masses = [
            tail * -math.expm1(-1 / scale) if value else -math.expm1(-0.5 / scale)
            for value, tail in zip(_values(), tails, strict=True)
        ]
        tables.append(FrequencyTable.of(masses))
    return tables


@cache
def _lengths() -> Tensor:
    """Return the code length of every multiple of every class, flat, float64."""
    rows = []
    for table in _laplace_tables():
        lengths = table.lengths()
        rows.append([lengths[_order()[value]] for value in range(-_LARGEST, _LARGEST + 1)])
    return torch.tensor(rows, dtype=torch.float64).flatten()


@cache
def _centroids() -> Tensor:
    """Return the mean of every rounding interval of every class, in steps, flat, float64."""
    rows = []
    for number in range(_CLASSES):
        scale = 10 ** (_CLASS_DB * (number - _MIDDLE_CLASS) / 20) / _SQRT2
        # Mean of an exponential of mean `scale` within one step, from the interval's inner end.
        inner = scale - 1 / math.expm1(1 / scale) if scale > 1 / 700 else scale
        shift = inner - 0.5
        rows.append([value + shift * (value > 0) - shift * (value < 0) for value in range(-_LARGEST, _LARGEST + 1)])
    return torch.tensor(rows, dtype=torch.float64).flatten()
