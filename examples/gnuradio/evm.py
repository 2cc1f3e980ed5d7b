"""Measure the error vector magnitude of every user, with the precoders and with matched filters."""

import numpy as np
from gnuradio import gr


class blk(gr.sync_block):
    """Compare the symbols sent with those received with the precoders, and with matched filters; print a table."""

    def __init__(self, users=4, symbols=256, csv=""):
        block = (np.complex64, users * symbols)
        gr.sync_block.__init__(self, "EVM per user", [block, block, block], None)
        self.users, self.csv = users, csv
        self.drops = 0
        self.sent, self.errors = np.zeros(users), np.zeros((2, users))

    def work(self, input_items, output_items):
        """Add the errors of a block of drops."""
        sent, *received = (items.reshape(len(items), self.users, -1) for items in input_items)
        self.sent += (np.abs(sent) ** 2).sum((0, 2))
        self.errors += [(np.abs(one - sent) ** 2).sum((0, 2)) for one in received]
        self.drops += len(sent)
        return len(sent)

    def stop(self):
        """Print the table, and write it where a file is named."""
        if self.drops:
            with_precoders, with_matched_filters = 100 * np.sqrt(self.errors / self.sent)
            lines = ["user,evm_matched_filter_percent,evm_nflae_percent"]
            for user in range(self.users):
                lines.append(f"{user + 1},{with_matched_filters[user]:.1f},{with_precoders[user]:.1f}")
            print(f"{self.drops} drops", *lines, sep="\n", flush=True)
            if self.csv:
                with open(self.csv, "w") as file:
                    file.write("\n".join(lines) + "\n")
        return True
