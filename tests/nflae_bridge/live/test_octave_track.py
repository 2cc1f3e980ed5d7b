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
faults = {};
H = s.H(:, :, 1); g = s.g(:, :, 1);
calls = {@() c.track(H), @() c.track(permute(s.P, [2 1 3]), s.t, 'Powers', true), ...
  @() c.track(permute(s.H, [2 1 3]), s.t), @() c.track(H, 0, 'Gps', Inf(size(g)), 'ArrayHeight', 12), ...
  @() c.track(H, 0, 'TiltDeg', NaN), @() c.track(H, 0, 'Track', a.track, 'Convention', 'direct'), ...
  @() c.track(s.P, s.t, 'Powers', true, 'Convention', 'direct'), @() c.track(H, 0, 'TiltDeg', 120), ...
  @() c.track(s.P, s.t, 'Powers', true, 'BeamAnglesDeg', [1 2]), @() c.precode(H, 'AlphaC', 2), ...
  @() c.track(10 * log10(s.P), s.t, 'Powers', true)};
for i = 1:numel(calls)
  try
    calls{i}(); faults{i} = 'none';
  catch fault
    faults{i} = [fault.identifier ' ' fault.message];
  end
end
rows = c.track(permute(s.H(:, :, 1:4), [2 1 3]), s.t(1:4), 'Layout', 'kns', 'Convention', 'hermitian', ...
  'Gps', s.g(:, :, 1:4), 'ArrayHeight', 12, 'TiltDeg', 5, 'Ahead', 2);
assert(isequal(rows.x, a.x));
wide = c.track(ones(3, 40), 0, 'Powers', true, 'Layout', 'nks');
assert(isequal(size(wide.x), [40 1]));
save('-v7', 'found.mat', 'a', 'b', 'p', 'source', 'powers', 'identifier', 'message', 'real_message', 'faults');
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
    expected_faults = (
        "nflae:badRequest times are missing: track(H, t, ...)",
        "nflae:badRequest the powers are read as 2 beams of 128 users: pass permute(P, [2 1 3])",
        "nflae:badRequest H is 2 x 128 x 5: as antennas x users x drops it has as many users as antennas, or more.",
        "nflae:badRequest Gps holds Inf: NaN where missing",
        "nflae:badRequest TiltDeg must be one finite number",
        "nflae:badRequest convention direct: this track has hermitian; state that in every request",
        "nflae:badRequest Convention: beam powers have no phase; leave it out, or pass channels",
        "nflae:badRequest TiltDeg is out of range: 120 degrees",
        "nflae:badRequest BeamAnglesDeg: 2 values for 128 beams; one per beam, rising",
        "nflae:badRequest AlphaC must be a share of the power in (0, 1], got 2.0",
        "nflae:badRequest powers: negative values; expected linear powers, not dB: 10.^(powers/10)",
    )
    for fault, start in zip(found["faults"], expected_faults, strict=True):
        assert fault.startswith(start)
