"""Register precoding as an operator of PyTorch: opaque to `torch.compile`, with a gradient.

The gradient is computed by automatic differentiation of the scheme in a second pass; nothing is stored in between but
the channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import drops_per_block
from nflae_bridge.engine.schemes import cached_scheme
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch

_UNIT = LinkBudget(power=1.0, noise_power=1.0)


def _solve(channels: Tensor, scheme: str, model: str, refine: int) -> tuple[Tensor, Tensor]:
    """Return precoders, complex64 (drops, users, antennas), and P_k / P, float64 (drops, users)."""
    solver = cached_scheme(scheme, model, str(channels.device), refine)
    _, users, antennas = channels.shape
    blocks = torch.split(channels, drops_per_block(users, antennas, device_type=channels.device.type))
    solved = [solver(ChannelBatch(block), _UNIT) for block in blocks]
    return torch.cat([each.precoder for each in solved]), torch.cat([each.power for each in solved])


def precode_drops(channels: Tensor, scheme: str, model: str, refine: int) -> tuple[Tensor, Tensor]:
    """Compute precoders and power fractions of drops for unit power and unit noise power.

    Parameters
    ----------
    channels
        sqrt(P) / sigma h_k, complex64 (drops, users, antennas), y_k = h_k^H x + n_k.
    scheme, model, refine
        As for `nflae_bridge.precode`.

    Returns
    -------
    precoder
        Unit-norm w_k, complex64 (drops, users, antennas).
    power_fractions
        P_k / P, float64 (drops, users).

    Raises
    ------
    NflaeError
        If a channel is NaN or infinite.
    """
    precoder, power_fractions = _precode(channels, scheme, model, refine)
    return precoder, power_fractions


@torch.library.custom_op("nflae_bridge::precode", mutates_args=())
def _precode(channels: Tensor, scheme: str, model: str, refine: int) -> tuple[Tensor, Tensor]:
    """Compute what `precode_drops` returns."""
    if not bool(torch.view_as_real(channels.resolve_conj()).isfinite().all()):
        raise NflaeError("PrecodedChannel: h_hat (else h), tx_power, alpha or no is NaN, infinite or negative")
    precoder, power_fractions = _solve(channels, scheme, model, refine)
    return precoder.contiguous(), power_fractions.contiguous()


@torch.library.custom_op("nflae_bridge::precode_backward", mutates_args=())
def _backward(
    channels: Tensor, precoder_gradient: Tensor, power_gradient: Tensor, scheme: str, model: str, refine: int
) -> Tensor:
    """Return the gradient of the channels, complex64 (drops, users, antennas)."""
    recorded: Any = torch.func.vjp(lambda given: _solve(given, scheme, model, refine), channels)
    gradient: Tensor = recorded[1]((precoder_gradient, power_gradient))[0]
    return gradient.contiguous()


@_precode.register_fake
def _(channels: Tensor, scheme: str, model: str, refine: int) -> tuple[Tensor, Tensor]:
    return channels.new_empty(channels.shape), channels.new_empty(channels.shape[:2], dtype=torch.float64)


@_backward.register_fake
def _(
    channels: Tensor, precoder_gradient: Tensor, power_gradient: Tensor, scheme: str, model: str, refine: int
) -> Tensor:
    return channels.new_empty(channels.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep for the second pass what the operator was given."""
    ctx.save_for_backward(inputs[0])
    ctx.choice = inputs[1:]


def _differentiate(ctx: Any, precoder_gradient: Tensor, power_gradient: Tensor) -> tuple[Tensor, None, None, None]:
    """Return the gradients of the operator's arguments."""
    (channels,) = ctx.saved_tensors
    return _backward(channels, precoder_gradient, power_gradient, *ctx.choice), None, None, None


_precode.register_autograd(_differentiate, setup_context=_keep)
