"""Transmit blocks of bits to all users of a batch of drops and receive them, over effective channels.

Signal model: y_k = h_k^H sum_j w_j sqrt(P_j) s_j + n_k, n_k ~ CN(0, sigma^2). The sum over antennas is formed once:
with E_kj = h_k^H w_j sqrt(P_j) / sigma each symbol costs K x K products, independent of the number of antennas, and the
noise is CN(0, 1). User k has perfect knowledge of its own E_kk and of the power of interference plus noise. Its
estimate (y_k / sigma) / E_kk of s_k has the error variance 1 / SINR_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.downlink.budget import per_drop
from simulator.downlink.gram import squared_magnitude
from simulator.downlink.sinr import sinr
from simulator.link_level.modulation import Modulation
from simulator.link_level.transceiver import Transceiver, sionna_device

# A user with less than this fraction of P / K has been switched off by the scheme and is sent no block.
_MIN_POWER_FRACTION = 1e-3


def effective_channels(channels: Tensor, precoder: Tensor, power: Tensor, noise_power: float) -> Tensor:
    """Compute E_kj = h_k^H w_j sqrt(P_j) / sigma, the coefficient from stream j to user k.

    Parameters
    ----------
    channels, precoder
        complex (drops, users, antennas): rows h_k and w_j.
    power
        real (drops, users), W.
    noise_power
        sigma^2, W.

    Returns
    -------
    Tensor
        complex128 (drops, users, users), dimensionless; row k belongs to user k.
    """
    amplitude = torch.sqrt(power.double() / noise_power)
    coefficients = channels.to(torch.complex128).conj() @ precoder.to(torch.complex128).transpose(-1, -2)
    return coefficients * amplitude.unsqueeze(-2)


def scheduled(power: Tensor, budget_power: float | Tensor) -> Tensor:
    """Select the users that a scheme has not switched off.

    Parameters
    ----------
    power
        Power per user, real (drops, users), W.
    budget_power
        Power budget P, W, a number or real (drops,).

    Returns
    -------
    Tensor
        bool (drops, users); true where P_k > 10^-3 P / K.
    """
    return power > _MIN_POWER_FRACTION * per_drop(budget_power, power).unsqueeze(-1) / power.shape[-1]


@dataclass(frozen=True)
class Waveform:
    """Describe the waveform: single symbols over the flat channel, or OFDM with a cyclic prefix.

    Parameters
    ----------
    subcarriers
        Number of OFDM subcarriers; 0 for single symbols.
    prefix
        Length of the cyclic prefix, channel uses.
    """

    subcarriers: int = 0
    prefix: int = 0

    def samples(self, symbols: int) -> int:
        """Return the number of channel uses per block.

        Parameters
        ----------
        symbols
            Symbols per block.

        Returns
        -------
        int
            Channel uses, cyclic prefixes included.

        Raises
        ------
        NflaeError
            If the block does not fill an integer number of OFDM symbols.
        """
        if not self.subcarriers:
            return symbols
        if symbols % self.subcarriers:
            raise NflaeError(
                f"--ofdm: {symbols} symbols do not fill OFDM symbols of {self.subcarriers} subcarriers;"
                f" give --symbols {-(-symbols // self.subcarriers) * self.subcarriers}"
            )
        return symbols // self.subcarriers * (self.subcarriers + self.prefix)


@dataclass(frozen=True)
class RandomInputs:
    """Hold the random quantities of a batch, equal for all schemes.

    Parameters
    ----------
    bits
        0 and 1, float32 (drops, users, information bits of the largest format).
    idle
        QPSK symbols of unit energy, complex64 (drops, users, symbols), transmitted on the beams of users without a
        block, so that these beams interfere as the SINR formula assumes.
    noise
        CN(0, 1), complex64 (drops, users, channel uses).
    """

    bits: Tensor
    idle: Tensor
    noise: Tensor

    @staticmethod
    def joined(batches: Sequence[RandomInputs]) -> RandomInputs:
        """Concatenate the inputs of several batches.

        Parameters
        ----------
        batches
            Inputs per batch.

        Returns
        -------
        RandomInputs
            Inputs of all drops.
        """
        return RandomInputs(
            *(torch.cat([getattr(each, field.name) for each in batches]) for field in fields(RandomInputs))
        )


@dataclass(frozen=True)
class Received:
    """Hold the outcome of a batch, one entry per block, (drops, users).

    Parameters
    ----------
    sent
        bool, whether a block was sent; all other fields but ``sinr`` are 0 where it is false.
    information_bits, bit_errors
        int64.
    error_energy
        Sum over the symbols of a block of |estimate - transmitted symbol|^2, float64.
    sinr
        SINR by the formula, linear, float64, of all users.
    """

    sent: Tensor
    information_bits: Tensor
    bit_errors: Tensor
    error_energy: Tensor
    sinr: Tensor

    def part(self, drops: slice) -> Received:
        """Return the outcome of some drops.

        Parameters
        ----------
        drops
            The drops.

        Returns
        -------
        Received
            Their outcome.
        """
        return Received(*(getattr(self, field.name)[drops] for field in fields(self)))


class Chain:
    """Simulate the transmitter and the users' receivers for blocks of one length, on one device.

    Parameters
    ----------
    modulation
        Formats of the blocks, with the SINR from which each is used.
    symbols
        Symbols per block.
    device
        Device that computes.
    waveform
        Waveform; single symbols by default.

    Raises
    ------
    NflaeError
        If Sionna PHY is not installed or a block does not fill the waveform's OFDM symbols.
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

            name = sionna_device(device)
            self._modulator = OFDMModulator(self.waveform.prefix, device=name)
            self._demodulator = OFDMDemodulator(self.waveform.subcarriers, 0, self.waveform.prefix, device=name)

    def draw(self, drops: int, users: int, generator: torch.Generator) -> RandomInputs:
        """Draw bits, idle symbols and noise of a batch.

        Parameters
        ----------
        drops, users
            Size of the batch.
        generator
            Generator on the chain's device.

        Returns
        -------
        RandomInputs
            Random inputs of `run`.
        """
        largest = max(transceiver.information_bits for transceiver in self._transceivers)

        def random_bits(*shape: int) -> Tensor:
            return torch.randint(0, 2, shape, dtype=torch.float32, generator=generator, device=self.device)

        shape = (drops, users, self.channel_uses)
        noise = torch.randn(shape, dtype=torch.complex64, generator=generator, device=self.device)
        idle = torch.view_as_complex((2 * random_bits(drops, users, self.symbols, 2) - 1) / 2**0.5)
        return RandomInputs(random_bits(drops, users, largest), idle, noise)

    @torch.no_grad()
    def run(self, effective: Tensor, serve: Tensor, inputs: RandomInputs) -> Received:
        """Transmit and receive one block per scheduled user whose SINR supports a format.

        Parameters
        ----------
        effective
            Effective channels, complex128 (drops, users, users), see `effective_channels`.
        serve
            Scheduled users, bool (drops, users).
        inputs
            Bits, idle symbols and noise, see `draw`.

        Returns
        -------
        Received
            Outcome of every block.
        """
        ratio = sinr(squared_magnitude(effective), torch.ones_like(effective.real[..., 0]))
        chosen = self._choose_format(ratio, serve)
        transmitted = self._transmit(chosen, inputs)
        own = effective.diagonal(dim1=-2, dim2=-1).to(torch.complex64).unsqueeze(-1)
        equalised = self._propagate(effective.to(torch.complex64), transmitted, inputs.noise) / own
        sent = chosen >= 0
        errors, bits = self._receive(chosen, equalised, ratio, inputs)
        # Masked rather than multiplied: without power the estimate is NaN.
        energy = squared_magnitude(equalised - transmitted).sum(-1, dtype=torch.float64)
        return Received(sent, bits, errors, torch.where(sent, energy, torch.zeros_like(energy)), ratio)

    def _choose_format(self, ratio: Tensor, serve: Tensor) -> Tensor:
        """Return the index of the last format whose SINR is reached, -1 for none; int64 (drops, users)."""
        reached = 10 * torch.log10(ratio).unsqueeze(-1) >= self._required_db
        order = torch.arange(1, len(self._required_db) + 1, device=self.device)
        return torch.where(serve, (reached * order).amax(-1), 0) - 1

    def _transmit(self, chosen: Tensor, inputs: RandomInputs) -> Tensor:
        """Return the symbols on every beam, complex64 (drops, users, symbols); idle symbols without a block."""
        symbols = inputs.idle.clone()
        for index, transceiver in enumerate(self._transceivers):
            here = chosen == index
            if bool(here.any()):
                symbols[here] = transceiver.transmit(inputs.bits[here][:, : transceiver.information_bits])
        return symbols

    def _propagate(self, effective: Tensor, symbols: Tensor, noise: Tensor) -> Tensor:
        """Return the received symbols y_k / sigma, complex64 (drops, users, symbols)."""
        if self._modulator is None or self._demodulator is None:
            return effective @ symbols + noise
        grid = symbols.reshape(*symbols.shape[:-1], -1, self.waveform.subcarriers)
        received: Tensor = self._demodulator(effective @ self._modulator(grid) + noise)
        return received.flatten(-2)

    def _receive(self, chosen: Tensor, equalised: Tensor, ratio: Tensor, inputs: RandomInputs) -> tuple[Tensor, Tensor]:
        """Return the bit errors and information bits of every block, int64 (drops, users) each."""
        errors, bits = torch.zeros_like(chosen), torch.zeros_like(chosen)
        for index, transceiver in enumerate(self._transceivers):
            here = chosen == index
            if not bool(here.any()):
                continue
            decided = transceiver.receive(equalised[here], 1 / ratio[here])
            wrong = decided != inputs.bits[here][:, : transceiver.information_bits]
            errors[here] = wrong.sum(-1)
            bits[here] = transceiver.information_bits
        return errors, bits
