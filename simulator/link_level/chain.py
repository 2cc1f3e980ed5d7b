"""From bits to bits: blocks for every user of a batch of drops, over the drops' effective channels.

y_k = h_k^H sum_j w_j sqrt(P_j) s_j + n_k. The array is summed over once: with E_kj = h_k^H w_j sqrt(P_j) / sigma every
symbol costs K x K products, whatever the number of antennas, and the noise is CN(0, 1). User k knows its own
g_k = E_kk and the power of everything else. It takes s_k = y_k / g_k, whose error has the variance 1 / SINR_k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.downlink.budget import per_drop
from simulator.downlink.gram import squared_magnitude
from simulator.downlink.sinr import sinr
from simulator.link_level.modulation import Modulation
from simulator.link_level.transceiver import Transceiver, sionna_device

# A user given less than this share of an equal part of the power has been switched off by the scheme: no block is sent.
_SWITCHED_OFF = 1e-3


def effective_channels(channels: Tensor, precoder: Tensor, power: Tensor, noise_power: float) -> Tensor:
    """E_kj = h_k^H w_j sqrt(P_j) / sigma, complex128 (drops, users, users): row k is what user k hears of stream j.

    channels, precoder: complex (drops, users, antennas); power: real (drops, users), W; noise_power: sigma^2, W.
    """
    amplitude = torch.sqrt(power.double() / noise_power)
    heard = channels.to(torch.complex128).conj() @ precoder.to(torch.complex128).transpose(-1, -2)
    return heard * amplitude.unsqueeze(-2)


def scheduled(power: Tensor, budget_power: float | Tensor) -> Tensor:
    """The users a scheme serves: those it has not switched off; bool (drops, users)."""
    return power > _SWITCHED_OFF * per_drop(budget_power, power).unsqueeze(-1) / power.shape[-1]


@dataclass(frozen=True)
class Waveform:
    """Symbols one by one over the flat channel, or, with ``subcarriers``, on an OFDM grid with a cyclic prefix."""

    subcarriers: int = 0
    prefix: int = 0

    def samples(self, symbols: int) -> int:
        """Channel uses that a block of symbols takes. Raises NflaeError if it doesn't fill OFDM symbols."""
        if not self.subcarriers:
            return symbols
        if symbols % self.subcarriers:
            raise NflaeError(
                f"--ofdm: {symbols} symbols don't fill OFDM symbols of {self.subcarriers} subcarriers;"
                f" give --symbols {-(-symbols // self.subcarriers) * self.subcarriers}"
            )
        return symbols // self.subcarriers * (self.subcarriers + self.prefix)


@dataclass(frozen=True)
class Draw:
    """What is random in a batch: the same for every scheme.

    bits: 0 and 1, float32 (drops, users, information bits of the largest format). idle: QPSK symbols, complex64 (drops,
    users, symbols), sent to users who get no block, so that their beams disturb the others as the formula says.
    noise: CN(0, 1), complex64 (drops, users, channel uses).
    """

    bits: Tensor
    idle: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Received:
    """What came of a batch, an entry a block, (drops, users).

    sent: bool; everything else is 0 where it is false. information_bits, bit_errors: int64.
    error_energy: sum over a block's symbols of |s_k - sent symbol|^2, float64. sinr: linear, float64, of all users.
    """

    sent: Tensor
    information_bits: Tensor
    bit_errors: Tensor
    error_energy: Tensor
    sinr: Tensor


class Chain:
    """Transmitter and receivers for blocks of ``symbols`` symbols, on one device.

    Raises NflaeError if Sionna is not installed or the waveform doesn't fit.
    """

    def __init__(
        self, modulation: Modulation, symbols: int, device: torch.device, waveform: Waveform | None = None
    ) -> None:
        self.symbols = symbols
        self.waveform = waveform or Waveform()
        self.channel_uses = self.waveform.samples(symbols)
        self.device = device
        self._transceivers = [Transceiver(form, symbols, device) for form in modulation.formats]
        self._required_db = torch.tensor(modulation.required_db, dtype=torch.float64, device=device)
        self._modulator = self._demodulator = None
        if self.waveform.subcarriers:
            from sionna.phy.ofdm import OFDMDemodulator, OFDMModulator

            place = sionna_device(device)
            self._modulator = OFDMModulator(self.waveform.prefix, device=place)
            self._demodulator = OFDMDemodulator(self.waveform.subcarriers, 0, self.waveform.prefix, device=place)

    def draw(self, drops: int, users: int, generator: torch.Generator) -> Draw:
        """Bits and noise for a batch. generator: on the chain's device."""
        most = max(transceiver.information_bits for transceiver in self._transceivers)

        def coins(*shape: int) -> Tensor:
            return torch.randint(0, 2, shape, dtype=torch.float32, generator=generator, device=self.device)

        shape = (drops, users, self.channel_uses)
        noise = torch.randn(shape, dtype=torch.complex64, generator=generator, device=self.device)
        idle = torch.view_as_complex((2 * coins(drops, users, self.symbols, 2) - 1) / 2**0.5)
        return Draw(coins(drops, users, most), idle, noise)

    @torch.no_grad()
    def run(self, effective: Tensor, serve: Tensor, draw: Draw) -> Received:
        """Send every user ``serve`` says, and whose SINR supports a format, one block, and receive it.

        effective: see `effective_channels`. serve: bool (drops, users).
        """
        ratio = sinr(squared_magnitude(effective), torch.ones_like(effective.real[..., 0]))
        form = self._choose(ratio, serve)
        sent = self._transmit(form, draw)
        own = effective.diagonal(dim1=-2, dim2=-1).to(torch.complex64).unsqueeze(-1)
        equalised = self._over_the_air(effective.to(torch.complex64), sent, draw.noise) / own
        served = form >= 0
        errors, bits = self._receive(form, equalised, ratio, draw)
        # Masked, not multiplied: what a user without power makes of its noise is not a number.
        energy = squared_magnitude(equalised - sent).sum(-1, dtype=torch.float64)
        return Received(served, bits, errors, torch.where(served, energy, torch.zeros_like(energy)), ratio)

    def _choose(self, ratio: Tensor, serve: Tensor) -> Tensor:
        """The last format whose SINR is reached, -1 for none; int64 (drops, users)."""
        reached = 10 * torch.log10(ratio).unsqueeze(-1) >= self._required_db
        order = torch.arange(1, len(self._required_db) + 1, device=self.device)
        return torch.where(serve, (reached * order).amax(-1), 0) - 1

    def _transmit(self, form: Tensor, draw: Draw) -> Tensor:
        """The users' symbols, complex64 (drops, users, symbols)."""
        symbols = draw.idle.clone()
        for index, transceiver in enumerate(self._transceivers):
            here = form == index
            if bool(here.any()):
                symbols[here] = transceiver.transmit(draw.bits[here][:, : transceiver.information_bits])
        return symbols

    def _over_the_air(self, effective: Tensor, symbols: Tensor, noise: Tensor) -> Tensor:
        if self._modulator is None or self._demodulator is None:
            return effective @ symbols + noise
        grid = symbols.reshape(*symbols.shape[:-1], -1, self.waveform.subcarriers)
        received: Tensor = self._demodulator(effective @ self._modulator(grid) + noise)
        return received.flatten(-2)

    def _receive(self, form: Tensor, equalised: Tensor, ratio: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Bit errors and information bits of every block, int64 (drops, users) each."""
        errors, bits = torch.zeros_like(form), torch.zeros_like(form)
        for index, transceiver in enumerate(self._transceivers):
            here = form == index
            if not bool(here.any()):
                continue
            decided = transceiver.receive(equalised[here], 1 / ratio[here])
            wrong = decided != draw.bits[here][:, : transceiver.information_bits]
            errors[here] = wrong.sum(-1)
            bits[here] = transceiver.information_bits
        return errors, bits
