"""Streams with tracks: true angles in tags and metadata, gaps by item numbers, restarts, faults, and the options."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zmq

from nflae_bridge.api.precode import precode
from nflae_bridge.live.gnuradio.computation.prediction import LocalPredict
from nflae_bridge.live.gnuradio.computation.tracking import ItemTracker
from nflae_bridge.live.gnuradio.inlet import InputItems
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.pmt import Pair, decode, encode
from nflae_bridge.live.gnuradio.tags import decode_header, encode_header
from tests.channel_files import Run
from tests.nflae_bridge.live.gnuradio.relays import ANTENNAS, PARAMETERS, USERS, RunningRelay, patient
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import ANTENNAS as FLOWGRAPH_ANTENNAS
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import USERS as FLOWGRAPH_USERS
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import free_address, streaming
from tests.nflae_bridge.live.gnuradio.test_relay import tagged
from tests.sockets import bounded_context

Channels = npt.NDArray[np.complex64]
SLOT, HEIGHT, RADIUS, RATE = 0.1, 10.0, 30.0, np.radians(4.0)  # s, m, m, rad/s


def angles(numbers: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Angles of users that turn around the array, rad, (items, users)."""
    return np.radians([-35.0, 0.0, 30.0]) + RATE * SLOT * np.asarray(numbers)[:, None]


def items(numbers: npt.ArrayLike, antennas: int = ANTENNAS) -> Channels:
    """Exact spherical waves, (items, users, antennas)."""
    place = (np.arange(antennas) - (antennas - 1) / 2) * 0.5 * 299792458.0 / 30e9
    theta = angles(numbers)[..., None]
    path = np.sqrt(RADIUS**2 + place**2 - 2 * RADIUS * place * np.sin(theta))
    return np.exp(-2j * np.pi * (path - RADIUS) * 30e9 / 299792458.0).astype(np.complex64)


def made() -> tuple[ItemTracker, list[str]]:
    warnings = list[str]()
    return ItemTracker(SLOT, HEIGHT, 0.0, 30e9, lambda event, text: warnings.append(f"{event}: {text}")), warnings


def feed(tracker: ItemTracker, numbers: list[int], run: int = 1, channels: Channels | None = None) -> list[Any]:
    """Items one by one, each in a message of its own."""
    found = []
    for row, number in enumerate(numbers):
        item = items([number]) if channels is None else channels[row : row + 1]
        found += tracker.track_items([InputItems(number, item, PARAMETERS, run=run)], item)
    return found


def test_tags_have_the_true_angles_on_every_output() -> None:
    sent = items(range(12))
    outputs: Any = {"precoders": "push,tags", "labels": "push,tags"}
    with RunningRelay("pull,tags", outputs, patient(max_batch=5), track_seconds=SLOT) as relay:
        source = relay.peer(zmq.PUSH, relay.inlet.sender.address)
        sinks = [relay.peer(zmq.PULL, outlet.address) for outlet in relay.outlets]
        source.send(encode_header(0, []) + sent.tobytes())
        rows, tags = tagged(sinks[0], 12)
        of_labels = sinks[1].recv()
    np.testing.assert_allclose(rows, precode(sent, scheme="rzf").precoder.reshape(12, -1), atol=1e-5)
    found = np.array([tags[row]["nflae_angle_deg"] for row in range(12)])
    np.testing.assert_allclose(found, np.degrees(angles(range(12))), atol=0.05)
    last = tags[11]
    assert last["nflae_source"] == "csi,csi,csi"
    assert last["nflae_in_sight"].tolist() == [1] * USERS
    depression = angles([11])[0]
    bearing = np.arctan2(HEIGHT - last["nflae_height"], last["nflae_x"])  # of the position, from the array
    np.testing.assert_allclose(bearing, depression, atol=0.02)
    sines = (2 * last["nflae_beam"] - 1) / ANTENNAS - 1  # beams count from 1
    assert (np.abs(sines - np.sin(depression)) <= 1 / ANTENNAS + 1e-6).all()
    assert last["nflae_next_beams"].shape == (3 * 3 * USERS,)
    assert "nflae_rate" not in last
    assert b"nflae_in_sight" in of_labels
    assert relay.error is None


def test_missing_items_are_predicted_over_by_their_numbers() -> None:
    tracker, warnings = made()
    before = feed(tracker, list(range(20)))[-1]
    missing = np.full((1, USERS, ANTENNAS), np.nan, np.complex64)
    (after,) = feed(tracker, [29], channels=missing)
    true = np.degrees(angles([29]))[0]
    np.testing.assert_allclose(after["nflae_angle_deg"], true, atol=1.2)  # 4 degrees from where the users were
    assert after["nflae_source"] == "prediction,prediction,prediction"
    assert not after["nflae_in_sight"].any()
    assert (after["nflae_position_std"] > before["nflae_position_std"]).all()
    (found,) = feed(tracker, [30])
    np.testing.assert_allclose(found["nflae_angle_deg"], np.degrees(angles([30]))[0], atol=0.05)
    assert found["nflae_source"] == "csi,csi,csi"
    assert warnings == []


def test_messages_of_several_items_and_of_one_give_the_same_tracks() -> None:
    numbers = [0, 1, 2, 5, 6, 7]
    one, batch = made()[0], made()[0]
    blocks = [InputItems(0, items([0, 1, 2]), PARAMETERS), InputItems(5, items([5, 6, 7]), PARAMETERS)]
    together = batch.track_items(blocks, items(numbers))
    for left, right in zip(feed(one, numbers), together, strict=True):
        np.testing.assert_allclose(left["nflae_x"], right["nflae_x"], rtol=1e-4)
        assert left["nflae_source"] == right["nflae_source"]


@pytest.mark.parametrize(
    ("run", "number", "antennas", "warning"),
    [
        (2, 6, ANTENNAS, None),
        (1, 5, ANTENNAS, "track: item 5: the track begins anew: it follows item 5"),
        (1, 0, ANTENNAS, "track: item 0: the track begins anew: it follows item 5"),
        (1, 6, 8, f"track: item 6: the track begins anew: {USERS} users and 8 antennas follow {USERS} and {ANTENNAS}"),
        (1, 607, ANTENNAS, "track: item 607: the track begins anew: 601 items are missing, 60.1 s"),
    ],
    ids=["next run", "same number", "numbers from 0", "another size", "more than a minute"],
)
def test_restarts_begin_a_track(run: int, number: int, antennas: int, warning: str | None) -> None:
    tracker, warnings = made()
    feed(tracker, list(range(6)))
    blocks = [InputItems(number, items([0, 1], antennas), LinkParameters(USERS, antennas), run=run)]
    found = tracker.track_items(blocks, items([0, 1], antennas))
    fresh = made()[0].track_items(blocks, items([0, 1], antennas))
    assert [each["nflae_x"].tolist() for each in found] == [each["nflae_x"].tolist() for each in fresh]
    assert warnings == ([] if warning is None else [warning])


def test_a_track_goes_on_after_a_minute_of_missing_items() -> None:
    tracker, warnings = made()
    feed(tracker, list(range(6)))
    feed(tracker, [606])
    assert warnings == []


def test_a_restart_within_a_message_separates_the_tracks() -> None:
    tracker, warnings = made()
    blocks = [InputItems(3, items([3, 4]), PARAMETERS), InputItems(0, items([0, 1]), PARAMETERS)]
    found = tracker.track_items(blocks, items([3, 4, 0, 1]))
    np.testing.assert_allclose([each["nflae_angle_deg"] for each in found], np.degrees(angles([3, 4, 0, 1])), atol=0.05)
    assert warnings == ["track: item 0: the track begins anew: it follows item 4"]


def test_users_of_an_unusable_item_are_tracked_and_predicted_and_pdus_say_so() -> None:
    sent = items(range(10))
    sent[9, 1, 3] = np.nan
    with RunningRelay("pull,pdu", {"powers": "push,pdu"}, patient(with_results=True), track_seconds=SLOT) as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        for item in sent:
            source.send(encode(Pair({}, item.reshape(-1))))
        answers = [decode(sink.recv()) for _ in range(10)]
    last: Any = answers[9]
    assert last.car["nflae_error"].startswith("user 2, antenna 4 is NaN")
    assert last.car["nflae_source"] == "csi,prediction,csi"
    assert last.car["nflae_in_sight"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(last.car["nflae_angle_deg"], np.degrees(angles([9]))[0], atol=0.5)
    assert answers[8].car["nflae_source"] == "csi,csi,csi"  # type: ignore[union-attr]
    assert "nflae_rate" in answers[8].car  # type: ignore[union-attr]
    assert relay.counts.bad == 1


def test_tracks_are_of_the_channels_that_arrive_not_of_those_predicted() -> None:
    outputs: Any = {"precoders": "push,tags"}
    relaying = RunningRelay("pull,tags", outputs, predict=LocalPredict(geometry="line"), ahead=4, track_seconds=SLOT)
    with relaying as relay:
        source, sink = relay.peer(zmq.PUSH, relay.inlet.sender.address), relay.peer(zmq.PULL, relay.outlets[0].address)
        source.send(encode_header(0, []) + items(range(12)).tobytes())
        _, tags = tagged(sink, 12)
    assert tags[11]["nflae_method"] != "hold"
    np.testing.assert_allclose(tags[11]["nflae_angle_deg"], np.degrees(angles([11]))[0], atol=0.05)


@pytest.mark.slow
def test_the_command_mounts_the_array_and_takes_the_time_of_a_slot() -> None:
    csi, labels = free_address(), free_address()
    ends = ("--csi", f"pull:{csi},bind,tags", "--labels", f"push:{labels},tags", "--track", "--slot-ms", 1e3 * SLOT)
    with (
        bounded_context() as context,
        context.socket(zmq.PUSH) as source,
        context.socket(zmq.PULL) as sink,
        streaming(*ends, "--array-height", HEIGHT, "--tilt-deg", 10, "--carrier-ghz", 15) as running,
    ):
        source.linger = 0
        source.connect(csi)
        sink.connect(labels)
        sent = items([0, 1, 2], FLOWGRAPH_ANTENNAS)[:, np.arange(FLOWGRAPH_USERS) % USERS]
        source.send(encode_header(0, []) + sent.tobytes())
        assert sink.poll(60_000), "no labels within 60 s"
        _, tags, _ = decode_header(sink.recv())
        running.stop()
    found = {tag.key: tag.value for tag in tags if tag.offset == 0}
    tracker = ItemTracker(SLOT, HEIGHT, np.radians(10), 15e9, lambda event, text: None)
    (expected,) = tracker.track_items(
        [InputItems(0, sent[:1], LinkParameters(FLOWGRAPH_USERS, FLOWGRAPH_ANTENNAS))], sent[:1]
    )
    for name in ("x", "height", "position_std", "distance", "angle_deg"):
        np.testing.assert_allclose(found[f"nflae_{name}"], expected[f"nflae_{name}"], rtol=1e-3, atol=1e-3)
    assert {tag.offset for tag in tags if tag.key == "nflae_source"} == {0, 1, 2}


@pytest.mark.parametrize(
    ("output", "arguments", "message"),
    [
        (",tags", ["--track"], "--track requires the time between items: give --slot-ms MS too"),
        (",tags", ["--slot-ms", 5], "--slot-ms applies to --track only; give --track too"),
        (",tags", ["--tilt-deg", 5], "--tilt-deg applies to --track only; give --track too"),
        ("", ["--track", "--slot-ms", 5], "--track needs an output with ',tags' or ',pdu', which carries the"),
        (",tags", ["--track", "--slot-ms", 5, "--ahead", 1, "--geometry", "panel:4x4"], "--track is of linear arrays"),
    ],
)
def test_options_that_do_not_fit_are_named(nflae: Run, output: str, arguments: list[Any], message: str) -> None:
    ends = ("--csi", "pull:tcp://127.0.0.1:1", "--precoders", f"push:tcp://127.0.0.1:*{output}")
    done = nflae("stream", "--users", 3, "--antennas", 16, *ends, *arguments)
    assert done.exit_code == 2
    assert message in done.output
