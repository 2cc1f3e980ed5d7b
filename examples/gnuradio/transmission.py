"""Simulate the downlink: symbols through precoders, channels and noise."""

import numpy as np
from gnuradio import gr


class blk(gr.sync_block):
    """Compute y_k = h_k^H sum_j w_j s_j + n_k, divided by h_k^H w_k, for the symbols of one drop per item.

    Inputs: channels h_k, precoders w_k (power included), symbols (users x symbols, user after user).
    Outputs: the received symbols with these precoders, and with matched filters of equal power for comparison.
    """

    def __init__(self, antennas=128, users=4, symbols=256, noise_power=0.01):
        drop, block = (np.complex64, antennas * users), (np.complex64, users * symbols)
        gr.sync_block.__init__(self, "Downlink", [drop, drop, block], [block, block])
        self.users, self.noise_power = users, noise_power
        self.rng = np.random.default_rng(1)

    def received(self, h, w, s):
        """Return the equalised symbols at all users."""
        gains = h.conj() @ w.T  # (k, j): of stream j at user k
        noise = self.rng.normal(scale=np.sqrt(self.noise_power / 2), size=(*s.shape, 2)) @ [1, 1j]
        own = np.diag(gains)[:, None]
        return (gains @ s + noise) / np.where(own == 0, 1, own)

    def work(self, input_items, output_items):
        """Transmit the symbols of each drop twice."""
        for index in range(len(output_items[0])):
            h, w, s = (items[index].reshape(self.users, -1) for items in input_items)
            matched = h / np.linalg.norm(h, axis=1, keepdims=True) / np.sqrt(self.users)
            output_items[0][index] = self.received(h, w, s).ravel()
            output_items[1][index] = self.received(h, matched, s).ravel()
        return len(output_items[0])
