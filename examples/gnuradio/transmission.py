"""Simulate the downlink: symbols through precoders, channels and noise."""

import numpy as np
import pmt
from gnuradio import gr


class blk(gr.basic_block):
    """Compute y_k = h_k^H sum_j w_j s_j + n_k, divided by h_k^H w_k, for the symbols of one drop per item.

    Inputs: channels h_k, precoders w_k (power included), symbols (users x symbols, user after user).
    Outputs: the received symbols with these precoders, and with matched filters of equal power for comparison.
    Precoders belong to channels by the number in their tags nflae_item; channels without precoders are left out.
    """

    def __init__(self, antennas=128, users=4, symbols=256, noise_power=0.01):
        drop, block = (np.complex64, antennas * users), (np.complex64, users * symbols)
        gr.basic_block.__init__(self, "Downlink", [drop, drop, block], [block, block])
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.users, self.noise_power = users, noise_power
        self.rng = np.random.default_rng(1)
        self.shift = 0

    def forecast(self, noutput_items, ninputs):
        """Require as many items at every input."""
        return [noutput_items] * ninputs

    def received(self, h, w, s):
        """Return the equalised symbols at all users."""
        gains = h.conj() @ w.T  # (k, j): of stream j at user k
        noise = self.rng.normal(scale=np.sqrt(self.noise_power / 2), size=(*s.shape, 2)) @ [1, 1j]
        own = np.diag(gains)[:, None]
        return (gains @ s + noise) / np.where(own == 0, 1, own)

    def general_work(self, input_items, output_items):
        """Transmit the symbols of each drop that has precoders twice."""
        channels, precoders, symbols = input_items
        first = self.nitems_read(1)
        tags = self.get_tags_in_window(1, 0, len(precoders), pmt.intern("nflae_item"))
        shifts = {tag.offset - first: pmt.to_python(tag.value) - tag.offset for tag in tags}
        passed = used = produced = 0  # channels, precoders, symbols
        while used < len(precoders) and produced < min(len(symbols), len(output_items[0])):
            self.shift = shifts.get(used, self.shift)
            place = first + used + self.shift - self.nitems_read(0)  # of its channels among those that wait
            passed = min(max(passed, place), len(channels))
            if place >= len(channels):
                break
            if place >= 0:
                drop = channels[place], precoders[used], symbols[produced]
                h, w, s = (items.reshape(self.users, -1) for items in drop)
                matched = h / np.linalg.norm(h, axis=1, keepdims=True) / np.sqrt(self.users)
                output_items[0][produced] = self.received(h, w, s).ravel()
                output_items[1][produced] = self.received(h, matched, s).ravel()
                passed, produced = place + 1, produced + 1
            used += 1
        for port, items in enumerate((passed, used, produced)):
            self.consume(port, items)
        return produced
