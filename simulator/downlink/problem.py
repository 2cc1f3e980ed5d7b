"""The downlink's quantities: link budget, the K x K Gram matrix, SINR, rates, and the constraints C1-C5.

Signal model: y_k = h_k^H sum_j w_j sqrt(P_j) s_j + n_k, n_k ~ CN(0, sigma^2). Everything below works on
Gamma = (P / sigma^2) H^H H, the dimensionless K x K matrix that holds all a precoder needs to know, and on shares
P_k / P of the power budget. No quantity here has the size of the array but the channels and the precoders.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Limits:
    """C3 and C4 as tensors, for computing with them; None for one that binds on no drop.

    alpha_c, min_rate: as in `LinkBudget`, real (drops or 1,).
    """

    alpha_c: Tensor | None = None
    min_rate: Tensor | None = None

    def select(self, drops: Tensor) -> Limits:
        """Those of the drops where ``drops`` (bool) is true."""

        def part(value: Tensor | None) -> Tensor | None:
            return value if value is None or len(value) == 1 else value[drops.to(value.device)]

        return Limits(part(self.alpha_c), part(self.min_rate))


@dataclass(frozen=True)
class ChannelBatch:
    """Channels of several drops, with near-field labels where they are known.

    channels: complex64 (drops, users, antennas); row k of a drop is h_k.
    near_field: bool (drops, users), or None: a scheme then finds the labels itself.
    """

    channels: Tensor
    near_field: Tensor | None = None


def per_drop(value: float | Tensor, like: Tensor) -> Tensor:
    """A budget's quantity as a real tensor of shape (drops or 1,), in ``like``'s real precision and device."""
    real = torch.float64 if like.dtype in (torch.complex128, torch.float64) else torch.float32
    return torch.as_tensor(value, dtype=real, device=like.device).reshape(-1)


def amplitude_scale_of(budget: LinkBudget, device: torch.device) -> Tensor:
    """sqrt(P / sigma^2), which scales channels to the noise's unit; float64 (drops or 1,)."""
    ratio = torch.as_tensor(budget.power / budget.noise_power, dtype=torch.float64, device=device)
    return torch.sqrt(ratio).reshape(-1)


def normalised_gram(channels: Tensor, budget: LinkBudget, precision: torch.dtype = torch.complex128) -> Tensor:
    """Gamma = (P / sigma^2) H^H H, Gamma_ij = (P / sigma^2) h_i^H h_j.

    channels: complex (drops, users, antennas). Returns ``precision`` (drops, users, users), Hermitian.
    The factor goes onto the channels first, so that CSI in any unit (1e-6 of a volt) stays in range.
    """
    return scaled_gram(amplitude_scale_of(budget, channels.device), channels, precision)


def scaled_gram(amplitude_scale: Tensor, channels: Tensor, precision: torch.dtype = torch.complex128) -> Tensor:
    """Gamma as `normalised_gram` gives it, with sqrt(P / sigma^2) at hand; units: float64 (drops or 1,)."""
    scaled = channels.to(precision) * amplitude_scale.to(precision).reshape(-1, 1, 1)
    return scaled.conj() @ scaled.transpose(-1, -2)


# Rounding in single precision is amplified by 1 / (1 - coherence) and drowns in noise up to some 33 dB.
MAX_FP32_COHERENCE = 0.999
MAX_FP32_SNR = 2e3
IN_RANGE = 1e-25
IN_CACHE = 64  # drops whose channels stay in a core's cache


def mixed_precision_gram(channels: Tensor, budget: LinkBudget) -> tuple[Tensor, Tensor]:
    """Gamma as `normalised_gram` gives it, with the sums over antennas in single precision on drops where that does.

    It doesn't where two users stand nearly side by side, an SNR is beyond what single precision resolves, CSI comes in
    units near the ends of its range, users are more than half as many as antennas, or minimum rates have to be kept to
    the last digit: there all is in double. So it is on a GPU, to which these sums are nothing and a question is dear.

    channels: complex64 (drops, users, antennas). Returns complex128 (drops, users, users), and bool (drops,): the
    careful ones.
    """
    drops, users, antennas = channels.shape
    if budget.demands_rates or antennas < 2 * users or channels.is_cuda:
        return normalised_gram(channels, budget), torch.ones(drops, dtype=torch.bool, device=channels.device)
    amplitude_scale = amplitude_scale_of(budget, channels.device).square().reshape(-1, 1, 1)
    # A few drops at a time: they are in the cache still when their conjugates are multiplied.
    sums = [part.conj() @ part.transpose(-1, -2) for part in torch.split(channels, IN_CACHE)]
    rough = torch.cat(sums).to(torch.complex128)
    energy = rough.diagonal(dim1=-2, dim2=-1).real
    gram = rough * amplitude_scale
    pairs = squared_magnitude(rough) - torch.diag_embed(energy.square())
    alike = pairs > MAX_FP32_COHERENCE * (energy.unsqueeze(-1) * energy.unsqueeze(-2))
    loud = energy * amplitude_scale.squeeze(-1) > MAX_FP32_SNR
    in_range = (energy > IN_RANGE) & (energy < 1 / IN_RANGE)
    needs_float64 = (alike.any(-1) | loud | ~in_range).any(-1)
    count = int(needs_float64.sum())
    if count == drops:
        gram = normalised_gram(channels, budget)
    elif count:
        gram[needs_float64] = normalised_gram(channels[needs_float64], budget.select(needs_float64))
    return gram, needs_float64


def squared_magnitude(values: Tensor) -> Tensor:
    """|z|^2, real, without the square root that |z| costs. values: complex."""
    return values.real.square() + values.imag.square()


def effective_gains_of(gram: Tensor, coefficients: Tensor) -> Tensor:
    """F_kj = (P / sigma^2) |h_k^H w_j|^2 for unit-norm w_j ~ sum_i coefficients_ij h_i.

    gram: Gamma, complex (drops, users, users); coefficients: complex (drops, users, users), column j for user j.
    Returns real (drops, users, users). A beam of no energy (a null channel) couples into nobody.
    """
    return effective_gains_and_energy(gram, coefficients)[0]


def effective_gains_and_energy(gram: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """F as `effective_gains_of` gives it, and (P / sigma^2) ||sum_i coefficients_ij h_i||^2, real (drops, users)."""
    seen = gram @ coefficients
    energy = (coefficients.real * seen.real + coefficients.imag * seen.imag).sum(-2, keepdim=True)
    own = gram.diagonal(dim1=-2, dim2=-1).real.unsqueeze(-1)
    # Between users with one channel the energy is a difference of large numbers; its rounding must not pass for
    # a beam of no length, and no unit-norm beam gives a user more than ||h_k||^2.
    precision = torch.finfo(energy.dtype)
    rounding = 8 * precision.eps * (squared_magnitude(coefficients) * own).sum(-2, keepdim=True)
    effective_gains = squared_magnitude(seen) / torch.maximum(energy, rounding).clamp(min=precision.tiny)
    return torch.minimum(effective_gains, own), energy.squeeze(-2)


def effective_gains_of_beams(channels: Tensor, precoder: Tensor, budget: LinkBudget) -> Tensor:
    """F_kj = (P / sigma^2) |h_k^H w_j|^2 for beams of any kind, from the definition.

    channels, precoder: complex (drops, users, antennas), the precoder's rows of unit norm. Returns float64 (drops,
    users, users).
    """
    scaled = channels.to(torch.complex128) * amplitude_scale_of(budget, channels.device).reshape(-1, 1, 1)
    return squared_magnitude(scaled.conj() @ precoder.to(torch.complex128).transpose(-1, -2))


def sinr(effective_gains: Tensor, power_fractions: Tensor) -> Tensor:
    """SINR_k = F_kk q_k / (1 + sum_{j != k} F_kj q_j), linear.

    couplings: F, real (drops, users, users); shares: q = P_k / P, real (drops, users). Returns (drops, users).
    """
    received = effective_gains * power_fractions.unsqueeze(-2)
    signal = received.diagonal(dim1=-2, dim2=-1)
    # The sum without the signal, not the sum minus it: at 60 dB the difference would be rounding.
    interference = (received - torch.diag_embed(signal)).sum(-1)
    return signal / (1 + interference)


def rates(sinr_linear: Tensor) -> Tensor:
    """R_k = log2(1 + SINR_k), bps/Hz."""
    return torch.log2(1 + sinr_linear)


def achieved_sinr(channels: Tensor, precoder: Tensor, power: Tensor, noise_power: float | Tensor) -> Tensor:
    """SINR from its definition: |h_k^H w_k|^2 P_k / (sum_{j != k} |h_k^H w_j|^2 P_j + sigma^2), linear.

    channels, precoder: complex (drops, users, antennas); power: real (drops, users), W; noise_power: W.
    Returns float64 (drops, users). It uses nothing but the answer, so it checks every scheme independently.
    """
    effective = channels.to(torch.complex128).conj() @ precoder.to(torch.complex128).transpose(-1, -2)
    noise = torch.as_tensor(noise_power, dtype=torch.float64, device=channels.device).reshape(-1, 1, 1)
    return sinr(squared_magnitude(effective) / noise, power.double())


@dataclass(frozen=True)
class ConstraintCheck:
    """By how much each constraint is violated on each drop; float64 (drops,), 0 where it holds.

    total_power (C1) and near_share (C3) as shares of P; negative_power (C2) as a share of P;
    min_rate (C4) in bps/Hz, the worst user's; beam_norm (C5) as | ||w_k|| - 1 |, the worst user's.
    """

    total_power: Tensor
    negative_power: Tensor
    near_share: Tensor
    min_rate: Tensor
    beam_norm: Tensor


def check_constraints(
    channels: Tensor, precoder: Tensor, power: Tensor, near_field: Tensor, budget: LinkBudget
) -> ConstraintCheck:
    """How far (precoder, power) is from C1-C5 under ``budget``; C3 goes by the labels ``near_field``.

    Shapes as in `achieved_sinr`; near_field: bool (drops, users).
    """
    power_fractions = power.double() / per_drop(budget.power, power.double()).unsqueeze(-1)
    allowed = per_drop(budget.alpha_c, power_fractions)
    rate = rates(achieved_sinr(channels, precoder, power, budget.noise_power))
    demanded = per_drop(budget.min_rate, power_fractions).unsqueeze(-1)
    norms = torch.linalg.vector_norm(precoder.to(torch.complex128), dim=-1)
    return ConstraintCheck(
        total_power=(power_fractions.sum(-1) - 1).clamp(min=0),
        negative_power=(-power_fractions).clamp(min=0).amax(-1),
        near_share=((power_fractions * near_field).sum(-1) - allowed).clamp(min=0),
        min_rate=(demanded - rate).clamp(min=0).amax(-1),
        beam_norm=(norms - 1).abs().amax(-1),
    )
