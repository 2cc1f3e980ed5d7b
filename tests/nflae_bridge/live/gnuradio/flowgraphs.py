"""Real GNU Radio flowgraphs for test_stream_gnuradio.py; run by the Python that has GNU Radio, not by pytest's.

flowgraphs.py pmts                  what GNU Radio makes of PMTs: its own as hex, and its verdict on those of stdin
flowgraphs.py samples JSON OUT.npz  channels out through one stream block, precoders in through another
flowgraphs.py pdus JSON OUT.npz     the same with message blocks
"""

import json
import sys
import time

import numpy as np
import pmt
from gnuradio import blocks, gr, zeromq

SINKS = {"push": zeromq.push_sink, "pub": zeromq.pub_sink, "rep": zeromq.rep_sink}
SOURCES = {"push": zeromq.pull_source, "pub": zeromq.sub_source, "rep": zeromq.req_source}
MESSAGE_SINKS = {"push": zeromq.push_msg_sink, "pub": zeromq.pub_msg_sink, "rep": zeromq.rep_msg_sink}
MESSAGE_SOURCES = {"push": zeromq.pull_msg_source, "pub": zeromq.sub_msg_source, "rep": zeromq.req_msg_source}


def pmts():
    """One of every type we claim to know."""
    one, two = pmt.from_long(1), pmt.from_double(2.5)
    table = pmt.dict_add(pmt.make_dict(), pmt.intern("a"), one)
    vector = pmt.make_vector(2, one)
    pmt.vector_set(vector, 1, two)
    made = {
        "null": pmt.PMT_NIL,
        "true": pmt.PMT_T,
        "false": pmt.PMT_F,
        "symbol": pmt.intern("h\u00e9llo"),
        "int32": pmt.from_long(-7),
        "int64": pmt.from_long(2**40),
        "uint64": pmt.from_uint64(2**64 - 1),
        "double": two,
        "complex": pmt.from_complex(1.5 - 2j),
        "pair": pmt.cons(one, two),
        "list": pmt.list3(one, two, pmt.intern("x")),
        "tuple": pmt.make_tuple(one, two),
        "vector": vector,
        "dict": pmt.dict_add(table, pmt.intern("b"), pmt.make_tuple(one)),
        "pdu": pmt.cons(table, pmt.init_c32vector(2, [1 + 2j, 3 - 4j])),
    }
    for name in ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f32", "f64", "c32", "c64"):
        made[name] = getattr(pmt, f"init_{name}vector")(3, {"u": [1, 2, 3], "s": [-1, 2, 3]}.get(name[0], [1.5, 2, 3]))
    return made


def compare_pmts():
    made = pmts()
    theirs = json.load(sys.stdin)
    json.dump(
        {
            "hex": {name: pmt.serialize_str(value).hex() for name, value in made.items()},
            "equal": {
                name: pmt.equal(pmt.deserialize_str(bytes.fromhex(theirs[name])), value) for name, value in made.items()
            },
        },
        sys.stdout,
    )


def settled(count, wanted, seconds, pause=10):
    """Wait until ``count()`` is ``wanted``, or has stayed what it is, above zero, for ``pause`` seconds."""
    deadline = time.monotonic() + seconds
    last, since = count(), time.monotonic()
    while count() < wanted and time.monotonic() < deadline:
        time.sleep(0.02)
        if count() != last:
            last, since = count(), time.monotonic()
        elif last and time.monotonic() - since > pause:
            return


def channels(items, length):
    """Random channels, the same on both sides."""
    parts = np.random.default_rng(7).normal(size=(items, length, 2)).astype(np.float32)
    return parts.view(np.complex64)[..., 0]


def samples(csi, precoders, kind, items, length, pass_tags, seconds=0, rate=0, labels="", powers="", users=1):
    """``seconds``: send again and again, as fast as can be, for as long after the first answer; else once, at ``rate``
    items a second if that isn't 0.

    labels, powers: addresses to read these from, too, by blocks of the same kind.
    """
    tags = []
    for place in range(0, items, 7) if pass_tags else ():
        tag = gr.tag_t()
        tag.offset, tag.key = place, pmt.intern("place")
        tag.value, tag.srcid = pmt.from_long(place), pmt.intern("test")
        tags.append(tag)
    sending, receiving = gr.top_block(), gr.top_block()
    source = blocks.vector_source_c(channels(items, length).ravel().tolist(), bool(seconds), length, tags)
    sink = SINKS[kind](gr.sizeof_gr_complex, length, csi, 100, pass_tags, 2 if seconds else -1)
    if rate:
        throttle = blocks.throttle(gr.sizeof_gr_complex * length, rate)
        sending.connect(source, throttle, sink)
    else:
        sending.connect(source, sink)
    answers = blocks.vector_sink_c(length)
    receiver = SOURCES["push" if seconds else kind](gr.sizeof_gr_complex, length, precoders, 100, pass_tags)
    receiving.connect(receiver, answers)
    label_sink, power_sink = blocks.vector_sink_b(users), blocks.vector_sink_f(users)
    if labels:
        receiving.connect(SOURCES[kind](gr.sizeof_char, users, labels), label_sink)
    if powers:
        receiving.connect(SOURCES[kind](gr.sizeof_float, users, powers), power_sink)
    receiving.start()
    sending.start()
    if seconds:
        deadline = time.monotonic() + 60
        while not answers.data() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds)
        sending.stop()
    settled(lambda: len(answers.data()) // length, 10**9 if seconds else items, 60, 3 if kind == "pub" else 10)
    if powers:
        settled(lambda: len(power_sink.data()) // users, items, 60)
        settled(lambda: len(label_sink.data()) // users, items, 60)
    for flowgraph in (sending, receiving):
        flowgraph.stop()
        flowgraph.wait()
    found = [(tag.offset, pmt.symbol_to_string(tag.key), pmt.to_python(tag.value)) for tag in answers.tags()]
    return {
        "precoders": np.array(answers.data(), np.complex64).reshape(-1, length),
        "numbers": np.array([(offset, value) for offset, key, value in found if key == "nflae_item"]),
        "places": np.array([(offset, value) for offset, key, value in found if key == "place"]),
        "label_tags": np.array([value for _, key, value in found if key == "nflae_near_field"]),
        "labels": np.array(label_sink.data(), np.uint8).reshape(-1, users),
        "powers": np.array(power_sink.data(), np.float32).reshape(-1, users),
        "rates": np.array([value for _, key, value in found if key == "nflae_sum_rate"]),
    }


class Poster(gr.basic_block):
    """Sends the PDUs it is given."""

    def __init__(self):
        super().__init__("poster", None, None)
        self.message_port_register_out(pmt.intern("out"))

    def post(self, pdu):
        self.message_port_pub(pmt.intern("out"), pdu)


def pdus(csi, precoders, kind, items, length):
    flowgraph, poster, store = gr.top_block(), Poster(), blocks.message_debug()
    sink, source = MESSAGE_SINKS[kind](csi, 100, True), MESSAGE_SOURCES[kind](precoders, 100, False)
    flowgraph.msg_connect((poster, "out"), (sink, "in"))
    flowgraph.msg_connect((source, "out"), (store, "store"))
    flowgraph.start()
    deadline = time.monotonic() + 60
    posted = 0
    while store.num_messages() < items and time.monotonic() < deadline:
        # Only what goes over pub and sub may have to be said again.
        if posted < items or kind == "pub":
            place = posted % items
            metadata = pmt.dict_add(pmt.make_dict(), pmt.intern("place"), pmt.from_long(place))
            metadata = pmt.dict_add(metadata, pmt.intern("noise_power"), pmt.from_double(0.1))
            samples = pmt.init_c32vector(length, channels(items, length)[place].tolist())
            poster.post(pmt.cons(metadata, samples))
            posted += 1
        time.sleep(0.02)
    flowgraph.stop()
    flowgraph.wait()
    answers = [store.get_message(index) for index in range(store.num_messages())]
    assert all(pmt.is_dict(pmt.car(answer)) and pmt.is_c32vector(pmt.cdr(answer)) for answer in answers)
    metadata = [pmt.to_python(pmt.car(answer)) for answer in answers]
    return {
        "precoders": np.array([pmt.c32vector_elements(pmt.cdr(answer)) for answer in answers], np.complex64),
        "places": np.array([entry["place"] for entry in metadata]),
        "items": np.array([entry["nflae_item"] for entry in metadata]),
        "powers": np.array([entry["nflae_power"] for entry in metadata]),
    }


def pairing(folder, numbers, items):
    """What the example's downlink makes of precoders with these numbers, without noise."""
    sys.path.insert(0, folder)
    import transmission

    users, antennas, symbols = 2, 4, 3
    size = users * antennas
    csi, sent = channels(items, size), channels(items, users * symbols)
    tags = []
    for place, number in enumerate(numbers):
        tag = gr.tag_t()
        tag.offset, tag.key, tag.value = place, pmt.intern("nflae_item"), pmt.from_uint64(number)
        tags.append(tag)
    flowgraph = gr.top_block()
    downlink = transmission.blk(antennas, users, symbols, 0)
    sources = [
        blocks.vector_source_c(csi.ravel().tolist(), False, size),
        blocks.vector_source_c(csi[numbers].ravel().tolist(), False, size, tags),
        blocks.vector_source_c(sent.ravel().tolist(), False, users * symbols),
    ]
    received, matched = (blocks.vector_sink_c(users * symbols) for _ in range(2))
    for port, source in enumerate(sources):
        flowgraph.connect(source, (downlink, port))
    flowgraph.connect((downlink, 0), received)
    flowgraph.connect((downlink, 1), matched)
    flowgraph.run()
    return {
        name: np.array(sink.data(), np.complex64).reshape(-1, users, symbols)
        for name, sink in (("received", received), ("matched", matched))
    }


if __name__ == "__main__":
    if sys.argv[1] == "pmts":
        compare_pmts()
    else:
        work = {"samples": samples, "pdus": pdus, "pairing": pairing}[sys.argv[1]]
        np.savez(sys.argv[3], **work(**json.loads(sys.argv[2])))
