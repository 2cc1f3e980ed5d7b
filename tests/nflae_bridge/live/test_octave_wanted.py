"""Efforts, and precoders that nflae.Client forms of lambda, in a real Octave session against `nflae serve`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nflae_bridge.live.live_server import LiveServer
from tests.octave_session import require_zeromq, run_octave

pytestmark = pytest.mark.octave

SCRIPT = """
    c = nflae.Client('ADDRESS');
    H = (randn(16, 3, 5) + 1i * randn(16, 3, 5)) / sqrt(32);
    few = {'Want', {'lambda', 'power'}, 'NoisePower', 0.01};
    all = {'NoisePower', 0.01};
    close_ = @(a, b) isequal(size(a), size(b)) && max(abs(a(:) - b(:))) < 1e-5;

    r = c.precode(H, few{:}, 'Effort', 'fast');
    assert(isequal(sort(fieldnames(r)), {'lambda'; 'nflae_info'; 'power'; 'precoder'}));
    assert(isa(r.precoder, 'single') && strcmp(r.nflae_info.model, 'nano'));
    assert(close_(r.precoder, c.precode(H, all{:}, 'Effort', 'fast').precoder));
    users_first = permute(H, [2 1 3]);   % y = H * x
    direct = {'Layout', 'kns', 'Scheme', 'wmmse'};
    whole = c.precode(users_first, all{:}, direct{:});
    assert(close_(c.precode(users_first, few{:}, direct{:}).precoder, whole.precoder));

    R = (randn(16, 2, 3) + 1i * randn(16, 2, 3)) / sqrt(32);
    each = {'Layout', 'nrk', 'ReceiveAntennas', 'each', 'Scheme', 'rzf'};
    assert(close_(c.precode(R, few{:}, each{:}).precoder, c.precode(R, all{:}, each{:}).precoder));
    strongest = c.precode(R, few{:}, 'Layout', 'nrk', 'ReceiveAntennas', 'strongest', 'Scheme', 'rzf');
    assert(~isfield(strongest, 'precoder'));
    assert(~isfield(c.precode(H, few{:}, 'Scheme', 'mrt'), 'precoder'));   % lambda is NaN
    assert(~isfield(c.precode(H, few{:}, 'Weights', [1 2 3]), 'precoder'));
"""


def test_efforts_and_formed_precoders(tmp_path: Path) -> None:
    require_zeromq()
    with LiveServer() as server:
        run_octave(SCRIPT.replace("ADDRESS", server.address), tmp_path)
