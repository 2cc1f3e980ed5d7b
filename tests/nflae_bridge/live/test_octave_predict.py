"""Predictions in GNU Octave: what `predict` gives in Python, and the history's rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from nflae_bridge import precode, predict
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.moving_users import moving_users
from tests.octave_session import Octave, require_zeromq, run_octave

pytestmark = pytest.mark.octave

USERS, ANTENNAS, SNAPSHOTS = 3, 32, 16
ITEMS = moving_users(SNAPSHOTS + 4, USERS, ANTENNAS)

CALLS = """
s = load('items.mat'); H = s.H;
c = nflae.Client('ADDRESS');
a = c.predict(H(:, :, 1:16));
b = c.predict(permute(H(:, :, 1:16), [2 1 3]), 'layout', 'kns', 'convention', 'direct', 'Ahead', 2, ...
  'Geometry', 'line', 'METHOD', 'ar', 'CsiSnrDb', 20);
t = (0:16) * 1e-3; t(10) = [];
d = c.predict(H(:, :, 1:16), 'Times', t, 'Ahead', 2);
h = nflae.History(16, 4);
for i = 1:20
  if i == 8
    h.push([]);
  else
    h.push(H(:, :, i));
  end
  assert(h.ready() == (i >= 8))
end
assert(h.count() == 16 && isequal(size(h.snapshots()), [32 3 16]) && isempty(h.times()))
e = c.predict(h, 'Then', 'precode', 'NoisePower', 0.1, 'Scheme', 'zf', 'NearField', true(3, 4));
g = nflae.History();
for i = 1:16
  g.push(H(:, :, i), t(i));
end
f = c.predict(g, 'Ahead', 2);
assert(isequal(f.H, d.H));
used = d.nflae_info.methods{d.method(1, 1)};
notes = e.nflae_info.notes{1};
save('-v7', 'found.mat', 'a', 'b', 'd', 'e', 'used', 'notes');
"""


@pytest.fixture
def octave(tmp_path: Path) -> Octave:
    require_zeromq()
    return lambda script: run_octave(script, tmp_path)


def test_predictions_are_those_of_python(octave: Octave, server: LiveServer, tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "items.mat", {"H": ITEMS.T})
    octave(CALLS.replace("ADDRESS", server.address))
    found = scipy.io.loadmat(tmp_path / "found.mat", simplify_cells=True)
    known = ITEMS[:SNAPSHOTS]
    assert (predict(known).channels == found["a"]["H"].T).all()
    assert found["a"]["csi_error_db"].shape == found["a"]["method"].shape == (USERS, 4)
    # K x N rows of y = H x: what `predict` takes as direct, and gives back conjugated.
    direct = predict(known, ahead=2, geometry="line", method="ar", csi_snr_db=20, convention="direct")
    assert (found["b"]["H"].transpose(2, 0, 1) == direct.channels.conj()).all()
    uneven = predict(known, [1e-3 * step for step in range(17) if step != 9], ahead=2)
    assert (uneven.channels == found["d"]["H"].T).all()
    assert found["used"] == uneven.method[0]
    history = ITEMS[4:].copy()
    history[3] = np.nan
    ahead = predict(history)
    assert (ahead.channels == found["e"]["H"].T).all()
    assert found["notes"] == ahead.notes[0]
    expected = precode(ahead.channels, noise_power=0.1, scheme="zf", near_field=np.ones((4, 3), bool))
    np.testing.assert_allclose(found["e"]["precoder"].T, expected.precoder, atol=1e-5)
    assert found["e"]["near_field"].all()


REFUSED = [
    ("c.predict(H, 'Ahead', 9)", "badRequest", "9 snapshots ahead is beyond half the history of 16"),
    ("c.predict(H, 'Geometry', 'panel:5x5')", "badRequest", "the channels have 32"),
    ("c.predict(H, 'Scheme', 'zf')", "badRequest", "scheme: for precoders only; add 'Then', 'precode'"),
    ("c.predict(H, 'Then', 'dance')", "badRequest", "Then: Invalid enum value 'dance'; allowed: precode"),
    ("c.predict(1e-6 * H, 'Then', 'precode')", "badRequest", "dB with the default noise power of 0.01 W"),
    ("c.precode(1e-6 * H)", "badRequest", "beyond -20 to 60 dB; pass 'NoisePower' in W, in the units of H"),
    ("c.precode(H, 'Refine', 2.5)", "badRequest", "Refine: Expected `int`, got `float`"),
    ("c.predict(H, 'Speed', 3)", "badRequest", "unknown option 'Speed'"),
    ("c.predict(H(:, :, 1))", "badRequest", "the history is 32 x 3, one snapshot: pass antennas x users x snapshots"),
    ("c.predict(H, 'Times', 1:3)", "badRequest", "3 times for a history of 16"),
    ("c.predict(swapped)", "badChannels", "users change places"),
    ("c.predict(reshape(H, 32, 3, 1, 16), 'Layout', 'nkrs', 'ReceiveAntennas', 'each')", "badRequest", "one antenna"),
    ("c.predict(h, 'Times', 1:3)", "badRequest", "Times are part of an nflae.History"),
    ("h.push(H(:, 1:2, 1))", "badRequest", "32 x 2 follows ones of 32 x 3"),
    ("c.predict(H, 'Force', {1})", "badRequest", "Force must be one finite number"),
    ("h.push(ones(32, 3))", "badRequest", "complex matrix"),
    ("h.push(sparse(double(H(:, :, 1))))", "badRequest", "full complex matrix"),
    ("h.push({})", "badRequest", "complex matrix"),
    ("h.push(H(:, :, 1), 1)", "badRequest", "with every snapshot of a history, or with none"),
    ("timed.push(H(:, :, 1), 1)", "badRequest", "1 s follows one at 1 s"),
    ("nflae.History(5, 3)", "badRequest", "predicts 2: keep 6"),
    ("nflae.History(2.5)", "badRequest", "whole number"),
    ("nflae.History().snapshots()", "badRequest", "no snapshot yet"),
]


def test_faults_are_named(octave: Octave, server: LiveServer, tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "items.mat", {"H": ITEMS[:SNAPSHOTS].T})
    script = """
        s = load('items.mat'); H = s.H;
        c = nflae.Client('ADDRESS');
        swapped = H; swapped(:, [1 2], 9:end) = H(:, [2 1], 9:end);
        h = nflae.History(); h.push(H(:, :, 1)); h.push(H(:, :, 2));
        timed = nflae.History(); timed.push(H(:, :, 1), 1);
    """.replace("ADDRESS", server.address)
    for call, *_ in REFUSED:
        script += f"try\n{call};\nprintf('none\\n');\ncatch e\nprintf('%s|%s\\n', e.identifier, e.message);\nend\n"
    script += "h.clear(); assert(h.count() == 0 && ~h.ready())\nr = c.predict(swapped, 'Force', true);\n"
    script += "assert(any(strfind(r.nflae_info.notes{1}, 'change places')))\n"
    lines = octave(script).splitlines()
    for (call, code, words), line in zip(REFUSED, lines, strict=True):
        identifier, _, message = line.partition("|")
        assert identifier == f"nflae:{code}", (call, line)
        assert words in message, (call, line)
