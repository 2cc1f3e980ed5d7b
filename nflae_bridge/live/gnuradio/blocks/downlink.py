"""Simulate the downlink: symbols through precoders, channels and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gnuradio import gr

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.blocks.sizes import vector_of


class DownlinkChannel(gr.sync_block):
    """Transmit symbols: y_k = h_k^H sum_j w_j s_j + n_k, with the power in w_j and n_k ~ CN(0, sigma^2).

    Inputs: channels h_1 ... h_K and precoders w_1 ... w_K, vectors of users * antennas complex numbers; symbols,
    vectors of users * symbols, user after user. Output: the received symbols, arranged as those. Item i of the output
    is made of item i of each input.

    Parameters
    ----------
    users, antennas, symbols : int
        Sizes; symbols per user and item.
    noise_power : float
        sigma^2, W.
    equalize : bool
        Divide by h_k^H w_k where that is not zero.
    convention : {"hermitian", "direct"}
        Items hold h_k with y_k = h_k^H x, or the rows of H with y = H x.
    seed : int
        Seed of the noise.

    Raises
    ------
    NflaeError
        If an argument is out of its range.
    """

    def __init__(
        self,
        users: int,
        antennas: int,
        symbols: int,
        noise_power: float = 0.01,
        equalize: bool = True,
        convention: str = "hermitian",
        seed: int = 1,
    ) -> None:
        drop, block = vector_of(users=users, antennas=antennas), vector_of(users=users, symbols=symbols)
        gr.sync_block.__init__(self, "nflae Downlink Channel", [drop, drop, block], [block])
        if convention not in ("hermitian", "direct"):
            raise NflaeError(f"convention must be hermitian or direct, got {convention!r}")
        self._users, self._equalize, self._direct = users, equalize, convention == "direct"
        self._random = np.random.default_rng(seed)
        self.set_noise_power(noise_power)

    def set_noise_power(self, noise_power: float) -> None:
        """Change sigma^2, W."""
        if not 0 <= noise_power < np.inf:
            raise NflaeError(f"noise_power must be at least 0 and finite, got {noise_power}")
        self._noise_power = noise_power

    def work(self, input_items: list[npt.NDArray[Any]], output_items: list[npt.NDArray[Any]]) -> int:
        """Transmit the symbols of some items.

        Parameters
        ----------
        input_items, output_items : list of numpy.ndarray
            Vectors per port, one per row.

        Returns
        -------
        int
            Items transmitted.
        """
        channels, precoders, sent = (items.reshape(len(items), self._users, -1) for items in input_items)
        gains = (channels if self._direct else channels.conj()) @ precoders.transpose(0, 2, 1)  # of stream j at user k
        received = gains @ sent
        parts = self._random.standard_normal((*received.shape, 2), np.float32)
        received += np.float32(np.sqrt(self._noise_power / 2)) * parts.view(np.complex64)[..., 0]
        if self._equalize:
            own = np.diagonal(gains, axis1=1, axis2=2)[..., None]
            received /= np.where(own == 0, 1, own)
        output_items[0][:] = received.reshape(output_items[0].shape)
        return len(output_items[0])
