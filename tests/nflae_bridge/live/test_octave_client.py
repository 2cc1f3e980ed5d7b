"""nflae.Client in a real Octave session: against `nflae serve`, and against a server that does what it is told."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
import scipy.io
import zmq

from matlab_io.result import RESULT_NAMES
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.answers import encode_answer, encode_error, encode_status
from nflae_bridge.live.protocol.frames import decode_request
from nflae_bridge.live.protocol.keys import make_keys
from nflae_bridge.live.protocol.messages import PrecodeRequest
from tests.channel_files import Run
from tests.nflae_bridge.live.live_server import LiveServer
from tests.octave_session import Octave, octave_command, require_zeromq, run_octave
from tests.ports import free_tcp_port

pytestmark = pytest.mark.octave

# An error as "identifier|message"; says so if there was none.
TRY = """
function try_(call)
  try
    call();
    printf('no error\\n');
  catch cause
    printf('%s|%s\\n', cause.identifier, cause.message);
  end
end
"""


@pytest.fixture
def octave(tmp_path: Path) -> Octave:
    require_zeromq()
    return lambda script: run_octave(TRY + script, tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    require_zeromq()
    with LiveServer("--max-users", 16) as running:
        yield running


def identifiers(printed: str) -> list[str]:
    return [line.split("|")[0] for line in printed.splitlines()]


# Against nflae serve

CASES = """
rand('twister', 3); randn('twister', 3);
function compare(c, i, H, varargin)
  save('-v7', sprintf('channels%d.mat', i), 'H');
  r = c.precode(H, varargin{:});
  save('-v7', sprintf('live%d.mat', i), '-struct', 'r');
end
c = nflae.Client('ADDRESS');
G = (randn(32, 4, 10) + 1i * randn(32, 4, 10)) / 8;
compare(c, 1, single(G));
compare(c, 2, permute(G, [2 1 3]), 'Layout', 'kns');
compare(c, 3, G(:, :, 1), 'Scheme', 'wmmse', 'NoiseDbw', -13);
compare(c, 4, G(:, :, 2).', 'layout', 'kns', 'convention', 'hermitian', 'scheme', 'zf');
compare(c, 5, G, 'CONVENTION', 'direct', 'NoisePower', 0.05, 'Power', 2, 'AlphaC', 0.5, 'MinRate', 0.3);
compare(c, 6, single(G(:, 1, :)), 'PowerDbw', 3, 'Refine', 2);
R = reshape(G, 32, 2, 2, 10);
compare(c, 7, permute(R, [2 1 3 4]), 'Layout', 'rnks', 'ReceiveAntennas', 'eigen');
compare(c, 8, R, 'Layout', 'nrks', 'ReceiveAntennas', 'each', 'Scheme', 'zf');
compare(c, 9, permute(reshape(G, 32, 4, 5, 2), [3 4 2 1]), 'Layout', 'fsrn', 'ReceiveAntennas', 'strongest');
"""


def dbw(watts: float) -> float:
    return 10 * math.log10(watts)


BUDGET = ("--noise-dbw", dbw(0.05), "--power-dbw", dbw(2), "--alpha-c", 0.5, "--min-rate", 0.3)
SAME_BY_FILE: list[tuple[object, ...]] = [
    ("--layout", "nks"),
    ("--layout", "kns"),
    ("--scheme", "wmmse", "--noise-dbw", -13),
    ("--layout", "kn", "--convention", "hermitian", "--scheme", "zf"),
    ("--layout", "nks", "--convention", "direct", *BUDGET),
    ("--layout", "nks", "--power-dbw", 3, "--refine", 2),
    ("--layout", "rnks", "--receive-antennas", "eigen"),
    ("--layout", "nrks", "--receive-antennas", "each", "--scheme", "zf"),
    ("--layout", "fsrn", "--receive-antennas", "strongest"),
]


def test_what_comes_is_what_nflae_precode_writes(
    octave: Octave, server: LiveServer, nflae: Run, tmp_path: Path
) -> None:
    octave(CASES.replace("ADDRESS", server.address))
    for i, arguments in enumerate(SAME_BY_FILE, 1):
        file = tmp_path / f"file{i}.mat"
        done = nflae("precode", tmp_path / f"channels{i}.mat", "-o", file, *arguments)
        assert done.exit_code == 0, done.output
        written, live = scipy.io.loadmat(file), scipy.io.loadmat(tmp_path / f"live{i}.mat")
        combined = {"receive_combiner"} if {"eigen", "strongest"} & set(arguments) else set()
        assert {name for name in live if not name.startswith("__")} == {*RESULT_NAMES, "nflae_info", *combined}
        for name in (*RESULT_NAMES, *combined):
            assert live[name].dtype == written[name].dtype, (i, name)
            # Subcarriers and drops are kept apart in files, and are one axis on the wire.
            alike = live[name].reshape(written[name].shape, order="F")
            if name == "near_field_score":  # in files 0.5 where the channel is not a single wave, as few here are
                alike = np.where(written[name] == 0.5, 0.5, alike)
            if (
                combined and name == "fallback"
            ):  # channels combined here and there differ by rounding, which breaks ties
                continue
            tolerance = 1e-3 if combined else 1e-5
            np.testing.assert_allclose(alike, written[name], tolerance, 1e-6, err_msg=f"case {i}, {name}")
        by_file, by_wire = (content["nflae_info"][0, 0] for content in (written, live))
        for told in ("scheme", "model", "version", "convention"):
            assert str(np.squeeze(by_wire[told])) == str(np.squeeze(by_file[told])), (i, told)
        for told in ("power", "noise_power", "alpha_c", "min_rate"):
            assert by_wire[told].item() == pytest.approx(by_file[told].item()), (i, told)


def test_classes_sizes_and_what_was_wanted(octave: Octave, server: LiveServer) -> None:
    script = """
        c = nflae.Client('ADDRESS');
        H = randn(16, 3, 5) + 1i * randn(16, 3, 5);
        r = c.precode(H, 'Scheme', 'rzf');
        assert(isa(r.precoder, 'single') && iscomplex(r.precoder) && isequal(size(r.precoder), [16 3 5]));
        assert(islogical(r.near_field) && isequal(size(r.near_field), [3 5]));
        assert(islogical(r.feasible) && isequal(size(r.feasible), [1 5]) && isequal(size(r.sum_rate), [1 5]));
        t = r.nflae_info.timing_us;
        assert(t.round_trip >= t.total && t.total >= t.compute && t.compute > 0);

        r = c.precode(H, 'Scheme', 'mrt', 'Want', {'power'});
        assert(isequal(sort(fieldnames(r)), {'nflae_info'; 'power'}));
        r = c.precode(complex(ones(16, 1)), 'Scheme', 'mrt');   % real at heart: the precoder stays complex
        assert(iscomplex(r.precoder) && isequal(size(r.precoder), [16 1]));
        labels = logical([1 0 1; 0 1 0; 1 1 0; 0 0 1; 0 1 1]).';
        r = c.precode(H, 'Scheme', 'rzf', 'NearField', labels, 'AlphaC', 0.4);
        assert(isequal(r.near_field, labels));
        near = sum(r.power .* labels);
        assert(all(near <= 0.4 + 1e-9));
        """
    octave(script.replace("ADDRESS", server.address))


def test_status_says_how_the_server_is(octave: Octave, server: LiveServer) -> None:
    told = octave(f"""
        c = nflae.Client('{server.address}');
        s = c.status();
        assert(s.uptime_s > 0 && ~s.stopping && any(strcmp(s.schemes, 'wmmse')));
        before = s.counts.answered;
        c.precode(complex(ones(4, 1)), 'Scheme', 'mrt');
        printf('%s %d', s.device, c.status().counts.answered - before);
        """)
    assert told == "cpu 1"


def test_the_servers_own_refusals(octave: Octave, server: LiveServer) -> None:
    printed = octave(f"""
        c = nflae.Client('{server.address}');
        H = randn(32, 4, 3) + 1i * randn(32, 4, 3);
        bad = H; bad(7, 2, 3) = NaN;
        try_(@() c.precode(bad));
        try_(@() c.precode(permute(bad, [2 1 3]), 'Layout', 'kns'));
        try_(@() c.precode(H, 'Scheme', 'tarot'));
        try_(@() c.precode(H, 'AlphaC', 2));
        try_(@() c.precode(H, 'Want', {{'precoder', 'wisdom'}}));
        try_(@() c.precode(randn(32, 20) + 1i));
        r = c.precode(H, 'Scheme', 'mrt');                         % and it is none the worse for them
        assert(norm(double(r.precoder(:, 1, 1)) - H(:, 1, 1) / norm(H(:, 1, 1))) < 1e-5);
        """)
    assert identifiers(printed) == ["nflae:badChannels"] * 2 + ["nflae:badRequest"] * 3 + ["nflae:tooLarge"]
    nan, _, scheme, *_ = printed.splitlines()
    assert "drop 3, user 2, antenna 7" in nan
    assert "rzf" in scheme


def test_a_killed_server_costs_time_and_no_answer(octave: Octave, tmp_path: Path) -> None:
    script = """
        c = nflae.Client('ADDRESS', 'Timeout', 30);
        for call = 1:4000
          H = randn(16, 3) + 1i * randn(16, 3);
          r = c.precode(H, 'Scheme', 'mrt', 'Want', {'precoder'});
          error_of = max(max(abs(r.precoder - H ./ norm(H, 'columns'))));
          assert(error_of < 1e-5, 'call %d got an answer to something else', call);
          if mod(call, 100) == 0
            printf('%d\\n', call); fflush(stdout);
          end
          if exist('enough', 'file'), break, end
        end
        printf('done');
        """
    with LiveServer(bind=f"tcp://127.0.0.1:{free_tcp_port()}") as first:
        command = octave_command(script.replace("ADDRESS", first.address))
        loop = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert loop.stdout is not None
        for _ in range(2):
            loop.stdout.readline()
        first.stop(signal.SIGKILL)
    with LiveServer(bind=first.address):
        for _ in range(2):
            assert int(loop.stdout.readline()) >= 300
        (tmp_path / "enough").touch()
        rest, complaints = loop.communicate(timeout=60)
    assert loop.returncode == 0, complaints
    assert rest.endswith("done")


def test_with_curve_keys(octave: Octave, tmp_path: Path) -> None:
    make_keys(tmp_path, "server")
    make_keys(tmp_path / "clients", "lab")
    make_keys(tmp_path, "stranger")
    keys = ("--server-key", tmp_path / "server.key_secret", "--client-keys", tmp_path / "clients")
    with LiveServer(*keys) as locked:
        printed = octave(f"""
            H = randn(8, 2) + 1i * randn(8, 2);
            ours = {{'ServerKeyFile', 'server.key', 'KeyFile', 'clients/lab.key_secret'}};
            c = nflae.Client('{locked.address}', ours{{:}});
            c.precode(H, 'Scheme', 'mrt');
            key = @(file, half) regexp(fileread(file), [half '-key = "(.*?)"'], 'tokens', 'once'){{1}};
            lab = 'clients/lab.key_secret';
            c = nflae.Client('{locked.address}', 'ServerKey', key('server.key', 'public'), ...
                             'PublicKey', key(lab, 'public'), 'SecretKey', key(lab, 'secret'));
            c.precode(H, 'Scheme', 'mrt');

            stranger = nflae.Client('{locked.address}', 'ServerKeyFile', 'server.key', ...
                                    'KeyFile', 'stranger.key_secret', 'Timeout', 1);
            try_(@() stranger.precode(H));
            try_(@() nflae.Client('{locked.address}', 'Timeout', 1).status());
            try_(@() nflae.Client('{locked.address}', 'ServerKeyFile', 'server.key'));
            try_(@() nflae.Client('{locked.address}', 'ServerKeyFile', 'server.key', 'KeyFile', 'clients/lab.key'));
            try_(@() nflae.Client('{locked.address}', 'ServerKey', 'short'));
            try_(@() nflae.Client('{locked.address}', 'KeyFile', 'nowhere'));
            system('chmod 640 stranger.key_secret');
            try_(@() nflae.Client('{locked.address}', 'ServerKeyFile', 'server.key', 'KeyFile', 'stranger.key_secret'));
            """)
    assert identifiers(printed) == ["nflae:timeout"] * 2 + ["nflae:badKey"] * 5
    assert printed.count("although a program listens there: is it `nflae serve`? A server with keys") == 2
    assert "chmod 600" in printed.splitlines()[-1]


SWEEP = """
values = {[], '', {}, {''}, 'x', ['ab'; 'cd'], char([10 0 65]), '%s %d \\n', NaN, Inf, -1, 0, 2.5, 1e308, 5e-324, ...
  1e20, 1i, intmax('uint64'), sparse(1), @sin, containers.Map(), struct('a', {1, 2}), zeros(2, 3, 4), NaN(3, 1), ...
  ones(3, 1) * 1e-320, nflae.History(4), repmat('x', 1, 1e5), {'precoder', 7}};
c = nflae.Client('ADDRESS', 'Timeout', 60);
H = complex(reshape(sin(1:48), 8, 3, 2), reshape(cos(1:48), 8, 3, 2));
calls = {@(name, value) c.precode(H, name, value), @(name, value) c.predict(H, name, value), ...
  @(name, value) nflae.Client('ADDRESS', name, value)};
names = {{'Power', 'PowerDbw', 'NoisePower', 'NoiseDbw', 'AlphaC', 'MinRate', 'Scheme', 'Refine', 'Convention', ...
  'Layout', 'ReceiveAntennas', 'NearField', 'Want', 'Timeout', 'Objective', 'Window', 'Weights', 'PowerPerAntenna', ...
  'AntennaGroups', 'RfChains', 'PhaseBits', 'Connection', 'Streams', 'PowerScope'}, ...
  {'Ahead', 'Method', 'Geometry', 'CsiSnrDb', 'Times', 'Force', 'Then'}, ...
  {'Transport', 'Timeout', 'ServerKey', 'PublicKey', 'SecretKey', 'KeyFile', 'ServerKeyFile'}};
for call = 1:3
  for at = 1:numel(names{call})
    for of = OFFSET:STEP:numel(values)
      try
        calls{call}(names{call}{at}, values{of});
        printf('ok||%d %s %d\\n', call, names{call}{at}, of);
      catch cause
        printf('%s|%d|%d %s %d: %s\\n', cause.identifier, any(cause.message == char(10) | cause.message == 0), call, ...
          names{call}{at}, of, cause.message(1:min(end, 80)));
      end
    end
  end
end
r = c.precode(H(:, :, 1), 'Scheme', 'mrt', 'Want', {'precoder'});  % and it is none the worse for them
assert(norm(double(r.precoder(:, 1)) - H(:, 1, 1) / norm(H(:, 1, 1))) < 1e-5);
"""


def test_options_of_any_value_end_in_a_result_or_a_refusal_at_once(octave: Octave, server: LiveServer) -> None:
    """A part of the values; all of them with NFLAE_OCTAVE_SWEEP=1."""
    step = int(os.environ.get("NFLAE_OCTAVE_SWEEP", "20"))
    start = 1 if step == 1 else 7  # a text with control characters, and one of 1e5 characters
    script = SWEEP.replace("ADDRESS", server.address).replace("OFFSET", str(start)).replace("STEP", str(step))
    found = [line.split("|", 2) for line in octave(script).splitlines()]
    assert len(found) == (24 + 7 + 7) * len(range(start, 29, step))
    refusals = {f"nflae:{each}" for each in ("badRequest", "badChannels", "tooLarge", "badKey", "noTransport")}
    others = [call for identifier, _, call in found if identifier not in {"ok", *refusals}]
    assert [call for call in others if not call.startswith("1 Timeout 15")] == []  # 5e-324 s, which have passed
    assert [call for _, is_broken, call in found if is_broken == "1"] == []


# What the client finds out by itself


def test_requests_that_make_no_sense_are_not_sent(octave: Octave) -> None:
    printed = octave("""
        c = nflae.Client('tcp://127.0.0.1:1', 'Timeout', 0.5);
        H = randn(8, 3, 4) + 1i * randn(8, 3, 4);
        try_(@() c.precode(real(H)));
        try_(@() c.precode([]));
        try_(@() c.precode('abc'));
        try_(@() c.precode(int8(real(H))));
        try_(@() c.precode(sparse(H(:, :, 1))));
        try_(@() c.precode(permute(H, [2 1 3])));
        try_(@() c.precode(H(1:3, :, :)));
        try_(@() c.precode(repmat(H, [1 1 1 2])));
        try_(@() c.precode(H, 'Layout', 'snx'));
        try_(@() c.precode(H, 'Layout', 'nrk'));
        try_(@() c.precode(H, 'Nosie', 1));
        try_(@() c.precode(H, 'Power'));
        try_(@() c.precode(H, 'Power', 1, 'power', 2));
        try_(@() c.precode(H, 'Power', 1, 'PowerDbw', 0));
        try_(@() c.precode(H, 'NoisePower', NaN));
        try_(@() c.precode(H, 'MinRate', [1 2]));
        try_(@() c.precode(H, 'NearField', true(4, 3)));
        try_(@() c.precode(H, 'NearField', 2 * ones(3, 4)));
        try_(@() c.precode(H, 'Want', {}));
        try_(@() c.precode(H, 'Scheme', 3));
        try_(@() c.precode(H, 'Timeout', 0));
        try_(@() nflae.Client('127.0.0.1:5555'));
        try_(@() nflae.Client('tcp://127.0.0.1:99999'));
        try_(@() nflae.Client('tcp://127.0.0.1:0'));
        try_(@() nflae.Client('tcp://*:5555'));
        try_(@() nflae.Client('tcp://127.0.0.1:1', 'Transport', 'pigeon'));
        c.close();
        try_(@() c.precode(H));
        """)
    assert identifiers(printed) == ["nflae:badRequest"] * 27
    lines = printed.splitlines()
    assert "complex(H)" in lines[0]
    assert "'Layout', 'kns'" in lines[5]
    # The longest is that of an unknown option, which lists all options.
    assert all(line.count("|") == 1 and len(line) < (600 if "'Nosie'" in line else 260) for line in lines), lines


def test_where_nobody_listens_a_call_ends_in_time_and_so_does_octave(octave: Octave) -> None:
    started = time.monotonic()
    printed = octave("""
        c = nflae.Client('tcp://127.0.0.1:1', 'Timeout', 1);
        call = tic; try_(@() c.precode(ones(4, 1) * 1i)); assert(toc(call) > 0.9 && toc(call) < 15);
        call = tic; try_(@() c.status()); assert(toc(call) > 0.9 && toc(call) < 15);
        c = nflae.Client('tcp://127.0.0.1:1', 'Timeout', 60);
        call = tic; try_(@() c.precode(ones(4, 1) * 1i, 'Timeout', 0.2)); assert(toc(call) < 15);
        """)
    assert identifiers(printed) == ["nflae:timeout"] * 3
    assert printed.count("nothing listens there; start `nflae serve` there") == 3
    assert time.monotonic() - started < 55


def test_files_for_matlab_only_are_read_by_octave_too(octave: Octave) -> None:
    octave("""
        for name = {'matlab_python', 'jeromq', 'octave_zeromq'}
          assert(nargin(['nflae.transport.' name{1}]) == 2);
        end
        """)


# Against a server that does what it is told

Handler = Callable[[PrecodeRequest], list[list[Any]]]


class Puppet:
    """A ROUTER that keeps what it gets, answers status by itself, and precode with what ``handler`` returns."""

    def __init__(self, handler: Handler, **status: Any) -> None:
        self._handler = handler
        self._status = {"uptime_s": 1e6, "stopping": False} | status
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        port: int = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self.requests: list[list[bytes]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Puppet:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close(0)

    def headers(self) -> list[dict[str, Any]]:
        """Of the precode requests."""
        return [json.loads(request[0]) for request in self.requests]

    def _serve(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(20):
                continue
            client, *frames = self._socket.recv_multipart()
            request = decode_request(frames)
            if isinstance(request, PrecodeRequest):
                self.requests.append(frames)
                answers = self._handler(request)
            else:
                answers = [encode_status(request.id, self._status)]
            for answer in answers:
                self._socket.send_multipart([client, *answer])


def echo(request: PrecodeRequest) -> list[list[Any]]:
    """The channels, as if they were the precoders."""
    drops, users, _ = request.channels.shape
    numbers = np.arange(drops * users, dtype=float).reshape(drops, users)
    arrays = dict.fromkeys(RESULT_NAMES, numbers) | {
        "precoder": request.channels,
        "near_field": numbers % 2 == 0,
        "sum_rate": numbers[:, 0],
        "feasible": numbers[:, 0] > 0,
        "fallback": numbers[:, 0] == 0,
    }
    return [list(encode_answer(request, arrays, {"scheme": request.scheme}, {"queue": 1, "compute": 2, "total": 3}))]


def test_numbers_and_arrays_arrive_to_the_last_bit(octave: Octave, tmp_path: Path) -> None:
    with Puppet(echo) as puppet:
        octave(f"""
            c = nflae.Client('{puppet.address}');
            randn('twister', 5);
            H = randn(6, 4, 3) + 1i * randn(6, 4, 3);
            labels = rand(4, 3) > 0.5;
            save('-v6', 'sent.mat', 'H', 'labels');
            r = c.precode(H, 'NoisePower', 1e-13, 'Power', 0.1 + 0.2, 'AlphaC', 1 / 3, 'MinRate', realmin, ...
                          'Want', {{'sum_rate', 'precoder', 'near_field'}}, 'NearField', labels, 'Refine', 3);
            assert(isequal(r.precoder, single(H)));
            assert(isequal(r.sum_rate, [0 4 8]));
            assert(isequal(r.near_field, logical([1 0 1 0; 1 0 1 0; 1 0 1 0].')));
            c.precode(permute(single(H), [2 1 3]), 'Layout', 'kns', 'PowerDbw', -17.3, 'NoiseDbw', 0);
            r = c.precode(H(:, 1, 1), 'Want', 'fallback');       % one array of one number
            assert(islogical(r.fallback) && r.fallback);
            """)
    sent = scipy.io.loadmat(tmp_path / "sent.mat")
    channels = sent["H"].T.astype(np.complex64)
    first, second, third = puppet.headers()
    assert first.pop("deadline_ms") <= 30_000
    assert first == {
        "v": 1,
        "id": "1",
        "op": "precode",
        "shape": [6, 4, 3],
        "dtype": "complex64",
        "convention": "hermitian",
        "power": 0.1 + 0.2,
        "noise_power": 1e-13,
        "alpha_c": 1 / 3,
        "min_rate": 2.0**-1022,
        "refine": 3,
        "want": ["sum_rate", "precoder", "near_field"],
        "near_field": True,
    }
    assert puppet.requests[0][1:] == [channels.tobytes(), sent["labels"].T.astype(np.uint8).tobytes()]
    assert (second["convention"], second["shape"]) == ("direct", [6, 4, 3])
    assert (second["power"], second["noise_power"]) == (pytest.approx(10**-1.73, rel=1e-15), 1)
    assert puppet.requests[1][1] == channels.tobytes()
    assert (third["shape"], third["want"]) == ([6, 1, 1], ["fallback"])


CODES = {
    "bad_request": "nflae:badRequest",
    "bad_channels": "nflae:badChannels",
    "too_large": "nflae:tooLarge",
    "busy": "nflae:busy",
    "expired": "nflae:expired",
    "internal": "nflae:internal",
}


def test_every_error_code_has_its_identifier(octave: Octave) -> None:
    codes = list(CODES)

    def refuse(request: PrecodeRequest) -> list[list[Any]]:
        return [list(encode_error(request.id, WireError(codes.pop(0), "100 % so: \\n µ")))]

    with Puppet(refuse) as puppet:
        printed = octave(f"""
            c = nflae.Client('{puppet.address}');
            for i = 1:{len(CODES)}, try_(@() c.precode([1i; 1])); end
            """)
    assert printed.splitlines() == [f"{identifier}|100 % so: \\n µ" for identifier in CODES.values()]


def test_a_refusal_of_a_message_that_could_not_be_read_ends_the_call(octave: Octave) -> None:
    with Puppet(lambda _: [list(encode_error(None, WireError("bad_request", "not JSON")))]) as puppet:
        printed = octave(f"c = nflae.Client('{puppet.address}'); try_(@() c.precode([1i; 1]));")
    assert printed.splitlines() == ["nflae:badRequest|not JSON"]
    assert len(puppet.requests) == 1


def test_a_late_answer_is_never_taken_for_another(octave: Octave) -> None:
    late: list[list[Any]] = []

    def answer(request: PrecodeRequest) -> list[list[Any]]:
        answers = echo(request)
        if request.id == "1":
            late.extend(answers)
            return []
        return late + answers + late

    with Puppet(answer) as puppet:
        printed = octave(f"""
            c = nflae.Client('{puppet.address}');
            H = randn(500, 2, 9) + 1i;
            try_(@() c.precode(H, 'Timeout', 1.5));
            for size_of = [3, 600]
              H = randn(size_of, 2) + 1i;
              assert(isequal(c.precode(H, 'Timeout', 20).precoder, single(H)));
            end
            """)
    assert identifiers(printed) == ["nflae:timeout"]
    assert "although it is running" in printed


def test_what_a_new_server_cannot_know_is_sent_again(octave: Octave) -> None:
    def answer(request: PrecodeRequest) -> list[list[Any]]:
        attempts = [header["id"] for header in puppet.headers()].count(request.id)
        return [] if (request.id, attempts) == ("2", 1) else echo(request)

    with Puppet(answer, uptime_s=0.5) as puppet:
        octave(f"""
            c = nflae.Client('{puppet.address}');
            for i = 1:3
              H = randn(5, 2) + 1i;
              assert(isequal(c.precode(H).precoder, single(H)));
            end
            """)
    attempts = [header["id"] for header in puppet.headers()]
    assert list(dict.fromkeys(attempts)) == ["1", "2", "3"]
    again = [header for header in puppet.headers() if header["id"] == "2"][1]
    assert again["deadline_ms"] < 29_500


def test_what_the_network_lost_is_sent_again_after_half_the_time(octave: Octave) -> None:
    with Puppet(lambda request: echo(request) if len(puppet.requests) == 2 else []) as puppet:
        octave(f"c = nflae.Client('{puppet.address}'); c.precode([1i; 1], 'Timeout', 6);")
    assert [header["id"] for header in puppet.headers()] == ["1", "1"]


def test_a_server_that_is_only_slow_is_left_alone(octave: Octave) -> None:
    def answer(request: PrecodeRequest) -> list[list[Any]]:
        time.sleep(2.5)
        return echo(request)

    with Puppet(answer) as puppet:
        octave(f"c = nflae.Client('{puppet.address}'); c.precode([1i; 1]);")
    assert len(puppet.requests) == 1


def test_the_next_server_is_asked_when_one_is_about_to_leave(octave: Octave) -> None:
    def answer(request: PrecodeRequest) -> list[list[Any]]:
        leaving = WireError("stopping", "about to leave")
        return echo(request) if request.id in ("2", "3") else [list(encode_error(request.id, leaving))]

    with Puppet(answer) as puppet:
        printed = octave(f"""
            c = nflae.Client('{puppet.address}');
            try_(@() c.precode([1i; 1], 'Timeout', 1.5));
            c.precode([1i; 1]);
            c.precode([1i; 1]);
            try_(@() c.precode([1i; 1], 'Timeout', 1.5));
            """)
    assert identifiers(printed) == ["nflae:stopping", "nflae:stopping"]


def test_no_more_is_sent_than_the_server_takes(octave: Octave) -> None:
    with Puppet(echo, max_message_bytes=1000) as puppet:
        printed = octave(f"""
            c = nflae.Client('{puppet.address}');
            try_(@() c.precode(randn(8, 2, 8) + 1i));
            try_(@() c.precode(randn(8, 2, 8) + 1i));
            c.precode(randn(8, 2, 7) + 1i);
            """)
    assert identifiers(printed) == ["nflae:tooLarge"] * 2
    assert len(puppet.requests) == 1


def test_what_is_no_answer_of_ours_is_an_error_and_forgotten(octave: Octave) -> None:
    def answer(request: PrecodeRequest) -> list[list[Any]]:
        good = echo(request)[0]
        header = json.loads(good[0])
        match len(puppet.requests):
            case 1:
                return [[b"hello", b"there", b"again"]]
            case 2:
                header["arrays"][0]["dtype"] = "int3"
                return [[json.dumps(header).encode(), *good[1:]]]
            case 3:
                return [[*good[:-1], b""]]
            case 4:
                return [[good[0], bytes(good[1]) + b"x", *good[2:]]]
            case 5:
                return [good[:3]]
        return [good]

    with Puppet(answer) as puppet:
        printed = octave(f"""
            c = nflae.Client('{puppet.address}');
            H = randn(5, 2) + 1i;
            for i = 1:5, try_(@() c.precode(H)); end
            assert(isequal(c.precode(H).precoder, single(H)));
            """)
    assert identifiers(printed) == ["nflae:badReply"] * 5
