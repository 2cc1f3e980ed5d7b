"""Flowgraphs of the blocks in ``[nflae]``, for test_blocks.py; run by the Python that has GNU Radio.

block_flowgraphs.py run JSON OUT.npz      through all four blocks, to the end of the items
block_flowgraphs.py endless JSON OUT.npz  through the precoder until stdin ends; prints "answered", "late"
"""

import json
import sys
import threading

import numpy as np
import pmt
from gnuradio import blocks, gr

from nflae_bridge.live.gnuradio import blocks as nflae


def numbers(items, length, seed=7):
    """Random numbers, the same on both sides."""
    parts = np.random.default_rng(seed).normal(size=(items, length, 2)).astype(np.float32)
    return parts.view(np.complex64)[..., 0]


def source(values, tags=()):
    return blocks.vector_source_c(values.ravel().tolist(), False, values.shape[1], tags)


def own_tags(items):
    tags = []
    for place in range(0, items, 7):
        tag = gr.tag_t()
        tag.offset, tag.key = place, pmt.intern("place")
        tag.value, tag.srcid = pmt.from_long(place), pmt.intern("test")
        tags.append(tag)
    return tags


def found(tags):
    return [(tag.offset, pmt.symbol_to_string(tag.key), pmt.to_python(tag.value)) for tag in tags]


def run(users, antennas, symbols, items, bad=(), recording="", noise_power=0.0, per_report=10, **options):
    channels, sent = numbers(items, users * antennas), numbers(items, users * symbols, 8)
    channels[list(bad)] = np.nan
    flowgraph, reported = gr.top_block(), []
    csi, data = source(channels, own_tags(items)), source(sent)
    precoder = nflae.Precoder(users, antennas, **options)
    downlink = nflae.DownlinkChannel(
        users, antennas, symbols, noise_power, bool(noise_power), options.get("convention", "hermitian")
    )
    evm = nflae.EvmProbe(users, symbols, per_report, False, lambda values: reported.append(values))
    recorder = nflae.CsiRecorder(users, antennas, recording, convention=options.get("convention", "hermitian"))
    answers, received = blocks.vector_sink_c(users * antennas), blocks.vector_sink_c(users * symbols)
    stores = {name: blocks.message_debug(False) for name in ("results", "late", "evm", "constellation")}
    flowgraph.connect(csi, precoder, answers)
    flowgraph.connect(csi, recorder)
    for port, block in enumerate((csi, precoder, data)):
        flowgraph.connect(block, (downlink, port))
    flowgraph.connect(downlink, received)
    flowgraph.connect(data, (evm, 0))
    flowgraph.connect(downlink, (evm, 1))
    for name, store in stores.items():
        flowgraph.msg_connect(precoder if name in ("results", "late") else evm, name, store, "store")
    flowgraph.run()
    messages = {name: [store.get_message(i) for i in range(store.num_messages())] for name, store in stores.items()}
    return {
        "precoders": np.array(answers.data(), np.complex64).reshape(-1, users, antennas),
        "received": np.array(received.data(), np.complex64).reshape(-1, users, symbols),
        "tags": json.dumps(found(answers.tags()), default=lambda value: np.asarray(value).tolist()),
        "probe_tags": json.dumps(found(received.tags()), default=lambda value: np.asarray(value).tolist()),
        "counts": [precoder.counts.items, precoder.counts.late, precoder.counts.bad],
        "pdus": np.array([pmt.to_python(pmt.cdr(each)) for each in messages["results"]], np.complex64),
        "pdu_rates": [pmt.to_python(pmt.car(each)).get("nflae_sum_rate", np.nan) for each in messages["results"]],
        "late": [pmt.to_python(each)["items"] for each in messages["late"]],
        "evm_db": np.array([pmt.to_python(each)["evm_db"] for each in messages["evm"]]),
        "evm_called": np.array(reported),
        "evm_last": evm.evm_db(),
        "evm_items": [pmt.to_python(each)["last_item"] for each in messages["evm"]],
        "constellation": np.array([pmt.to_python(pmt.cdr(each)) for each in messages["constellation"]], np.complex64),
        "heavy": [name for name in ("torch", "scipy", "h5py", "rich") if name in sys.modules],
    }


class Watch(gr.sync_block):
    """Prints when late items begin and end, and keeps the number of each item by its tag."""

    def __init__(self, length):
        gr.sync_block.__init__(self, "watch", [(np.complex64, length)], None)
        self.state, self.rows, self.numbers, self.late = "", [], [], []

    def work(self, input_items, output_items):
        items = input_items[0]
        number, late = np.full(len(items), -1), np.zeros(len(items), bool)
        for tag in self.get_tags_in_window(0, 0, len(items)):
            row = tag.offset - self.nitems_read(0)
            if pmt.symbol_to_string(tag.key) == "nflae_item":
                number[row] = pmt.to_python(tag.value)
            late[row] |= pmt.symbol_to_string(tag.key) == "nflae_late"
        self.rows.append(items.copy())
        self.numbers.append(number)
        self.late.append(late)
        state = "late" if late[-1] else "answered"
        if state != self.state:
            self.state = state
            print(state, flush=True)
        return len(items)


def endless(users, antennas, rate, items, **options):
    flowgraph, watch = gr.top_block(), Watch(users * antennas)
    csi = blocks.vector_source_c(numbers(items, users * antennas).ravel().tolist(), True, users * antennas)
    pace = blocks.throttle(gr.sizeof_gr_complex * users * antennas, rate)
    precoder = nflae.Precoder(users, antennas, **options)
    flowgraph.connect(csi, pace, precoder, watch)
    flowgraph.start()
    ended = threading.Thread(target=sys.stdin.read)
    ended.start()
    ended.join()
    flowgraph.stop()
    flowgraph.wait()
    return {
        "precoders": np.concatenate(watch.rows).reshape(-1, users, antennas),
        "numbers": np.concatenate(watch.numbers),
        "late": np.concatenate(watch.late),
        "counts": [precoder.counts.items, precoder.counts.late, precoder.counts.bad],
    }


if __name__ == "__main__":
    work = {"run": run, "endless": endless}[sys.argv[1]]
    np.savez(sys.argv[3], **work(**json.loads(sys.argv[2])))
