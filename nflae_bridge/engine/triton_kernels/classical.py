"""Compute classical schemes in one Triton program per drop: `wmmse`, `rzf`, `zf` and `mrt` of `simulator.schemes`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from nflae_bridge.engine.cuda_graphs.packed import PackedAnswer
from nflae_bridge.engine.device_problem import DeviceProblem
from nflae_bridge.engine.triton_kernels.arithmetic import (
    diagonal,
    effective_gains_of,
    inverse_of,
    scaled_gram,
    sinr,
    solve_wmmse,
    structured_beams,
)
from nflae_bridge.engine.triton_kernels.limits import project_powers
from nflae_bridge.engine.triton_kernels.serve import store_beams, store_rates
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import MAX_FP32_SNR
from simulator.downlink.rounding import MAX_ALGEBRA_SNR, MAX_CANCELLATION

USERS = 16
"""Users that a program has room for."""

METHODS = ("wmmse", "rzf", "zf", "mrt")
"""Schemes that there are kernels of."""

_ZF, _MRT = tl.constexpr(METHODS.index("zf")), tl.constexpr(METHODS.index("mrt"))
_MAX_INVERSE = tl.constexpr(1e6)  # trace of the inverse of the coherences up to which zero forcing needs no rank
_ANTENNAS = 64  # read at a time
_WARPS = 1
_MAX_CANCELLATION, _MAX_ALGEBRA_SNR = tl.constexpr(MAX_CANCELLATION), tl.constexpr(MAX_ALGEBRA_SNR)
_MAX_FP32_SNR = tl.constexpr(MAX_FP32_SNR)


def precode_classically(problem: DeviceProblem, answer: PackedAnswer, name: str, iterations: int = 0) -> None:
    """Write the answer of a classical scheme.

    Parameters
    ----------
    problem
        Problem of at most `USERS` users, with labels.
    answer
        Memory of the answer; near-field scores are not written.
    name
        One of `METHODS`.
    iterations
        Iterations of WMMSE from regularised zero forcing; 0 for the other schemes.
    """
    assert problem.near_field is not None
    drops, users, antennas = problem.channels.shape
    _precode[(drops,)](
        *(torch.view_as_real(problem.channels), problem.amplitude_scale, problem.near_field.view(torch.uint8)),
        *(problem.alpha_c, problem.min_rate, torch.view_as_real(answer.precoder), answer.table, answer.size.columns),
        *(antennas, users, iterations),
        **{"METHOD": METHODS.index(name), "LIMITED": problem.limits != Limits(), "P": USERS, "BLOCK": _ANTENNAS},
        num_warps=_WARPS,
    )


@triton.jit(do_not_specialize=["K", "steps", "columns"])
def _precode(
    channels, amplitude_scale, near_field, alpha_c, min_rate, precoder, table, columns, antennas, K, steps,
    METHOD: tl.constexpr, LIMITED: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    drop = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, P)
    there = index < K
    real, imag = scaled_gram(channels, tl.load(amplitude_scale + drop), drop, antennas, K, P, BLOCK)
    own = diagonal(real, P)
    equal = tl.where(there, 1 / K.to(tl.float64), 0.0)
    power_fractions, dual = equal, equal + float("nan")
    if METHOD == _MRT:
        re = tl.where(index[:, None] == index[None, :], 1.0, real * 0)
        im = re * 0
        gains, _ = effective_gains_of(real, imag, own, re, im)
        exact = tl.sum(tl.zeros([P], tl.int32), 0) + 1
    elif METHOD == _ZF:
        re, im, exact = _zero_forcing(real, imag, own, K, P)
        gains, _ = effective_gains_of(real, imag, own, re, im)
        exact = exact & (tl.max(own, 0) <= _MAX_ALGEBRA_SNR).to(tl.int32)
    else:
        re, im, gains, energy = structured_beams(real, imag, own, equal, K, P)
        exact = _keeps_digits(own, re, im, energy)
        dual, power_fractions, re, im, gains = solve_wmmse(real, imag, own, equal, equal, K, steps, P)
    feasible = tl.sum(tl.zeros([P], tl.int32), 0) + 1
    if LIMITED:
        near = tl.load(near_field + drop * K + index, mask=there, other=0) > 0
        share, least = tl.load(alpha_c + drop), tl.load(min_rate + drop)
        power_fractions, feasible = project_powers(gains, power_fractions, near, share, least, there, K, P)
    line = table + drop * columns
    tl.store(line + index, power_fractions, mask=there)
    tl.store(line + K + index, dual, mask=there)
    store_rates(line, sinr(gains, power_fractions, P), feasible, feasible * 0, exact, own, there, K, P)
    store_beams(re, im, channels, precoder, drop, antennas, K, P, BLOCK)


@triton.jit
def _zero_forcing(real, imag, own, K, P: tl.constexpr):
    """Return `zf.zero_forcing_coefficients` in two parts, and whether Gamma is of full rank by far, 0 or 1."""
    index = tl.arange(0, P)
    norm = tl.where(own > 0, tl.sqrt(own), 1.0)
    by = 1 / (norm[:, None] * norm[None, :])
    same = index[:, None] == index[None, :]
    re = tl.where(same & (own == 0)[:, None], 1.0, real * by)
    re, im, least = inverse_of(re, tl.where(same, 0.0, imag * by), K, P)
    exact = (least > 0) & (tl.sum(diagonal(re, P), 0) < _MAX_INVERSE) & (tl.min(tl.where(index < K, own, 1.0), 0) > 0)
    return re * by, im * by, exact.to(tl.int32)


@triton.jit
def _keeps_digits(own, re, im, energy):
    """Return whether `simulator.downlink.rounding.loses_digits` does not mark a drop, 0 or 1."""
    parts = tl.sum((re * re + im * im) * own[:, None], 0)
    cancels = tl.max((parts > energy * _MAX_CANCELLATION).to(tl.int32), 0)
    strongest = tl.max(own, 0)
    lossy = (strongest > _MAX_ALGEBRA_SNR) | ((cancels > 0) & (strongest > _MAX_FP32_SNR))
    return 1 - lossy.to(tl.int32)
