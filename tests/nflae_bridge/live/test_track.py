"""Tracks on the wire: answers of a whole recording, bounded state that expires, faults in one line."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zmq

from nflae_bridge import AsyncClient, BadRequest, Client, NoTrack
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.frames import decode_request, encode_request
from nflae_bridge.live.protocol.messages import TrackOptions, TrackRequest
from nflae_bridge.live.server.computation.sequences.tracks import Tracks
from simulator.tracking.track import track as track_all
from simulator.tracking.tracker import Observations
from tests.nflae_bridge.live.live_server import LiveServer
from tests.simulator.tracking.test_track import ARRAY, STEP, beam_powers, flight

CHANNELS, PLACE = flight(ARRAY, 9)
NEW = {"array_height": ARRAY.height, "tilt_deg": 5.0, "ahead": 2}
TIMES = STEP * np.arange(9)


def request(start: int = 0, stop: int = 1, name: str = "1", **options: Any) -> TrackRequest:
    chosen = TrackOptions(tuple(TIMES[start:stop].tolist()), **options)
    return TrackRequest(name, CHANNELS.numpy()[start:stop], options=chosen)


def test_blocks_of_snapshots_give_the_track_of_the_whole(server: LiveServer) -> None:
    expected = track_all(ARRAY, Observations(channels=CHANNELS, gps=PLACE), STEP, ahead=2)
    found, name = [], None
    with Client(server.address) as client:
        for start, stop in ((0, 2), (2, 3), (3, 9)):
            of_new = NEW if name is None else {}
            part = slice(start, stop)
            found.append(client.track(CHANNELS.numpy()[part], TIMES[part], gps=PLACE[part], track=name, **of_new))
            name = found[0].track
        assert client.status()["tracks"] >= 1
        with pytest.raises(BadRequest, match=r"time 2 s of snapshot 1 is not after 2 s, the one before"):
            client.track(CHANNELS.numpy()[8:], TIMES[8:], track=name)
        with pytest.raises(NoTrack, match="track 'gone' is unknown or has expired"):
            client.track(CHANNELS.numpy()[:1], track="gone")
        with pytest.raises(BadRequest, match="1 users: this track has 2"):
            client.track(CHANNELS.numpy()[:1, :1], 9.0, track=name)
    np.testing.assert_allclose(np.concatenate([each.x for each in found]), expected.position[..., 0], atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([each.beam for each in found]), expected.beam)
    np.testing.assert_array_equal(found[-1].next_beams.swapaxes(1, 2), expected.next_beams[3:])
    assert set(found[-1].source.ravel()) == {"csi+gps"}
    assert set(found[-1].angle_source.ravel()) == {"csi"}
    assert set(found[-1].beam_source.ravel()) == {"measured"}
    assert found[-1].in_sight.dtype == bool
    assert {each.track for each in found} == {name}


def test_the_convention_of_a_track_is_that_of_every_call(server: LiveServer) -> None:
    H = CHANNELS.numpy()
    with Client(server.address) as client:
        name = client.track(H[0].conj(), 0.0, convention="direct", **NEW).track
        with pytest.raises(
            BadRequest, match="convention hermitian: this track has direct; state that in every request"
        ):
            client.track(H[1].conj(), STEP, track=name)
        found = client.track(H[1].conj(), STEP, convention="direct", track=name)
        first = client.track(H[0], 0.0, **NEW)
        np.testing.assert_array_equal(client.track(H[1], STEP, track=first.track).angle_deg, found.angle_deg)


def test_powers_and_detections_reach_the_server_from_asyncio(server: LiveServer) -> None:
    powers = beam_powers(ARRAY, CHANNELS)
    angle = np.degrees(np.arctan2(ARRAY.height - PLACE[..., 1], PLACE[..., 0]) - ARRAY.tilt)
    objects = np.stack([angle, np.hypot(PLACE[..., 0], PLACE[..., 1] - ARRAY.height)], -1)

    async def run() -> Any:
        async with AsyncClient(server.address) as client:
            first = await client.track(powers=powers[:5], times=TIMES[:5], detections=objects[:5], **NEW)
            return await client.track(powers=powers[5:], times=TIMES[5:], detections=objects[5:], track=first.track)

    found = asyncio.run(run())
    assert set(found.source.ravel()) == {"powers+detection"}
    assert set(found.distance_source.ravel()) == {"detection"}
    assert np.hypot(found.x - PLACE[5:, :, 0], found.height - PLACE[5:, :, 1]).max() < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "channels or powers, one of both"),
        ({"channels": CHANNELS.numpy(), "times": [0.0]}, "times must be 9 finite rising"),
        ({"channels": CHANNELS.numpy()[:1], "gps": PLACE[:1]}, "gps without the mast's position: give array_height"),
        ({"channels": CHANNELS.numpy()[:1], "gps": PLACE[:1, :1]}, r"gps must be \(1, 2, 2\)"),
        ({"powers": np.ones((1, 2, 2))}, r"powers must be \(snapshots, users, beams\)"),
        ({"powers": np.ones((1, 2, 8)), "detections": np.ones(3)}, r"detections must be \(1, objects, 2\)"),
        ({"channels": CHANNELS.numpy()[:1], "ahead": 0}, "ahead must be a whole number"),
        ({"channels": CHANNELS.numpy()[:1], "geometry": "panel:8x16"}, "geometry 'panel:8x16': tracks are of linear"),
        ({"channels": CHANNELS.numpy()[:1], "tilt_deg": np.nan}, "tilt_deg must be finite, from .*, got nan"),
        ({"channels": CHANNELS.numpy()[:1], "array_height": np.nan}, "array_height must be finite, from .*, got nan"),
        ({"channels": CHANNELS.numpy()[:1], "carrier_ghz": np.inf}, "carrier_ghz must be finite, from .*, got inf"),
        ({"channels": CHANNELS.numpy()[:1], "gps": np.full((1, 2, 2), np.inf), "array_height": 9.0}, "gps holds Inf"),
        ({"channels": CHANNELS.numpy()[:1], "tilt_deg": 120}, "from -89.9888 to 89.9888 degrees, got 120"),
        ({"channels": CHANNELS.numpy()[:1], "carrier_ghz": 3e5}, "from 0.001 to 10000 GHz, got 300000"),
        ({"channels": CHANNELS.numpy()[:1], "beam_angles_deg": [1.0]}, "beam_angles_deg: of beam powers only"),
        ({"channels": CHANNELS.numpy()[:1], "detections": np.ones((1, 1025, 2))}, "1025 per snapshot, at most 1024"),
        ({"powers": np.ones((1, 2, 3)), "beam_angles_deg": [0.0, 1.0, np.nan]}, "beam_angles_deg must be finite"),
        ({"powers": np.ones((1, 2, 3)), "beam_angles_deg": [0.0, 1.0, 91.0]}, "3 rising numbers within -90 to 90"),
        ({"powers": np.ones((1, 32, 4))}, r"32 users and 4 beams; .* pass np.swapaxes\(powers, -1, -2\)"),
        ({"powers": np.full((1, 2, 8), -70.0)}, "powers: negative values; expected linear powers, not dB"),
        ({"powers": np.ones((1, 2, 8)), "layout": "snk"}, "layout 'snk' of powers"),
        ({"powers": np.ones((1, 2, 8)), "convention": "direct"}, "convention 'direct': beam powers have no phase"),
        ({"channels": CHANNELS.numpy()[:1], "track": "a", "array_height": 9.0}, "array_height: of a new track only"),
    ],
    ids=str,
)
def test_calls_that_cannot_be_sent_say_so(arguments: dict[str, Any], message: str) -> None:
    with Client("tcp://127.0.0.1:9") as client, pytest.raises(BadRequest, match=message):
        client.track(**arguments)


def test_arguments_of_no_track_are_named() -> None:
    with Client("tcp://127.0.0.1:9") as client, pytest.raises(TypeError, match="no argument tilt; there are track, "):
        client.track(CHANNELS.numpy()[:1], tilt=5.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"times": [0.0]}, "1 times for 2 snapshots: one each"),
        ({"times": [1.0, 1.0]}, "times: 1 s is not after 1 s, the snapshot before"),
        ({"gps": True}, "gps without the mast's position: add array_height, m"),
        ({"track": "x", "ahead": 3}, "ahead: of a new track only"),
        ({"track": "x", "geometry": "line"}, "geometry: of a new track only"),
        ({"geometry": "panel:8x16"}, "geometry 'panel:8x16': tracks are of linear arrays"),
        ({"beam_angles_deg": [1.0, 2.0]}, "beam_angles_deg: of beam powers only"),
        ({"want": ["power"]}, "allowed: x, height"),
        ({"wanted": []}, "allowed: v, id, op, shape, times"),
        ({"dtype": "float64", "beam_angles_deg": [1.0, 2.0]}, "2 values for 128 beams"),
        ({"dtype": "float64", "convention": "direct"}, "convention direct: powers have no phase"),
        ({"shape": [2, 128, 2]}, 'shape .* is read as antennas or beams 2, users 128; .* "layout": "nks"'),
        ({"detections": 4}, "2 frames: this header announces 3, itself included"),
        ({"shape": [128, 2, 3], "times": [0.0, 1.0, 2.0]}, "the frame has 4096"),
    ],
    ids=str,
)
def test_headers_outside_the_protocol_are_refused(changed: dict[str, Any], message: str) -> None:
    header = {"v": 1, "id": "1", "op": "track", "shape": [128, 2, 2], "times": [0.0, 0.25]} | changed
    frames = [json.dumps(header).encode(), CHANNELS.numpy()[:2].tobytes()]
    with pytest.raises(WireError, match=message) as fault:
        decode_request(frames)
    assert fault.value.code == "bad_request"
    assert "\n" not in str(fault.value)


def test_requests_are_decoded_as_they_were_encoded() -> None:
    sent = request(0, 3, gps=PLACE[:3], detections=np.ones((3, 4, 2)), height=12.0, tilt=0.1, carrier=28e9, ahead=5)
    read = decode_request(encode_request(sent))
    assert isinstance(read, TrackRequest)
    assert read.options == sent.options
    np.testing.assert_array_equal(read.channels, sent.channels)
    np.testing.assert_array_equal(read.options.gps, PLACE[:3])
    np.testing.assert_array_equal(read.options.detections, 1)
    powers = replace(sent, channels=np.ones((3, 2, 4)), options=TrackOptions((0.0, 1.0, 2.0), track="a"))
    again = decode_request(encode_request(powers))
    assert isinstance(again, TrackRequest)
    assert again.is_powers
    assert again.options.track == "a"


def test_many_users_are_sent_with_their_layout() -> None:
    sent = replace(request(), channels=np.ones((1, 64, 2), np.complex64))
    frames = encode_request(sent)
    assert json.loads(frames[0])["layout"] == "nks"
    assert decode_request(frames).channels.shape == (1, 64, 2)  # type: ignore[union-attr]


def test_infinite_satellite_positions_are_refused() -> None:
    sent = request(gps=np.where(PLACE[:1] > PLACE[:1].min(), PLACE[:1], np.inf), height=12.0)
    with pytest.raises(WireError, match="gps holds Inf: NaN where missing"):
        decode_request(encode_request(sent))


def test_powers_in_decibels_are_refused() -> None:
    sent = replace(request(), channels=np.array([[[-70.0, np.nan, 1.0]]]))
    with pytest.raises(WireError, match="powers: negative values; expected linear powers, not dB") as fault:
        decode_request(encode_request(sent))
    assert fault.value.code == "bad_request"


def test_a_track_keeps_its_convention() -> None:
    tracks = Tracks()
    name = tracks.advance(b"a", replace(request(), convention="direct"))[1]["track"]
    with pytest.raises(WireError, match="convention hermitian: this track has direct"):
        tracks.advance(b"a", request(1, 2, "2", track=name))
    tracks.advance(b"a", replace(request(1, 2, "3", track=name), convention="direct"))


def test_tracks_expire_and_a_repeated_request_gets_the_same_answer() -> None:
    now = [0.0]
    tracks = Tracks(limit=3, seconds=10.0, clock=lambda: now[0])
    _, info = tracks.advance(b"a", request())
    name = info["track"]
    now[0] = 10.0
    second = request(1, 2, "2", track=name)
    arrays, _ = tracks.advance(b"a", second)
    again, _ = tracks.advance(b"a", second)  # sent again after a lost connection
    np.testing.assert_array_equal(again["x"], arrays["x"])
    with pytest.raises(WireError, match="is not after"):
        tracks.advance(b"a", request(1, 2, "3", track=name))
    now[0] = 20.5
    with pytest.raises(WireError, match="has expired, after 10 s without a snapshot; begin one") as fault:
        tracks.advance(b"a", request(2, 3, "4", track=name))
    assert fault.value.code == "no_track"
    assert len(tracks) == 0


def test_a_client_with_many_tracks_costs_no_other_its_own() -> None:
    tracks = Tracks(limit=3)
    _, kept = tracks.advance(b"a", request())
    names = [tracks.advance(b"b", request())[1]["track"] for _ in range(5)]
    assert len(tracks) == 3
    tracks.advance(b"a", request(1, 2, track=kept["track"]))
    tracks.advance(b"b", request(1, 2, track=names[-1]))
    with pytest.raises(WireError, match="unknown or has expired"):
        tracks.advance(b"b", request(1, 2, track=names[0]))
    powers: npt.NDArray[np.float64] = np.ones((1, 2, 128))
    with pytest.raises(WireError, match="channels or of beam powers throughout"):
        tracks.advance(b"a", replace(request(2, 3, "9", track=kept["track"]), channels=powers))


def test_pipelined_requests_of_a_track_are_computed_in_order(server: LiveServer) -> None:
    with Client(server.address) as client:
        name = client.track(CHANNELS.numpy()[:1], 0.0, **NEW).track
    with zmq.Context.instance().socket(zmq.DEALER) as socket:
        socket.linger, socket.rcvtimeo = 0, 60_000
        socket.connect(server.address)
        for start, stop in ((1, 2), (2, 4), (4, 5), (5, 7), (7, 9)):
            socket.send_multipart(encode_request(request(start, stop, str(start), track=name)))
        replies = [json.loads(socket.recv_multipart()[0]) for _ in range(5)]
    assert all(reply["ok"] for reply in replies), replies
