"""Compute the effective channel after precoding as a block of Sionna PHY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from sionna.phy import ofdm
from sionna.phy.utils import expand_to_rank
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.sionna.operator import precode_drops
from nflae_bridge.sionna.resource_blocks import PrecoderGrid
from simulator.schemes.options import split_spec
from simulator.schemes.registry import check_scheme, needs_sic

if TYPE_CHECKING:
    from sionna.phy.mimo import StreamManagement

_NETWORK = "nflae"
_EQUAL_POWERS = ("mrt", "zf", "rzf", "sdma", "ldma")
_NEED_NO_NOISE = ("mrt", "zf", "rzf", "sdma", "ldma")
_AXES = 7  # of channels
_NOISE_AXES = "batch, transmitters, OFDM symbols, subcarriers"
_POWER_AXES = "batch, transmitters, streams, OFDM symbols, subcarriers"
_LEAST_ALPHA = 1e-9  # of the mean ||h_k||^2: RZF is ZF to single precision there


class PrecodedChannel(ofdm.PrecodedChannel):  # type: ignore[misc]  # Sionna is not typed
    """Compute the effective channel after precoding by the network or another scheme, for Sionna PHY.

    In place of `sionna.phy.ofdm.RZFPrecodedChannel`, with its constructor and its call; with ``scheme="rzf"`` it gives
    the same. Every transmitter serves its own streams, regardless of the others, in single precision. Works under
    `torch.compile`, also with ``fullgraph=True``, and is differentiable once, with respect to every tensor.

    Parameters
    ----------
    resource_grid : sionna.phy.ofdm.ResourceGrid
        Resource grid.
    stream_management : sionna.phy.mimo.StreamManagement
        Stream management; every receive antenna of a receiver is a stream.
    precision : {"single", "double"}, optional
        Precision of the effective channel.
    device : str, optional
        Device of the block, and of the network.
    scheme, model, refine
        As for `nflae_bridge.precode`; not ``"noma"``.
    powers : {"scheme", "given"}, optional
        ``"scheme"``: the sum of `tx_power` over the streams of a transmitter, distributed by the scheme; ``"given"``:
        `tx_power` as it is. By default the former, and the latter for the schemes of equal powers, mrt, zf, rzf, sdma
        and ldma.
    prg_size : int, optional
        Resource blocks per precoder, over all OFDM symbols of the grid, e.g. 1, or 2 and 4 as in 3GPP TS 38.214; by
        default one precoder per resource element.

    Raises
    ------
    NflaeError
        If an argument does not fit.
    """

    def __init__(
        self,
        resource_grid: ofdm.ResourceGrid,
        stream_management: StreamManagement,
        precision: Literal["single", "double"] | None = None,
        device: str | None = None,
        *,
        scheme: str = _NETWORK,
        model: str = "auto",
        refine: int = 0,
        powers: Literal["scheme", "given"] | None = None,
        prg_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(resource_grid, stream_management, precision=precision, device=device, **kwargs)
        self._scheme = check_scheme(scheme, (_NETWORK,), offer_sic=False)
        self._name = split_spec(self._scheme)[0]
        if needs_sic(self._scheme):
            raise NflaeError(f"scheme={scheme!r} needs receivers with SIC, which Sionna's chain has not: try 'nflae'")
        if refine < 0 or (self._name != _NETWORK and (refine or model != "auto")):
            raise NflaeError(f"refine={refine}, model={model!r}: at least 0 iterations, and for scheme='nflae' only")
        if powers not in (None, "scheme", "given"):
            raise NflaeError(f"powers must be 'scheme' or 'given', got {powers!r}")
        if prg_size is not None and prg_size < 1:
            raise NflaeError(f"prg_size must be a number of resource blocks of at least 1, or None, got {prg_size}")
        self._model, self._refine = str(model), refine
        self._keeps_powers = powers == "given" or (powers is None and self._name in _EQUAL_POWERS)
        self._grid = PrecoderGrid(resource_grid.effective_subcarrier_ind, resource_grid.fft_size, prg_size, self.device)

    def call(
        self,
        h: Tensor,
        tx_power: Tensor,
        h_hat: Tensor | None = None,
        alpha: float | Tensor = 0.0,
        no: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the effective channel after precoding.

        Parameters
        ----------
        h : Tensor
            Channels, complex (batch, receivers, receive antennas, transmitters, transmit antennas, OFDM symbols,
            subcarriers).
        tx_power : Tensor
            Powers of the streams, real (batch, transmitters, streams, OFDM symbols, subcarriers), or the first of these
            axes, W.
        h_hat : Tensor, optional
            CSI of the transmitter, of the shape of `h`; by default `h`.
        alpha : float or Tensor
            Regularisation of RZF, K sigma^2 / P for K streams of total power P: it states the noise. Real (batch,
            transmitters, OFDM symbols, subcarriers), or the first of these axes.
        no : float or Tensor, optional
            Noise power sigma^2 per resource element, W, of the axes of `alpha`; in place of `alpha`.

        Returns
        -------
        Tensor
            Complex (batch, receivers, receive antennas, transmitters, streams, OFDM symbols, effective subcarriers).

        Raises
        ------
        NflaeError
            If the scheme depends on the noise and neither `alpha` nor `no` states it, both do, a tensor is of another
            shape or channels are real, the CSI is NaN or infinite, or a power, `alpha` or `no` is NaN or negative.
        """
        without_alpha = isinstance(alpha, (int, float)) and alpha == 0
        if no is None and without_alpha and self._name not in _NEED_NO_NOISE:
            raise NflaeError(f"scheme {self._name!r} depends on the noise: pass no=sigma^2, or alpha=K*sigma^2/P")
        if no is not None and not without_alpha:
            raise NflaeError("alpha and no both state the noise: leave one out; alpha=K*sigma^2/P, no=sigma^2")
        self._check_channels(h, h_hat)
        known = self.get_desired_channels(h if h_hat is None else h_hat)
        batch, transmitters, symbols, subcarriers, streams = known.shape[:5]
        power = _of_shape("tx_power", tx_power, (batch, transmitters, streams, symbols, subcarriers), _POWER_AXES)
        noise = self._noise(power.sum(2), alpha, no)
        usable = (power >= 0).all(2)  # not NaN either
        precoder, fractions = self._precode(known, torch.where(usable, noise, torch.nan))
        if not self._keeps_powers:
            power = power.sum(2, keepdim=True) * fractions.movedim(-1, 2).to(power.dtype)
        g = self.apply_tx_power(precoder.transpose(-1, -2).to(self.cdtype), power)
        effective: Tensor = self.compute_effective_channel(h, g)
        return effective

    def _check_channels(self, h: Tensor, h_hat: Tensor | None) -> None:
        """Raise NflaeError unless channels and CSI are of the grid and the stream management."""
        receivers, transmitters = self._stream_management.num_rx, self._stream_management.num_tx
        antennas = self._stream_management.num_streams_per_tx // self._stream_management.precoding_ind.shape[1]
        subcarriers = self._resource_grid.fft_size
        if h.ndim != _AXES or (*h.shape[1:4], h.shape[-1]) != (receivers, antennas, transmitters, subcarriers):
            raise NflaeError(
                f"h must be (batch, {receivers} receivers, {antennas} receive antennas, {transmitters} transmitters,"
                f" transmit antennas, OFDM symbols, {subcarriers} subcarriers), got {tuple(h.shape)}"
            )
        for name, given in (("h", h), ("h_hat", h_hat)):
            if given is not None and not given.is_complex():
                raise NflaeError(f"{name} must be complex, got {given.dtype}: give the phases too")
        if h_hat is not None and h_hat.shape != h.shape:
            raise NflaeError(f"h_hat must be of the shape of h, {tuple(h.shape)}, got {tuple(h_hat.shape)}")

    def _noise(self, total: Tensor, alpha: float | Tensor, no: float | Tensor | None) -> Tensor:
        """Return K sigma^2 / P, real (batch, transmitters, OFDM symbols, subcarriers)."""
        stated = torch.as_tensor(alpha if no is None else no, dtype=self.dtype, device=total.device)
        stated = _of_shape("alpha" if no is None else "no", stated, total.shape, _NOISE_AXES)
        streams = self._stream_management.num_streams_per_tx
        found = stated if no is None else stated * streams / total
        return torch.where(found < 0, torch.nan, found)  # the operator refuses NaN

    def _precode(self, known: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return precoders, complex64 (..., streams, antennas), and P_k / P per resource element."""
        channels = self._grid.combine(known)
        alpha = self._grid.average(alpha)
        gain = channels.abs().square().sum(-1).mean(-1)
        alpha = torch.maximum(alpha, _LEAST_ALPHA * gain.detach()).clamp(min=torch.finfo(alpha.dtype).tiny)
        scale = torch.sqrt(channels.shape[-2] / alpha).unsqueeze(-1).unsqueeze(-1)
        drops = (channels.conj() * scale).to(torch.complex64).flatten(0, 3)
        precoder, fractions = precode_drops(drops, self._scheme, self._model, self._refine)
        shape, symbols = channels.shape[:4], known.shape[2]
        return (
            self._grid.spread(precoder.reshape(*shape, *precoder.shape[1:]), symbols),
            self._grid.spread(fractions.reshape(*shape, -1), symbols),
        )


def _of_shape(name: str, given: Tensor, shape: Sequence[int], axes: str) -> Tensor:
    """Return a tensor of the first axes broadcast to all of them; raises NflaeError for another shape."""
    expanded: Tensor = expand_to_rank(given, len(shape), axis=-1)
    if expanded.ndim != len(shape) or any(size not in (1, of) for size, of in zip(expanded.shape, shape, strict=True)):
        raise NflaeError(
            f"{name} must be ({axes}) = {tuple(shape)}, or the first of these axes, 1 where a value serves all of an"
            f" axis, got {tuple(given.shape)}"
        )
    return expanded.expand(*shape)
