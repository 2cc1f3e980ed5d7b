"""Simulate the channels of users that move in the near field of a large array."""

import numpy as np
from gnuradio import gr

WAVELENGTH = 0.01  # m, 30 GHz


class blk(gr.sync_block):
    """Output the channels of one drop per item: antennas x users complex numbers, user after user."""

    def __init__(self, antennas=128, users=4, drops=0):
        gr.sync_block.__init__(self, "Near-field users", None, [(np.complex64, antennas * users)])
        self.antennas, self.users, self.drops = antennas, users, drops
        self.drop = 0

    def channels(self, drop):
        """Compute spherical waves from a uniform linear array, half a wavelength apart, to each user."""
        k = np.arange(self.users)[:, None]
        angle = np.radians(10 + 6 * (k // 2) + 0.4 * np.sin(0.013 * drop * (k + 1)))  # two and two in one direction
        r = 4 * 3.0 ** (k % 2) * 1.25 ** (k // 2) * (1 + 0.1 * np.sin(0.017 * drop + k))  # m
        nd = (np.arange(self.antennas) - (self.antennas - 1) / 2) * WAVELENGTH / 2
        r_n = np.sqrt(r**2 - 2 * nd * r * np.sin(angle) + nd**2)
        return np.exp(-2j * np.pi * (r_n - r) / WAVELENGTH) / np.sqrt(self.antennas)

    def work(self, input_items, output_items):
        """Fill the output with drops."""
        out = output_items[0]
        for index in range(len(out)):
            if self.drops and self.drop == self.drops:
                return index or -1
            out[index] = self.channels(self.drop).ravel()
            self.drop += 1
        return len(out)
