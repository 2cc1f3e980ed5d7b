"""Show the values of a tag as a stream."""

import numpy as np
import pmt
from gnuradio import gr


class blk(gr.sync_block):
    """Output the number that each item carries in a tag; between two tags the last one."""

    def __init__(self, length=512, key="nflae_sum_rate"):
        gr.sync_block.__init__(self, "Tag values", [(np.complex64, length)], [np.float32])
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.key, self.value = key, 0.0

    def work(self, input_items, output_items):
        """Read the tags of some items."""
        count, values = len(input_items[0]), {}
        for tag in self.get_tags_in_window(0, 0, count, pmt.intern(self.key)):
            values[tag.offset - self.nitems_read(0)] = pmt.to_double(tag.value)
        for index in range(count):
            self.value = values.get(index, self.value)
            output_items[0][index] = self.value
        return count
