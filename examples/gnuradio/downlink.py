r"""Run the flowgraph of downlink.grc from Python, without windows, under the Python that GNU Radio is installed for.

    nflae stream --users 4 --antennas 128 --csi pull:tcp://127.0.0.1:5556,tags \
                 --precoders push:tcp://127.0.0.1:5557,tags --scaled --noise-dbw -25 --min-rate 1
    /usr/bin/python3 downlink.py --drops 200

A simulated downlink sends its channels (CSI) over ZeroMQ, receives precoders, applies them, and prints the error vector
magnitude of every user with them and with matched filters. The blocks are in the three files beside this one.
"""

import argparse
import signal

import evm
import near_field_users
import numpy as np
import transmission
from gnuradio import blocks, digital, gr, zeromq

ANTENNAS, USERS, SYMBOLS = 128, 4, 256
NOISE_POWER = 10**-2.5  # W
QPSK = np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j]) / np.sqrt(2)


class Downlink(gr.top_block):
    """Send CSI to ``csi_address``, receive precoders from ``precoder_address``; ``drops``: number, 0 without end."""

    def __init__(self, csi_address, precoder_address, drops, csv):
        gr.top_block.__init__(self, "Near-field downlink with nflae")
        item, waiting_ms = ANTENNAS * USERS, 100

        # One item is one drop: antennas x users complex numbers, user after user. Blocks written in Python are kept in
        # attributes, because GNU Radio holds no reference to them.
        self.users = near_field_users.blk(ANTENNAS, USERS, drops)
        # True: tags are passed, so that precoders keep the numbers of their channels through restarts of nflae stream.
        channels_out = zeromq.push_sink(gr.sizeof_gr_complex, item, csi_address, waiting_ms, True)
        precoders_in = zeromq.pull_source(gr.sizeof_gr_complex, item, precoder_address, waiting_ms, True)
        self.connect(self.users, channels_out)

        chunks = np.random.default_rng(0).integers(0, 4, 10007)
        bits = blocks.vector_source_b(chunks.tolist(), True)
        qpsk = digital.chunks_to_symbols_bc(QPSK.tolist(), 1)
        symbols = blocks.stream_to_vector(gr.sizeof_gr_complex, USERS * SYMBOLS)
        self.connect(bits, qpsk, symbols)

        self.transmission = transmission.blk(ANTENNAS, USERS, SYMBOLS, NOISE_POWER)
        self.connect(self.users, (self.transmission, 0))
        self.connect(precoders_in, (self.transmission, 1))
        self.connect(symbols, (self.transmission, 2))

        self.evm = evm.blk(USERS, SYMBOLS, csv)
        self.connect(symbols, (self.evm, 0))
        self.connect((self.transmission, 0), (self.evm, 1))
        self.connect((self.transmission, 1), (self.evm, 2))


def main():
    """Run the flowgraph until its drops are received, or until a signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csi-address", default="tcp://127.0.0.1:5556")
    parser.add_argument("--precoder-address", default="tcp://127.0.0.1:5557")
    parser.add_argument("--drops", type=int, default=200, help="0: until Ctrl-C")
    parser.add_argument("--csv", default="", help="EVM table to write")
    options = parser.parse_args()

    flowgraph = Downlink(options.csi_address, options.precoder_address, options.drops, options.csv)
    flowgraph.start()

    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    # The CSI ends with the last drop, but a ZMQ source never ends: the drops received are counted instead.
    while not stopped and not (options.drops and flowgraph.evm.drops >= options.drops):
        signal.sigtimedwait([], 0.1)
    flowgraph.stop()
    flowgraph.wait()


if __name__ == "__main__":
    main()
