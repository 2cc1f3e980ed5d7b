"""Classify wavefronts on a GPU: `nflae_bridge.network.encoders.wavefront` with its small operations in one kernel."""

from __future__ import annotations

import logging

import torch
import triton
import triton.language as tl
from torch import Tensor

from nflae_bridge.engine.triton_kernels.arithmetic import angle_of
from nflae_bridge.network.encoders.gram import InvariantEncoder
from nflae_bridge.network.encoders.wavefront import (
    CURVATURES,
    QUANTITIES,
    SLOPES,
    SUBARRAYS,
    WavefrontClassifier,
    chirps,
    fourier,
    subarray_length,
)
from nflae_bridge.network.model import PrecodingNetwork

LONGEST = 64
"""Antennas per sub-array that a program has room for."""

_LOG = logging.getLogger("nflae_bridge.engine")
_USERS = 16  # matched with chirps in a program
_MATCH = tl.constexpr(3 * SUBARRAYS + 2 * (SUBARRAYS - 2) + 3)  # first column of the matches with chirps
_LEAST = tl.constexpr(1e-30)
_LEAST_BEND = tl.constexpr(1e-12)
_LARGEST_BEND = tl.constexpr(3 / SUBARRAYS)
_LEAST_NORM = tl.constexpr(1e-15)
_S = tl.constexpr(SUBARRAYS)
_COLUMNS = tl.constexpr(QUANTITIES)
_CURVATURES, _SLOPES = tl.constexpr(CURVATURES), tl.constexpr(SLOPES)


class WavefrontKernel:
    """Hold a classifier's weights for the kernel.

    Parameters
    ----------
    classifier
        The classifier, on its device.
    """

    def __init__(self, classifier: WavefrontClassifier) -> None:
        weight, bias = classifier.first_layer()
        self._first = weight.detach(), bias.detach()
        self._rest = classifier.layers[1:]
        self._compiles = True

    @staticmethod
    def of(network: PrecodingNetwork) -> WavefrontKernel | None:
        """Return the kernel of a network's classifier; None for a network without one.

        Parameters
        ----------
        network
            The network, on its device.

        Returns
        -------
        WavefrontKernel or None
        """
        encoder = network.encoder
        return WavefrontKernel(encoder.classifier) if isinstance(encoder, InvariantEncoder) else None

    def scores(self, channels: Tensor) -> Tensor | None:
        """Compute near-field scores.

        Parameters
        ----------
        channels
            complex64 (..., antennas).

        Returns
        -------
        Tensor or None
            float64 (...), in [0, 1]; None for channels that are not on a GPU, for more antennas than a program has room
            for, and where the kernels cannot be compiled.
        """
        if not channels.is_cuda or subarray_length(channels.shape[-1]) > LONGEST or not self._compiles:
            return None
        try:
            with torch.no_grad(), torch.cuda.device_of(channels):  # Triton launches on the current device
                return torch.sigmoid(self.logits(channels.resolve_conj()).double())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of Triton, on this machine; PyTorch's operations give the same
            self._compiles = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _LOG.warning("near-field classifier: no kernels of Triton's (%s); PyTorch computes instead", reason)
            return None

    def logits(self, channels: Tensor) -> Tensor:
        """Compute near-field logits.

        Parameters
        ----------
        channels
            complex64 (..., antennas), of at most 16 `LONGEST` antennas.

        Returns
        -------
        Tensor
            float32 (...).
        """
        users = channels.reshape(-1, channels.shape[-1])
        length = subarray_length(channels.shape[-1])
        values = torch.empty(len(users), QUANTITIES, device=users.device)
        _quantities[(len(users),)](
            *(torch.view_as_real(users), fourier(length, users.device), values, users.shape[-1], length),
            L=max(16, triton.next_power_of_2(length)),
            num_warps=4,
        )
        _match[(triton.cdiv(len(users), _USERS), CURVATURES)](
            *(values, chirps(users.device), len(users)), **{"USERS": _USERS}, num_warps=4
        )
        weight, bias = self._first
        hidden = torch.addmm(bias, values, weight)
        readings: Tensor = self._rest(hidden.reshape(-1, weight.shape[1] // 2))
        return readings.reshape(-1, 2).amax(-1).reshape(channels.shape[:-1])


@triton.jit(do_not_specialize=["length"])
def _quantities(channels, matrix, values, antennas, length, L: tl.constexpr):
    """Write `wavefront.wavefront_quantities` of a user, but for the matches with chirps."""
    user = tl.program_id(0).to(tl.int64)
    row, place = tl.arange(0, _S), tl.arange(0, L)
    at = row[:, None] * length + place[None, :]
    inside = (place[None, :] < length) & (at < antennas)
    re = tl.load(channels + (user * antennas + at) * 2, mask=inside, other=0.0)
    im = tl.load(channels + (user * antennas + at) * 2 + 1, mask=inside, other=0.0)
    re, im = _normalised(re, im)
    first, second = _spectrum(re, im, matrix, length, 0, L), _spectrum(re, im, matrix, length, 1, L)
    energy = tl.sum(first * first + second * second, 0)
    beam = tl.arange(0, 2 * L)
    beams = 2 * length
    energy = tl.where(beam < beams, energy, -1.0)
    best = tl.argmax(energy, 0)
    re, im = _column(first, beam, best), _column(second, beam, best)
    size = tl.maximum(tl.sqrt(tl.sum(re * re + im * im, 0)), _LEAST)
    re, im = re / size, im / size

    step_re, step_im = _steps(re, im, row)
    angle = angle_of(tl.sum(step_re, 0).to(tl.float64) + _LEAST, tl.sum(step_im, 0).to(tl.float64))
    turn = angle * row.to(tl.float64)
    cosine, sine = tl.cos(turn).to(tl.float32), tl.sin(turn).to(tl.float32)
    flat_re, flat_im = re * cosine + im * sine, im * cosine - re * sine
    total_re, total_im = tl.sum(flat_re, 0) + _LEAST, tl.sum(flat_im, 0)
    size = tl.maximum(tl.sqrt(total_re * total_re + total_im * total_im), _LEAST)
    total_re, total_im = total_re / size, total_im / size
    flat_re, flat_im = flat_re * total_re + flat_im * total_im, flat_im * total_re - flat_re * total_im
    bend_re, bend_im = _steps(step_re, step_im, row)
    size = tl.maximum(tl.sqrt(bend_re * bend_re + bend_im * bend_im), _LEAST_BEND)

    line = values + user * _COLUMNS
    tl.store(line + row, flat_re)
    tl.store(line + _S + row, flat_im)
    tl.store(line + 2 * _S + row, tl.sqrt(flat_re * flat_re + flat_im * flat_im))
    tl.store(line + 3 * _S + row, bend_re / size, mask=row < _S - 2)
    tl.store(line + 4 * _S - 2 + row, bend_im / size, mask=row < _S - 2)
    line += 5 * _S - 4
    tl.store(line, tl.sum(tl.where(beam == best, energy, 0.0), 0))
    tl.store(line + 1, tl.sum(tl.where(beam == (best + beams - 2) % beams, energy, 0.0), 0))
    tl.store(line + 2, tl.sum(tl.where(beam == (best + 2) % beams, energy, 0.0), 0))
    line = values + (user + 1) * _COLUMNS - 2
    tl.store(line, tl.minimum(tl.maximum(tl.sum(bend_re, 0), -_LARGEST_BEND), _LARGEST_BEND))
    tl.store(line + 1, tl.minimum(tl.maximum(tl.sum(bend_im, 0), -_LARGEST_BEND), _LARGEST_BEND))


@triton.jit
def _normalised(re, im):
    """Scale a user's channel to unit norm, by way of entries of order one where its energy leaves the range."""
    norm = tl.sqrt(tl.sum(tl.sum(re * re + im * im, 1), 0))
    largest = tl.max(tl.max(tl.maximum(tl.abs(re), tl.abs(im)), 1), 0)
    outside = ((norm > _LEAST_NORM) & (norm < 1 / _LEAST_NORM)) == 0
    by = tl.where(outside & (largest > 0), largest, 1.0)
    re, im = re / by, im / by
    norm = tl.maximum(tl.sqrt(tl.sum(tl.sum(re * re + im * im, 1), 0)), _LEAST)
    return re / norm, im / norm


@triton.jit
def _spectrum(re, im, matrix, length, part: tl.constexpr, L: tl.constexpr):
    """Return the real (0) or imaginary (1) parts of the beams by `wavefront.fourier`, (16, 2 L)."""
    place, beam = tl.arange(0, L), tl.arange(0, 2 * L)
    inside = (place[:, None] < length) & (beam[None, :] < 2 * length)
    at = matrix + place[:, None] * (8 * length) + part * (2 * length) + beam[None, :]
    of_real = tl.load(at, mask=inside, other=0.0)
    of_imag = tl.load(at + 4 * length, mask=inside, other=0.0)
    return tl.dot(im, of_imag, tl.dot(re, of_real, input_precision="ieee"), input_precision="ieee")


@triton.jit
def _column(values, beam, best):
    return tl.sum(tl.where(beam[None, :] == best, values, 0.0), 1)


@triton.jit
def _steps(re, im, row):
    """Return `wavefront._steps`, with 0 in place of the last."""
    following = row[None, :] == row[:, None] + 1
    next_re = tl.sum(tl.where(following, re[None, :], 0.0), 1)
    next_im = tl.sum(tl.where(following, im[None, :], 0.0), 1)
    return next_re * re + next_im * im, next_im * re - next_re * im


@triton.jit(do_not_specialize=["users"])
def _match(values, matrix, users, USERS: tl.constexpr):
    """Write how well chirps of one curvature match some users' outputs, as they are and conjugated."""
    user = tl.program_id(0).to(tl.int64) * USERS + tl.arange(0, USERS)
    row, slope = tl.arange(0, 2 * _S), tl.arange(0, _SLOPES)
    line = values + user * _COLUMNS
    outputs = tl.load(line[:, None] + row[None, :], mask=user[:, None] < users, other=0.0)
    for reading in tl.static_range(2):
        place = reading * _CURVATURES + tl.program_id(1)
        at = matrix + row[:, None] * (4 * _CURVATURES * _SLOPES) + place * _SLOPES + slope[None, :]
        re = tl.dot(outputs, tl.load(at), input_precision="tf32x3")
        im = tl.dot(outputs, tl.load(at + 2 * _CURVATURES * _SLOPES), input_precision="tf32x3")
        found = tl.sqrt(tl.maximum(tl.max(re * re + im * im, 1), _LEAST))
        tl.store(line + _MATCH + place, found, mask=user < users)
