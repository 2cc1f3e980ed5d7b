"""Estimate delays and Doppler shifts of paths from a grid of slots and subcarriers, by FFT and by 2-D ESPRIT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PADDING = 8  # of the FFT
_MIXING = 0.7  # of the two shift operators before their common eigenvectors are computed


def strongest_peaks(grid: Tensor, paths: int) -> Tensor:
    """Find paths one by one at the peaks of a zero-padded 2-D FFT, each subtracted before the next is sought.

    Parameters
    ----------
    grid
        complex64 (rows, slots, subcarriers), sum of exp(j 2 pi (nu t - tau f)) and noise.
    paths
        Number of paths.

    Returns
    -------
    Tensor
        Doppler shift nu, cycles per slot, and delay tau, cycles per subcarrier, real (rows, paths, 2), modulo 1, the
        strongest path first.
    """
    slots, subcarriers = grid.shape[1:]
    left, found = grid, []
    for _ in range(paths):
        spectrum = torch.fft.fft2(left, s=(PADDING * slots, PADDING * subcarriers)).abs().flatten(1)
        peak = spectrum.argmax(-1)
        doppler = (peak // (PADDING * subcarriers)) / (PADDING * slots)
        delay = -(peak % (PADDING * subcarriers)) / (PADDING * subcarriers)
        wave = path_waves(torch.stack([doppler, delay], -1), slots, subcarriers)
        gain = (wave.conj() * left).mean((1, 2), keepdim=True)
        left = left - gain * wave
        found.append(torch.stack([doppler, delay], -1))
    return torch.stack(found, 1)


def esprit_2d(grid: Tensor, paths: int) -> Tensor:
    """Find paths by 2-D ESPRIT with spatial smoothing.

    The signal space of all sub-grids of 3/4 of the slots and subcarriers is invariant to a shift along either axis; a
    common set of eigenvectors of the two shift operators pairs Doppler shifts with delays.

    Parameters
    ----------
    grid, paths
        As in `strongest_peaks`.

    Returns
    -------
    Tensor
        As in `strongest_peaks`.
    """
    rows, slots, subcarriers = grid.shape
    height, width = 3 * slots // 4, 3 * subcarriers // 4
    blocks = grid.to(torch.complex128).unfold(1, height, 1).unfold(2, width, 1)
    columns = blocks.reshape(rows, -1, height * width).mT
    backward = columns.flip(1).conj()  # the reversed conjugated grid has the same poles
    space = torch.linalg.svd(torch.cat([columns, backward], -1), full_matrices=False).U[..., :paths]
    shaped = space.reshape(rows, height, width, paths)
    along_time = torch.linalg.lstsq(shaped[:, :-1].flatten(1, 2), shaped[:, 1:].flatten(1, 2)).solution
    along_band = torch.linalg.lstsq(shaped[:, :, :-1].flatten(1, 2), shaped[:, :, 1:].flatten(1, 2)).solution
    vectors = torch.linalg.eig(_MIXING * along_time + (1 - _MIXING) * along_band).eigenvectors
    inverse = torch.linalg.pinv(vectors)
    poles = [torch.diagonal(inverse @ shift @ vectors, dim1=-2, dim2=-1).angle() for shift in (along_time, along_band)]
    found = torch.stack([poles[0], -poles[1]], -1) / (2 * math.pi)
    waves = path_waves(found.flatten(0, 1), slots, subcarriers).reshape(rows, paths, -1)
    gains = torch.linalg.lstsq(waves.mT.to(torch.complex128), grid.reshape(rows, -1, 1).to(torch.complex128)).solution
    order = gains[..., 0].abs().argsort(-1, descending=True)
    return found.gather(1, order.unsqueeze(-1).expand(-1, -1, 2)).float()


def path_waves(parameters: Tensor, slots: int, subcarriers: int) -> Tensor:
    """Return exp(j 2 pi (nu t - tau f)).

    Parameters
    ----------
    parameters
        nu and tau, real (rows, 2).
    slots, subcarriers
        Size of the grid.

    Returns
    -------
    Tensor
        complex64 (rows, slots, subcarriers).
    """
    time, band = torch.arange(slots), torch.arange(subcarriers)
    cycles = parameters[:, :1, None] * time[:, None] - parameters[:, 1:, None] * band
    phase = (2 * math.pi * (cycles - cycles.round())).float()
    return torch.polar(torch.ones_like(phase), phase)


def circular_error(found: Tensor, truth: Tensor) -> Tensor:
    """Return the distance of parameters modulo 1.

    Parameters
    ----------
    found, truth
        Real, of one shape.

    Returns
    -------
    Tensor
        0 to 0.5.
    """
    difference = found - truth
    return (difference - difference.round()).abs()
