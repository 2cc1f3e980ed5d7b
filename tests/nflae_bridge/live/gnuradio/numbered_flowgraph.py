"""A real GNU Radio flowgraph whose CSI names its run and item, and that writes what it receives; for test_restarts.py.

numbered_flowgraph.py KIND TAGS CSI PRECODERS RUN FILE: run by the Python that has GNU Radio.

A row of FILE is four float64: run and item of the received vector, its place in the stream, and its number by the last
tag ``nflae_item`` (NaN without tags).
"""

import os
import signal
import sys

import numpy as np
import pmt
from gnuradio import gr, zeromq

SINKS = {"push": zeromq.push_sink, "pub": zeromq.pub_sink, "rep": zeromq.rep_sink}
SOURCES = {"push": zeromq.pull_source, "pub": zeromq.sub_source, "rep": zeromq.req_source}


class Numbers(gr.sync_block):
    def __init__(self, run):
        gr.sync_block.__init__(self, "numbers", None, [(np.complex64, 2)])
        self.run, self.item = run, 0

    def work(self, input_items, output_items):
        out = output_items[0][:64]
        out[:, 0] = self.run + 1j * (self.item + np.arange(len(out)))
        out[:, 1] = 1
        self.item += len(out)
        return len(out)


class Record(gr.sync_block):
    def __init__(self, path):
        gr.sync_block.__init__(self, "record", [(np.complex64, 2)], None)
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.base = np.nan

    def work(self, input_items, output_items):
        values = input_items[0][:, 0]
        first = self.nitems_read(0)
        rows = np.empty((len(values), 4))
        rows[:, 0], rows[:, 1] = values.real, values.imag
        rows[:, 2] = first + np.arange(len(values))
        tags = self.get_tags_in_window(0, 0, len(values), pmt.intern("nflae_item"))
        bases = np.full(len(values), np.nan)
        for tag in tags:
            bases[tag.offset - first :] = pmt.to_python(tag.value) - tag.offset
        before = len(values) if not tags else min(tag.offset for tag in tags) - first
        bases[:before] = self.base
        rows[:, 3] = rows[:, 2] + bases
        self.base = bases[-1]
        os.write(self.file, rows.tobytes())
        return len(values)


def main(kind, tags, csi, precoders, run, path):
    flowgraph = gr.top_block()
    numbers, record = Numbers(int(run)), Record(path)
    size, tags = gr.sizeof_gr_complex, tags == "tags"
    flowgraph.connect(numbers, SINKS[kind](size, 2, csi, 50, tags))
    flowgraph.connect(SOURCES[kind](size, 2, precoders, 50, tags), record)
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    flowgraph.start()
    while not stopped:
        signal.sigtimedwait([], 0.05)
    flowgraph.stop()
    flowgraph.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
