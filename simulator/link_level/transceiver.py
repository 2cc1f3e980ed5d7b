"""Convert bits to symbols and noisy symbols back to bits, with the blocks of Sionna PHY."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from matlab_io.extras import require
from simulator.link_level.modulation import Format

# Lowest rate of Sionna's 5G encoder; lower rates repeat coded bits, as the circular buffer of 5G does.
_LOWEST_RATE = 1 / 5
_ITERATIONS = 20

# Working memory of demapper and decoder; on the CPU a size near that of its cache is fastest.
_CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 4 << 30}
_BYTES_PER_CODED_BIT = 200


def sionna_device(device: torch.device) -> str:
    """Return the name of a device in Sionna.

    Parameters
    ----------
    device
        Device in PyTorch.

    Returns
    -------
    str
        ``cpu`` or ``cuda:INDEX``, the first CUDA device being ``cuda:0``.
    """
    return f"cuda:{device.index or 0}" if device.type == "cuda" else device.type


class Transceiver:
    """Encode, map, demap and decode blocks of one length in one format, on one device.

    Encoder, mapper, demapper and decoder (belief propagation, 20 iterations) are Sionna's, with its defaults.

    Parameters
    ----------
    form
        Modulation and code rate.
    symbols
        Symbols per block.
    device
        Device that computes.

    Attributes
    ----------
    information_bits
        Information bits per block.

    Raises
    ------
    NflaeError
        If Sionna PHY is not installed.
    """

    def __init__(self, form: Format, symbols: int, device: torch.device) -> None:
        require("sionna", "the link-level simulation")
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
        from sionna.phy.mapping import Demapper, Mapper

        name = sionna_device(device)
        bits = form.bits_per_symbol
        self.information_bits = form.information_bits(symbols)
        self._coded_bits = symbols * bits
        self._mapper = Mapper("qam", bits, device=name)
        # Uncoded: nearest symbol; coded: a posteriori log-likelihood ratios for the decoder.
        hard = form.rate is None
        self._demapper = Demapper("maxlog" if hard else "app", "qam", bits, hard_out=hard, device=name)
        self._encoder = self._decoder = None
        if form.rate is not None:
            longest = bits * math.floor(self.information_bits / _LOWEST_RATE / bits)
            length = min(self._coded_bits, longest)
            self._encoder = LDPC5GEncoder(
                self.information_bits, length, num_bits_per_symbol=bits, device=name, check_input=False
            )
            self._decoder = LDPC5GDecoder(self._encoder, num_iter=_ITERATIONS, device=name)
        block_bytes = symbols * 2**bits * 16 + self._coded_bits * _BYTES_PER_CODED_BIT
        self._chunk = max(1, _CHUNK_BYTES[device.type] // block_bytes)

    @torch.no_grad()
    def transmit(self, bits: Tensor) -> Tensor:
        """Encode and map blocks of bits.

        Parameters
        ----------
        bits
            0 and 1, float32 (blocks, information bits).

        Returns
        -------
        Tensor
            Symbols of unit mean energy, complex64 (blocks, symbols).
        """
        coded = bits
        if self._encoder is not None:
            word = self._encoder(bits)
            repeats = math.ceil(self._coded_bits / word.shape[-1])
            coded = word.repeat(1, repeats)[:, : self._coded_bits]
        symbols: Tensor = self._mapper(coded)
        return symbols

    @torch.no_grad()
    def receive(self, equalised: Tensor, error_variance: Tensor) -> Tensor:
        """Demap and decode blocks of equalised symbols.

        Parameters
        ----------
        equalised
            Symbols with errors, s + e, complex64 (blocks, symbols).
        error_variance
            E|e|^2, real (blocks,).

        Returns
        -------
        Tensor
            Decided bits, 0 and 1, float32 (blocks, information bits).
        """
        decided = [
            self._decide(equalised[part], error_variance[part].to(torch.float32).unsqueeze(-1))
            for part in _parts(len(equalised), self._chunk)
        ]
        return torch.cat(decided) if decided else equalised.real.new_empty(0, self.information_bits)

    def _decide(self, equalised: Tensor, error_variance: Tensor) -> Tensor:
        soft: Tensor = self._demapper(equalised, error_variance)
        if self._encoder is None or self._decoder is None:
            return soft
        length = self._encoder.n
        if length < self._coded_bits:
            repeats = math.ceil(self._coded_bits / length)
            padded = torch.nn.functional.pad(soft, (0, repeats * length - self._coded_bits))
            soft = padded.reshape(-1, repeats, length).sum(1)
        decided: Tensor = self._decoder(soft)
        return decided


def _parts(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, start + size)
