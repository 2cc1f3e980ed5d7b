"""Quantise the norm of a channel, and gains relative to the strongest one by amplitude and phase."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NORM_BITS = 5
NORM_LEVELS = 1 << NORM_BITS
NORM_STEP_DB = 1.5
AMPLITUDE_LEVELS = 8
AMPLITUDE_STEP_DB = 3.0


def quantise_norms(norms: Tensor, reference: float) -> Tensor:
    """Quantise norms in steps of 1.5 dB below a reference, 5 bits: 0 to -46.5 dB.

    Parameters
    ----------
    norms
        ||h||, real (users,).
    reference
        Norm of level 0, known to both ends.

    Returns
    -------
    Tensor
        Levels, int64 (users,).
    """
    below = -20 * torch.log10((norms / reference).clamp(min=1e-30)) / NORM_STEP_DB
    return below.round().clamp(0, NORM_LEVELS - 1).long()


def norms_of_levels(levels: Tensor, reference: float) -> Tensor:
    """Invert `quantise_norms`.

    Parameters
    ----------
    levels
        int64 (users,).
    reference
        Norm of level 0.

    Returns
    -------
    Tensor
        Norms, float64 (users,).
    """
    return reference * 10 ** (-NORM_STEP_DB * levels.double() / 20)


def quantise_ratios(ratios: Tensor, phases: int) -> tuple[Tensor, Tensor]:
    """Quantise complex ratios of at most about 1: amplitudes in 3 bits and steps of 3 dB, phases uniformly.

    Level a has the amplitude 10^(-3 a / 20), from 0 to -21 dB; level p has the phase 2 pi p / ``phases``.

    Parameters
    ----------
    ratios
        Complex (...).
    phases
        Number of phases.

    Returns
    -------
    amplitude, phase : Tensor
        Levels, int64 (...).
    """
    below = -20 * torch.log10(ratios.abs().clamp(min=1e-30)) / AMPLITUDE_STEP_DB
    amplitude = below.round().clamp(0, AMPLITUDE_LEVELS - 1).long()
    phase = (ratios.angle() / (2 * math.pi) * phases).round().long() % phases
    return amplitude, phase


def ratios_of_levels(amplitude: Tensor, phase: Tensor, phases: int) -> Tensor:
    """Invert `quantise_ratios`.

    Parameters
    ----------
    amplitude, phase
        Levels, int64 (...).
    phases
        Number of phases.

    Returns
    -------
    Tensor
        complex128 (...).
    """
    return torch.polar(10 ** (-AMPLITUDE_STEP_DB * amplitude.double() / 20), 2 * math.pi * phase.double() / phases)
