"""Tracks in GNU Octave: those of the Python client, from channels and from powers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from simulator.tracking.track import track
from simulator.tracking.tracker import Observations
from tests.nflae_bridge.live.live_server import LiveServer
from tests.octave_session import require_zeromq, run_octave
from tests.simulator.tracking.test_track import ARRAY, STEP, beam_powers, flight

pytestmark = pytest.mark.octave

CALLS = """
s = load('items.mat');
c = nflae.Client('ADDRESS');
a = c.track(s.H(:, :, 1:4), s.t(1:4), 'Gps', s.g(:, :, 1:4), 'ArrayHeight', 12, 'TiltDeg', 5, 'Ahead', 2);
b = c.track(s.H(:, :, 5), s.t(5), 'Track', a.track, 'Gps', s.g(:, :, 5));
p = c.track(s.P, s.t, 'Powers', true, 'Gps', s.g, 'ArrayHeight', 12, 'TiltDeg', 5);
names = a.nflae_info.sources;
source = names{b.source(1)};
powers = p.nflae_info.sources{p.source(1, end)};
try
  c.track(s.H(:, :, 5), s.t(5), 'Track', 'gone');
catch fault
  identifier = fault.identifier; message = fault.message;
end
try
  c.track(real(s.H), s.t);
catch fault
  real_message = fault.message;
end
save('-v7', 'found.mat', 'a', 'b', 'p', 'source', 'powers', 'identifier', 'message', 'real_message');
"""


def test_tracks_are_those_of_python(server: LiveServer, tmp_path: Path) -> None:
    require_zeromq()
    channels, place = flight(ARRAY, 5)
    powers = beam_powers(ARRAY, channels)
    items = {"H": channels.numpy().T, "g": place.T, "t": STEP * np.arange(5), "P": powers.T}
    scipy.io.savemat(tmp_path / "items.mat", items)
    run_octave(CALLS.replace("ADDRESS", server.address), tmp_path)
    found = scipy.io.loadmat(tmp_path / "found.mat", squeeze_me=True, simplify_cells=True)
    expected = track(ARRAY, Observations(channels=channels, gps=place), STEP, ahead=2)
    x = np.concatenate([found["a"]["x"], found["b"]["x"][:, None]], 1)
    np.testing.assert_allclose(x.T, expected.position[..., 0], atol=1e-6)
    np.testing.assert_array_equal(found["a"]["next_beams"], expected.next_beams[:4].transpose(3, 1, 2, 0) + 1)
    of_powers = track(ARRAY, Observations(powers=powers, gps=place), STEP)
    np.testing.assert_allclose(found["p"]["angle_deg"].T, np.degrees(of_powers.angle), atol=1e-6)
    assert found["source"] == "csi+gps"
    assert found["powers"] == "powers+gps"
    assert found["identifier"] == "nflae:noTrack"
    assert "track 'gone' is unknown or has expired" in found["message"]
    assert "use complex(H), or 'Powers', true" in found["real_message"]
