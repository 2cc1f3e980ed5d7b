"""The relay between sockets: order, numbers, gaps, bad items, back-pressure, PDUs, its end."""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.api.precode import precode
from nflae_bridge.live.gnuradio.inlet import StreamSizeError
from nflae_bridge.live.gnuradio.pmt import Dialect, Pair, decode, encode
from nflae_bridge.live.gnuradio.relay import Precode, RelayOptions
from nflae_bridge.live.gnuradio.sockets import admission, zmtp
from nflae_bridge.live.gnuradio.sockets.endpoints import Endpoint
from nflae_bridge.live.gnuradio.sockets.sender import Run, SenderSocket
from nflae_bridge.live.gnuradio.tags import Tag, decode_header, encode_header
from tests.channel_files import random_channels
from tests.nflae_bridge.live.gnuradio.relays import ANTENNAS, PATIENCE_MS, USERS, RunningRelay, patient, rzf, wait_until
from tests.ports import free_tcp_port
from tests.sockets import bounded_context


def drops(count: int, seed: int = 0) -> npt.NDArray[np.complex64]:
    return random_channels(count, USERS, ANTENNAS, seed)


def items(message: bytes, dtype: Any = np.complex64) -> npt.NDArray[Any]:
    """A message's samples, an item a row."""
    length = USERS * ANTENNAS if dtype == np.complex64 else USERS
    return np.frombuffer(message, dtype).reshape(-1, length)


def expected(channels: npt.NDArray[np.complex64], **budget: float) -> npt.NDArray[np.complex64]:
    return precode(channels, scheme="rzf", **budget).precoder.reshape(len(channels), -1)  # type: ignore[arg-type]


def collect(socket: zmq.Socket[bytes], count: int, dtype: Any = np.complex64) -> npt.NDArray[Any]:
    """The next ``count`` items from untagged messages."""
    rows: list[npt.NDArray[Any]] = []
    while sum(map(len, rows)) < count:
        rows.append(items(socket.recv(), dtype))
    return np.concatenate(rows)


def tagged(socket: zmq.Socket[bytes], count: int) -> tuple[npt.NDArray[np.complex64], dict[int, dict[str, Any]]]:
    """The next ``count`` items from tagged messages, and the tags by place in the output's stream."""
    rows, found = [], dict[int, dict[str, Any]]()
    while sum(map(len, rows)) < count:
        message = socket.recv()
        offset, tags, at = decode_header(message)
        assert offset == sum(map(len, rows))
        rows.append(items(message[at:]))
        for tag in tags:
            assert offset <= tag.offset < offset + len(rows[-1])
            found.setdefault(tag.offset, {})[tag.key] = tag.value
    return np.concatenate(rows), found


def test_answers_come_in_order_whatever_the_messages() -> None:
    channels = drops(200)
    with RunningRelay("pull", {"precoders": "push", "labels": "push", "powers": "push"}) as relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        sinks = [relay.peer(zmq.PULL, outlet.address) for outlet in relay.outlets]
        for part in np.split(channels, [1, 2, 5, 90, 91]):
            source.send(part.tobytes())
        np.testing.assert_allclose(collect(sinks[0], 200), expected(channels), atol=1e-6)
        whole = precode(channels, scheme="rzf")
        assert (collect(sinks[1], 200, np.uint8) == whole.near_field).all()
        np.testing.assert_allclose(collect(sinks[2], 200, np.float32), whole.power, atol=1e-6)
    assert (relay.counts.received, relay.counts.sent, relay.counts.lost) == (200, 200, 0)
    assert relay.error is None


def test_scaled_precoders_carry_the_power() -> None:
    channels = drops(4)
    with RunningRelay("pull", {"precoders": "push"}, patient(scaled=True)) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(channels.tobytes())
        scaled = collect(sink, 4).reshape(channels.shape)
    result = precode(channels, scheme="rzf")
    np.testing.assert_allclose(scaled, result.precoder * np.sqrt(result.power)[..., None], atol=1e-6)


def test_direct_convention_takes_the_conjugate() -> None:
    channels = drops(4)
    with RunningRelay("pull", {"precoders": "push"}, patient(direct=True)) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(channels.conj().tobytes())
        np.testing.assert_allclose(collect(sink, 4), expected(channels), atol=1e-6)


def test_numbers_and_tags_go_from_end_to_end() -> None:
    channels = drops(12)
    with RunningRelay("pull,tags", {"precoders": "push,tags"}, patient(with_results=True), result_tags=True) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(encode_header(100, [Tag(103, "rx_time", (7, 0.25))]) + channels[:5].tobytes())
        source.send(encode_header(105, []) + channels[5:7].tobytes())
        source.send(encode_header(110, [Tag(114, "freq", 1e9, "usrp")]) + channels[7:].tobytes())
        rows, tags = tagged(sink, 12)
    np.testing.assert_allclose(rows, expected(channels), atol=1e-6)
    assert tags[0]["nflae_item"] == np.uint64(100)
    assert tags[3]["rx_time"] == (7, 0.25)
    assert tags[7]["nflae_item"] == np.uint64(110)  # the first after the gap
    assert tags[11]["freq"] == 1e9
    result = precode(channels, scheme="rzf")
    assert (tags[8]["nflae_near_field"] == result.near_field[8]).all()
    np.testing.assert_allclose(tags[8]["nflae_power"], result.power[8], atol=1e-6)
    assert tags[8]["nflae_sum_rate"] == pytest.approx(result.sum_rate[8])
    assert (relay.counts.gaps, relay.counts.lost) == (1, 3)
    assert [event for event, _ in relay.warnings] == ["late_start", "gap"]


def test_a_sender_that_starts_anew_is_no_gap() -> None:
    with RunningRelay("pull,tags", {"precoders": "push,tags"}) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(encode_header(5, []) + drops(2).tobytes())
        source.send(encode_header(0, []) + drops(2).tobytes())
        _, tags = tagged(sink, 4)
    assert tags[2]["nflae_item"] == np.uint64(0)
    assert (relay.counts.restarts, relay.counts.gaps, relay.counts.lost) == (1, 0, 0)


@pytest.mark.parametrize(
    ("csi", "message", "words"),
    [
        ("pull", b"x" * 100, "not a multiple of the item size of 384 bytes"),
        ("pull", encode_header(0, []) + bytes(384), "add ',tags' here"),
        ("pull,tags", bytes(384), "leave out ',tags' here"),
        ("pull,tags", encode_header(0, [])[:-1], "leave out ',tags' here"),
        ("pull,tags", encode_header(0, []) + b"x" * 383, "not a multiple"),
        ("pull,tags", encode_header(2**64 - 1, []) + bytes(384), "out of range"),
        ("pull,pdu", b"\x07\x07", "not a PMT"),
        ("pull,pdu", encode("hello"), "not a PDU"),
        ("pull,pdu", encode(Pair("hello", np.zeros(3, np.complex64))), "not a PDU"),
    ],
)
def test_messages_without_items_are_counted_and_shift_nothing(csi: str, message: bytes, words: str) -> None:
    channels = drops(1)
    whole = encode_header(0, []) if "tags" in csi else b""
    whole = encode(Pair(None, channels.ravel())) if "pdu" in csi else whole + channels.tobytes()
    with RunningRelay(csi, {"precoders": "push"}) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(message)
        source.send(whole)
        np.testing.assert_allclose(collect(sink, 1), expected(channels), atol=1e-6)
    assert (relay.counts.malformed, relay.counts.received) == (1, 1)
    assert words in relay.warnings[0][1]


def test_bad_items_are_answered_with_zeros() -> None:
    channels = drops(6)
    spoilt = channels.copy()
    spoilt[1, 2, 5], spoilt[4, 0] = np.nan, 0
    with RunningRelay("pull", {"precoders": "push", "labels": "push", "powers": "push"}) as relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        sinks = [relay.peer(zmq.PULL, outlet.address) for outlet in relay.outlets]
        source.send(spoilt.tobytes())
        precoders, _, powers = collect(sinks[0], 6), collect(sinks[1], 6, np.uint8), collect(sinks[2], 6, np.float32)
    good = [0, 2, 3, 5]
    np.testing.assert_allclose(precoders[good], expected(channels[good]), atol=1e-6)
    assert not precoders[[1, 4]].any()
    assert not powers[[1, 4]].any()
    assert (relay.counts.bad, relay.counts.sent) == (2, 6)
    assert relay.warnings[0] == ("bad_drop", "item 1 is answered with zeros: user 3, antenna 6 is NaN (counted from 1)")


@pytest.mark.parametrize("bad", [0, 4])
def test_bad_items_stop_it_if_asked_to_after_those_before(bad: int) -> None:
    spoilt = drops(6)
    spoilt[bad] = np.inf
    with RunningRelay("pull", {"precoders": "push"}, patient(on_bad_drop="error")) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        for part in (spoilt[:3], spoilt[3:]):
            source.send(part.tobytes())
        if bad:
            np.testing.assert_allclose(collect(sink, bad), expected(spoilt[:bad]), atol=1e-6)
        relay.thread.join(60)
    assert isinstance(relay.error, NflaeError)
    assert f"item {bad}: user 1, antenna 1 is Inf" in str(relay.error)
    assert relay.counts.sent == bad


def test_req_asks_and_rep_answers_as_many_as_asked_for() -> None:
    channels = drops(10)
    options = RelayOptions(max_batch=4)
    with RunningRelay("req,tags", {"precoders": "rep,tags", "labels": "rep"}, options) as relay:
        source = relay.peer(zmq.REP, relay.inlet.sender.address)
        sinks = [relay.peer(zmq.REQ, outlet.address) for outlet in relay.outlets]
        for start in range(0, 10, 4):
            (asked,) = struct.unpack("<I", source.recv())
            assert asked == 4
            source.send(encode_header(start, []) + channels[start : start + 4].tobytes())
            first = start
            while first < min(10, start + 4):
                sinks[0].send(struct.pack("<I", 3))
                message = sinks[0].recv()
                offset, tags, at = decode_header(message)
                rows = items(message[at:])
                assert offset == first
                assert len(rows) <= 3
                assert tags[0] == Tag(first, "nflae_item", np.uint64(first), "nflae")
                np.testing.assert_allclose(rows, expected(channels[first : first + len(rows)]), atol=1e-6)
                sinks[1].send(struct.pack("<I", len(rows)))
                assert len(sinks[1].recv()) == USERS * len(rows)
                first += len(rows)
    assert relay.counts.sent == 10


def test_req_asks_again_when_the_one_it_asked_is_gone() -> None:
    channels = drops(2)
    with RunningRelay("req", {"precoders": "push"}, RelayOptions()) as relay:
        sink = relay.peer(zmq.PULL, relay.outlets[0].address)
        gone = relay.peer(zmq.REP, relay.inlet.sender.address)
        gone.recv()
        gone.close(linger=0)
        heir = relay.peer(zmq.REP, relay.inlet.sender.address)
        heir.recv()
        heir.send(channels.tobytes())
        np.testing.assert_allclose(collect(sink, 2), expected(channels), atol=1e-6)


def test_pub_and_sub_filter_by_key() -> None:
    channels = drops(3)
    with RunningRelay("sub,key=csi", {"precoders": "pub,key=w"}) as relay:
        source, sink = relay.peer(zmq.PUB, relay.inlet.sender.address), relay.peer(zmq.SUB, relay.outlets[0].address)

        def publish() -> bool:
            source.send_multipart([b"other", drops(1, seed=9).tobytes()])
            source.send_multipart([b"csi", channels.tobytes()])
            return bool(sink.poll(50))

        wait_until(publish)
        key, message = sink.recv_multipart()
        assert key == b"w"
        np.testing.assert_allclose(items(message)[:3], expected(channels), atol=1e-6)


def test_a_push_output_nobody_reads_makes_the_sender_wait_and_nothing_is_lost() -> None:
    channels, messages = drops(64), 400
    block = channels.tobytes()
    answers: dict[int, Any] = {}

    def quick(drops: npt.NDArray[np.complex64], **budget: float) -> Any:
        if len(drops) not in answers:
            answers[len(drops)] = rzf(drops, **budget)
        return answers[len(drops)]

    with RunningRelay("pull", {"precoders": "push"}, messages=2, precode=quick) as relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address, hwm=2)
        sent = 0

        def feed() -> None:
            nonlocal sent
            for _ in range(messages):
                source.send(block)
                sent += 1

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        # Nobody reads: the sender comes to a halt.
        seen = -1
        while seen != sent:
            seen = sent
            time.sleep(0.5)
        assert sent < messages
        sink = relay.peer(zmq.PULL, relay.outlets[0].address)
        rows = collect(sink, 64 * messages)
        feeder.join(60)
    assert len(rows) == 64 * messages == relay.counts.sent
    np.testing.assert_allclose(rows.reshape(messages, 64, -1), np.tile(expected(channels), (messages, 1, 1)), atol=1e-6)


def test_a_subscriber_that_stops_reading_stops_nobody() -> None:
    block = drops(64)
    answers: dict[int, Any] = {}

    def quick(drops: npt.NDArray[np.complex64], **budget: float) -> Any:
        if len(drops) not in answers:
            answers[len(drops)] = rzf(drops, **budget)
        return answers[len(drops)]

    with RunningRelay("pull", {"precoders": "pub,tags"}, precode=quick) as relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        stuck = relay.peer(zmq.SUB, relay.outlets[0].address, hwm=1)
        reader = relay.peer(zmq.SUB, relay.outlets[0].address)
        source.send(block.tobytes())
        wait_until(lambda: bool(reader.poll(20)) or bool(source.send(block.tobytes())))
        before = relay.counts.sent
        for _ in range(2000):
            source.send(block.tobytes())
            while reader.poll(0):
                reader.recv()
        wait_until(lambda: relay.counts.sent >= before + 2000 * 64)
        # What was left out for the one who did not read is a gap in the offsets.
        offsets = []
        while stuck.poll(200):
            offset, tags, _ = decode_header(stuck.recv())
            offsets.append(offset)
            assert tags[0].value == np.uint64(offset)
        assert len(offsets) < 2000


def test_pdus_keep_their_metadata_and_bring_their_budget() -> None:
    channels, wide = drops(1)[0], random_channels(1, 2, 24)[0]
    with RunningRelay("pull,pdu", {"precoders": "push,pdu", "powers": "push,pdu"}, patient(with_results=True)) as relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        sinks = [relay.peer(zmq.PULL, outlet.address) for outlet in relay.outlets]
        source.send(encode(Pair({"cell": "north", "noise_power": 0.5, "power": 2}, channels.ravel())))
        source.send(encode(Pair({"users": 2, "antennas": 24}, wide.ravel())))
        source.send(encode(Pair(None, channels.ravel()[:7])))
        source.send(encode(Pair({"alpha_c": 2.0}, channels.ravel())))
        source.send(encode(Pair({"users": True}, channels.ravel())))
        answers = [decode(sinks[0].recv()) for _ in range(5)]
        powers = decode(sinks[1].recv())
    first = precode(channels, scheme="rzf", noise_power=0.5, power=2)
    np.testing.assert_allclose(answers[0].cdr, first.precoder.ravel(), atol=1e-6)
    assert answers[0].car["cell"] == "north"
    assert answers[0].car["nflae_item"] == np.uint64(0)
    assert answers[0].car["nflae_sum_rate"] == pytest.approx(first.sum_rate[0])
    assert answers[0].car["nflae_feasible"] is True
    np.testing.assert_allclose(answers[0].car["nflae_power"], first.power[0], atol=1e-6)
    np.testing.assert_allclose(powers.cdr, first.power[0], atol=1e-6)
    np.testing.assert_allclose(answers[1].cdr, precode(wide, scheme="rzf").precoder.ravel(), atol=1e-6)
    for number, words in (
        (2, "7 samples, not 16 antennas x 3 users"),
        (3, "metadata's alpha_c must be a share of the power in (0, 1], got 2.0"),
        (4, "metadata's users must be an integer, got a bool"),
    ):
        assert words in answers[number].car["nflae_error"]
        assert answers[number].car["nflae_item"] == np.uint64(number)
        assert not answers[number].cdr.any()
    assert (relay.counts.received, relay.counts.bad) == (5, 3)


def test_pdus_in_and_a_stream_out() -> None:
    channels = drops(3)
    with RunningRelay("pull,pdu", {"precoders": "push"}) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(encode(Pair(None, channels[0].ravel())))
        source.send(encode(Pair({"users": 2, "antennas": 8}, channels[1].ravel()[:16])))
        source.send(encode(Pair(None, channels[2].ravel())))
        rows = collect(sink, 3)
    np.testing.assert_allclose(rows[[0, 2]], expected(channels[[0, 2]]), atol=1e-6)
    assert not rows[1].any()
    assert "outputs, which are streams" in relay.warnings[0][1]


def test_what_was_taken_is_finished_before_the_end() -> None:
    channels, started, go = drops(8), threading.Event(), threading.Event()

    def slow(block: npt.NDArray[np.complex64], **budget: float) -> Any:
        started.set()
        go.wait(60)
        return rzf(block, **budget)

    with RunningRelay("pull", {"precoders": "push"}, patient(max_batch=4), precode=slow) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(channels.tobytes())
        assert started.wait(60)
        relay.order_stop()
        go.set()
        relay.stop()
        assert len(collect(sink, 8)) == 8
    assert (relay.counts.sent, relay.counts.unsent) == (8, 0)


def test_an_error_of_the_scheme_ends_it() -> None:
    def broken(block: npt.NDArray[np.complex64], **budget: float) -> Any:
        raise NflaeError("tcp://127.0.0.1:5555: no answer")

    with RunningRelay("pull", {"precoders": "push"}, precode=broken) as relay:
        relay.peer(zmq.PUSH, relay.inlet.sender.address).send(drops(1).tobytes())
        relay.thread.join(60)
    assert "no answer" in str(relay.error)


def test_rates_that_are_no_numbers_are_bad_items() -> None:
    def odd(block: npt.NDArray[np.complex64], **budget: float) -> Any:
        result = rzf(block, **budget)
        result.sum_rate[1] = np.nan
        return result

    with RunningRelay("pull", {"precoders": "push"}, precode=odd) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(drops(3).tobytes())
        rows = collect(sink, 3)
    assert rows.any(1).tolist() == [True, False, True]
    assert relay.counts.bad == 1


@pytest.mark.parametrize(
    "metadata",
    [
        {"users": 10**9, "antennas": 1},
        {"users": 0},
        {"antennas": np.zeros(9)},
        {"power": float("nan")},
        {"noise_power": 1e-200},
        {"power": 1e40},
        {"power": "x" * 60_000},
        {"min_rate": -1},
    ],
)
def test_metadata_nobody_can_serve_is_answered_with_an_error(metadata: dict[str, Any]) -> None:
    with RunningRelay("pull,pdu", {"precoders": "push,pdu"}, patient(with_results=True)) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(encode(Pair(metadata, drops(1).ravel())))
        answer = decode(sink.recv())
    assert answer.car["nflae_error"].startswith(f"its metadata's {next(iter(metadata))} must be")
    assert relay.counts.bad == 1


@pytest.mark.parametrize(("dialect", "recognised"), [("3.9", False), ("3.8", False), ("3.8", True)])
def test_pdus_of_old_releases_are_read_and_answered(dialect: Dialect, recognised: bool) -> None:
    channels = drops(2)
    option = "" if recognised else f",pmt={dialect}"
    with RunningRelay(f"pull,pdu{option}", {"precoders": "push,pdu"}, patient(with_results=True)) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        for drop in channels:
            source.send(encode(Pair({"noise_power": 0.1}, drop.ravel()), dialect))
        answers = [decode(sink.recv(), dialect) for _ in channels]
    whole = precode(channels, scheme="rzf", noise_power=0.1)
    np.testing.assert_allclose([answer.cdr for answer in answers], whole.precoder.reshape(2, -1), atol=1e-6)
    np.testing.assert_allclose([answer.car["nflae_power"] for answer in answers], whole.power, atol=1e-6)
    assert [event for event, _ in relay.warnings] == (["pmt_recognised"] if recognised else [])


@pytest.mark.parametrize(
    ("csi", "messages", "words"),
    [
        (
            "pull",
            [drops(1).tobytes()[: 8 * 32]],
            "holds 32 complex numbers, not a multiple of --users 3 x --antennas 16",
        ),
        ("pull", [drops(1).tobytes()[: 8 * 32]], "--users 2 --antennas 16 would fit"),
        ("pull", [drops(1).tobytes()[: 8 * 33]], "--users 3 --antennas 11 would fit"),
        ("pull,pdu", [encode(Pair(None, drops(2).ravel()))], "--users 3 --antennas 32 or --users 6 --antennas 16"),
        (
            "pull,tags",
            [encode_header(0, []) + drops(4).tobytes(), encode_header(2, []) + drops(2).tobytes()],
            "counts 2 vectors in 192 complex numbers; if that is one vector, --users 3 --antennas 32",
        ),
    ],
)
def test_vectors_of_another_size_stop_it(csi: str, messages: list[bytes], words: str) -> None:
    with RunningRelay(csi, {"precoders": "push"}) as relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        relay.peer(zmq.PULL, relay.outlets[0].address)  # takes the items of messages before the last
        for message in messages:
            source.send(message)
        relay.thread.join(60)
    assert isinstance(relay.error, StreamSizeError)
    assert words in str(relay.error)


def test_the_size_of_the_first_item_is_checked_while_the_model_is_loaded() -> None:
    loaded = threading.Event()

    def load() -> Precode:
        assert loaded.wait(60)
        return rzf

    relay = RunningRelay("pull", {"precoders": "push"})
    relay.relay._prepare = load
    with relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        source.send(drops(1).tobytes()[: 8 * 32])
        relay.thread.join(60)
        assert isinstance(relay.error, StreamSizeError)
        assert not loaded.is_set()
        loaded.set()


def test_items_that_arrive_while_the_model_is_loaded_are_the_first_answered() -> None:
    loaded = threading.Event()

    def load() -> Precode:
        assert loaded.wait(60)
        return rzf

    relay = RunningRelay("pull", {"precoders": "push"})
    relay.relay._prepare = load
    channels = drops(5)
    with relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        sink = relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(channels[:3].tobytes())
        wait_until(lambda: relay.counts.received == 3)
        source.send(channels[3:].tobytes())
        loaded.set()
        np.testing.assert_allclose(collect(sink, 5), expected(channels), atol=1e-6)
        wait_until(lambda: relay.counts.sent == 5)
    assert (relay.counts.received, relay.counts.lost) == (5, 0)


@pytest.mark.parametrize(
    ("requested", "items", "words"),
    [
        (2, 4, "counts 2 vectors in 192 complex numbers; if that is one vector, --users 3 --antennas 32"),
        (7, 8, "8 items came where the sender counts 7, or 7 were requested; a sender has to send whole vectors"),
    ],
)
def test_answers_of_more_vectors_than_requested_stop_it(requested: int, items: int, words: str) -> None:
    with RunningRelay("req", {"precoders": "push"}, patient(max_batch=requested)) as relay:
        source = relay.peer(zmq.REP, relay.inlet.sender.address)
        source.recv()
        source.send(drops(items).tobytes())
        relay.thread.join(60)
    assert words in str(relay.error)


def test_latest_computes_the_newest_item_only() -> None:
    started, go = threading.Event(), threading.Event()

    def slow(block: npt.NDArray[np.complex64], **budget: float) -> Any:
        started.set()
        go.wait(60)
        return rzf(block, **budget)

    channels = drops(6)
    with RunningRelay("sub,tags,latest", {"precoders": "push,tags"}, precode=slow) as relay:
        source, sink = relay.peer(zmq.XPUB, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        assert source.recv() == b"\x01"  # the subscription
        source.send(encode_header(0, []) + channels[:1].tobytes())
        assert started.wait(60)
        source.send(encode_header(1, []) + channels[1:3].tobytes())
        source.send(encode_header(3, []) + channels[3:].tobytes())
        wait_until(lambda: relay.counts.received == 6)
        go.set()
        rows, tags = tagged(sink, 2)
    np.testing.assert_allclose(rows, expected(channels[[0, 5]]), atol=1e-6)
    assert tags[1]["nflae_item"] == np.uint64(5)
    assert relay.counts.skipped == 4
    assert relay.counts.lag_ms > 0
    assert relay.counts.unsent == 0


def numbered(first: int, count: int) -> bytes:
    """Items whose first channel is their number."""
    block = np.ones((count, USERS * ANTENNAS), np.complex64)
    block[:, 0] = np.arange(first, first + count)
    return block.tobytes()


def numbers_of(message: bytes) -> list[int]:
    return [int(value) for value in items(message)[:, 0].real]


def echo_all(block: npt.NDArray[np.complex64], **budget: float) -> Any:
    result = rzf(np.where(block == 0, 1, block), **budget)
    return replace(result, precoder=block)


@pytest.mark.parametrize("kind", ["push", "rep"])
def test_a_new_reader_and_sender_get_nothing_of_the_former_run(kind: str) -> None:
    gone = threading.Event()

    def held(block: npt.NDArray[np.complex64], **budget: float) -> Any:
        assert block.flat[0].real <= 100 or gone.wait(60)  # the first batch only, while its reader is there
        return echo_all(block, **budget)

    with RunningRelay("pull", {"precoders": kind}, RelayOptions(max_batch=2), precode=held) as relay:
        old = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        reader = relay.peer(zmq.PULL if kind == "push" else zmq.REQ, relay.outlets[0].address, hwm=1)
        if kind == "rep":
            reader.send(struct.pack("<I", 1))
        old.send(numbered(100, 50))
        assert reader.recv()
        if kind == "rep":
            wait_until(lambda: relay.outlets[0].waiting > 0)
        old.close(linger=0)
        reader.close(linger=0)
        for events in (relay.events, relay.output_events):
            wait_until(lambda events=events: [event for event, _ in events].count("disconnected") == 1)  # type: ignore[misc]
        gone.set()
        heir = relay.peer(zmq.PULL if kind == "push" else zmq.REQ, relay.outlets[0].address)
        if kind == "rep":
            heir.send(struct.pack("<I", 1))
        time.sleep(0.2)  # time enough to send old items, if there were any to send
        new = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        new.send(numbered(0, 3))
        assert numbers_of(heir.recv())[0] == 0
    assert relay.counts.stale > 0
    assert relay.counts.restarts == 1


def test_a_reader_that_connects_late_gets_what_no_reader_has_missed() -> None:
    with RunningRelay("pull", {"precoders": "push"}, precode=echo_all) as relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        source.send(numbered(0, 3))
        wait_until(lambda: relay.counts.received == 3)
        source.close()
        wait_until(lambda: "disconnected" in [event for event, _ in relay.events])
        assert numbers_of(relay.peer(zmq.PULL, relay.outlets[0].address).recv()) == [0, 1, 2]
    assert relay.counts.stale == 0


@pytest.mark.parametrize("gentle", [True, False])
@pytest.mark.parametrize("output", ["rep", "rep,tags", "rep,pdu"])
def test_a_reader_that_waits_is_served_by_the_next_stream(output: str, gentle: bool) -> None:
    """The reader is a strict REQ socket, as GNU Radio's, with an open request."""
    with bounded_context() as context, context.socket(zmq.REQ) as reader:
        reader.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        reader.setsockopt(zmq.LINGER, 0)
        with RunningRelay("pull", {"precoders": output}, precode=echo_all) as first:
            address = first.outlets[0].address
            reader.connect(address)
            reader.send(struct.pack("<I", 5))
            wait_until(lambda: bool(first.outlets[0]._replies._requests))  # type: ignore[union-attr]
            if not gentle:
                first.outlets[0]._replies._requests.clear()  # type: ignore[union-attr]
        if gentle:
            assert reader.recv() == first.outlets[0].empty
            reader.send(struct.pack("<I", 5))
        with RunningRelay("pull", {"precoders": output}, RelayOptions(), echo_all, address=address) as second:
            source = second.peer(zmq.PUSH, second.inlet.sender.address)
            source.send(numbered(0, 2))
            for _ in range(2):  # the empty answer is one, unless the request was kept for the new stream
                message = reader.recv()
                if message != second.outlets[0].empty:
                    break
                reader.send(struct.pack("<I", 5))
            samples = decode(message).cdr.tobytes() if "pdu" in output else message[-2 * 8 * USERS * ANTENNAS :]
            assert numbers_of(samples)[0] == 0


def test_a_reader_of_another_kind_and_an_absent_sender_are_reported() -> None:
    with RunningRelay("pull", {"precoders": "push"}) as relay:
        relay.peer(zmq.SUB, relay.outlets[0].address)
        wait_until(lambda: bool(relay.output_events))
    event, fields = relay.output_events[0]
    assert event == "refused"
    assert "push goes with a ZMQ PULL Source" in str(fields["message"])


@pytest.mark.parametrize(
    ("kind", "event", "words"),
    [
        (None, "absent", "nothing listens there; a ZMQ PUSH Sink is awaited"),
        (zmq.PUB, "refused", "the socket there is a PUB; pull goes with a ZMQ PUSH Sink"),
    ],
)
def test_the_other_end_of_a_connecting_input_is_named(
    kind: int | None, event: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmtp, "_SECONDS", 60.0)
    with bounded_context() as context:
        other = context.socket(zmq.PUB)
        port = other.bind_to_random_port("tcp://127.0.0.1")
        if kind is None:
            port = free_tcp_port()
        events: list[tuple[str, dict[str, object]]] = []
        endpoint = Endpoint("pull", f"tcp://127.0.0.1:{port}", bind=False)
        sender = SenderSocket(context, endpoint, 4, lambda name, **fields: events.append((name, fields)))

        def reported() -> bool:
            sender.follow()
            return bool(events)

        wait_until(reported)
        for _ in range(20):  # attempts that fail alike are reported once
            sender.follow()
            time.sleep(0.01)
        sender.close()
        other.close(linger=0)
    assert events == [(event, events[0][1])]
    assert events[0][1]["message"] == words


def bound_sender(context: zmq.Context[zmq.Socket[bytes]], events: list[str], kind: str = "pull") -> SenderSocket:
    endpoint = Endpoint(kind, "tcp://127.0.0.1:*", bind=True)
    return SenderSocket(context, endpoint, 4, lambda name, **fields: events.append(name))


def read(sender: SenderSocket, count: int) -> list[tuple[int, int]]:
    """Return the runs and the numbers of messages that hold a number."""
    found: list[tuple[int, int]] = []

    def is_complete() -> bool:
        sender.follow()
        while len(found) < count and (frames := sender.receive()):
            found.append((sender.run, int(frames[0].split()[0])))
        return len(found) == count

    wait_until(is_complete)
    return found


def test_the_port_of_an_asterisk_is_kept_for_the_next_sender() -> None:
    with bounded_context() as context:
        sender = bound_sender(context, [])
        address = sender.address
        for number in (1, 2):
            with context.socket(zmq.PUSH) as peer:
                peer.connect(address)
                peer.send(b"%d" % number)
                assert read(sender, 1) == [(number, number)]
            assert sender.address == address
        sender.close()


def test_a_sender_that_connects_while_messages_of_the_former_one_wait_loses_none() -> None:
    with bounded_context() as context:
        events: list[str] = []
        sender = bound_sender(context, events)
        found: list[tuple[int, int]] = []
        for run in (1, 2, 3):
            peer = context.socket(zmq.PUSH)
            peer.connect(sender.address)
            for number in range(100):
                peer.send(b"%d" % number)
            found += read(sender, 50 if run == 1 else 100)
            peer.close(linger=60_000)  # the next one connects at once
        found += read(sender, 50)
        sender.close()
    assert found == [(run, number) for run in (1, 2, 3) for number in range(100)]
    assert "second_sender" not in events


def test_a_sender_that_has_left_behind_a_long_queue_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_WAIT_SECONDS", 0.5)
    count, rest = 1500, b" " + bytes(200)  # more than TCP's window: the kernel here has not heard of the end
    with bounded_context() as context:
        events: list[str] = []
        sender = bound_sender(context, events)
        for _ in (1, 2):
            other = bounded_context()
            peer = other.socket(zmq.PUSH)
            peer.set_hwm(0)
            peer.connect(sender.address)
            for number in range(count):
                peer.send(b"%d" % number + rest)
            if sender.run:
                break
            wait_until(lambda: sender.follow() or sender.connected)
            peer.close(linger=PATIENCE_MS)
            other.term()
        wait_until(lambda: sender.follow() or {"disconnected", "second_sender"} & set(events))
        found = read(sender, 2 * count)
        peer.close(linger=0)
        other.term()
        sender.close()
    assert found == [(run, number) for run in (1, 2) for number in range(count)]
    assert "second_sender" not in events


def test_a_sender_that_leaves_before_it_is_admitted_is_not_called_one_of_another_kind() -> None:
    with bounded_context() as context:
        events: list[str] = []
        sender = bound_sender(context, events)
        assert sender._admission is not None
        with context.socket(zmq.PUSH) as peer:
            peer.connect(sender.address)
            assert sender._admission.requests.poll(PATIENCE_MS)
        wait_until(lambda: sender._peers.read() or bool(events))
        sender.close()
    assert events == ["not_admitted"]


def test_two_senders_at_a_time_are_reported_and_both_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_WAIT_SECONDS", 0.1)
    with bounded_context() as context:
        events: list[str] = []
        sender = bound_sender(context, events)
        with context.socket(zmq.PUSH) as first, context.socket(zmq.PUSH) as second:
            for number, peer in ((1, first), (2, second)):
                peer.connect(sender.address)
                peer.send(b"%d" % number)
            assert sorted(number for _, number in read(sender, 2)) == [1, 2]
            wait_until(lambda: sender.follow() or "second_sender" in events)
            assert sender.run_of(1) == Run(1)  # or its items would be discarded as those of a former run
            first.close()
            wait_until(lambda: sender.follow() or "disconnected" in events)
            second.send(b"3")
            assert [number for _, number in read(sender, 1)] == [3]
        sender.close()
