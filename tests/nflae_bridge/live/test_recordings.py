"""``nflae record`` and ``nflae replay``: the same bytes again, from streams and to servers, whole or cut short."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import zmq

from matlab_io import open_channels
from matlab_io.errors import NflaeError
from nflae_bridge import BadChannels, precode
from nflae_bridge.live.client import Client
from nflae_bridge.live.client.connection import ServerAddress
from nflae_bridge.live.gnuradio.sockets.endpoints import parse_endpoint
from nflae_bridge.live.gnuradio.tags import Tag, encode_header
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.recordings import requests
from nflae_bridge.live.recordings.requests import record_requests, replay_requests
from nflae_bridge.live.recordings.source import RecordedMessages
from nflae_bridge.live.recordings.streams import Limits, record_stream, replay_stream
from nflae_bridge.live.recordings.writer import RecordingWriter, convert_recording
from tests.channel_files import Run, load, random_channels
from tests.nflae_bridge.live.gnuradio.relays import wait_until
from tests.nflae_bridge.live.live_server import LiveServer
from tests.ports import free_tcp_port
from tests.sockets import bounded_context

USERS, ANTENNAS = 3, 4
PATIENCE_MS = 60_000


def channels(drops: int, seed: int = 0) -> npt.NDArray[np.complex64]:
    return random_channels(drops, USERS, ANTENNAS, seed=seed)


class Job:
    """A call in a thread; `result` waits for what it returns, or raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._found: list[Any] = []
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._found.append(call())
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join(60)
        if self._error is not None:
            raise self._error
        return self._found[0]


def address() -> str:
    return f"tcp://127.0.0.1:{free_tcp_port()}"


def recorded_stream(path: Path, messages: list[bytes], options: str = "", pause: float = 0.0) -> int:
    """Record messages of a PUSH socket, with a pause after each of them is written; the items recorded."""
    where = address()
    items = sum(len(message) // (8 * USERS * ANTENNAS) for message in messages)
    csi = parse_endpoint(f"pull:{where}{options}", is_input=True)
    job = Job(lambda: record_stream(path, csi, (USERS, ANTENNAS), "hermitian", Limits(items, 60), EventLog("error")))
    with bounded_context() as context, context.socket(zmq.PUSH) as sender:
        sender.setsockopt(zmq.SNDTIMEO, PATIENCE_MS)
        sender.setsockopt(zmq.IMMEDIATE, 1)
        sender.bind(where)
        size = 0
        for message in messages:
            sender.send(message)
            size += len(message)
            if pause:
                wait_until(lambda size=size: path.exists() and path.stat().st_size == size)  # type: ignore[misc]
                time.sleep(pause)
        found = job.result()
        assert isinstance(found, int)
        return found


def replayed_stream(path: Path, count: int, options: str = "", keep_timing: bool = False) -> list[bytes]:
    """Replay to a PULL socket; the messages it receives."""
    where, recorded = address(), RecordedMessages(path)
    output = parse_endpoint(f"push:{where}{options}", is_input=False)
    with bounded_context() as context, context.socket(zmq.PULL) as reader:
        reader.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        reader.connect(where)
        job = Job(lambda: replay_stream(recorded, output, keep_timing, EventLog("error")))
        received = [reader.recv() for _ in range(count)]
        job.result()
        assert not reader.poll(0)
    return received


def with_header(first: int, drops: npt.NDArray[np.complex64]) -> bytes:
    tags = [Tag(first, "slot", first), Tag(first + len(drops) - 1, "rx_time", 0.125, "usrp")]
    return encode_header(first, tags) + drops.tobytes()


def test_a_tagged_stream_comes_again_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.sigmf-data"
    sent = [with_header(0, channels(2)), with_header(2, channels(1, 1)), with_header(7, channels(5, 2))]
    assert recorded_stream(path, sent, ",tags") == 8
    assert replayed_stream(path, 3, ",tags") == sent
    plain = replayed_stream(path, 3)
    assert plain == [message[-len(data) :] for message, data in zip(sent, plain, strict=True)]
    assert [len(data) // (8 * USERS * ANTENNAS) for data in plain] == [2, 1, 5]


def test_the_sigmf_package_validates_it(tmp_path: Path) -> None:
    sigmf = pytest.importorskip("sigmf")
    path, drops = tmp_path / "a.sigmf-data", channels(6)
    recorded_stream(path, [with_header(0, drops[:4]), with_header(4, drops[4:])], ",tags")
    found = sigmf.fromfile(str(path))
    found.validate()
    np.testing.assert_array_equal(found.read_samples(), drops.ravel())
    stated = found.get_global_info()
    assert stated["core:sha512"] == hashlib.sha512(path.read_bytes()).hexdigest()
    assert (stated["nflae:users"], stated["nflae:antennas"]) == (USERS, ANTENNAS)
    counts = [entry["core:sample_count"] for entry in found.get_annotations()]
    assert counts == [4 * USERS * ANTENNAS, 2 * USERS * ANTENNAS]


def test_the_timing_is_kept_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.sigmf-data"
    sent = [channels(1, seed).tobytes() for seed in range(3)]
    recorded_stream(path, sent, pause=0.2)
    seconds = [message.seconds for message in RecordedMessages(path).messages]
    assert min(np.diff(seconds)) > 0.1
    began = time.monotonic()
    assert replayed_stream(path, 3, keep_timing=True) == sent
    assert time.monotonic() - began >= seconds[-1] - seconds[0]


def test_a_recording_cut_short_is_replayed_up_to_there(tmp_path: Path, nflae: Run) -> None:
    path, drops = tmp_path / "a.sigmf-data", channels(6)
    recorded_stream(path, [drops[:2].tobytes(), drops[2:].tobytes()])
    size = 8 * USERS * ANTENNAS
    path.write_bytes(path.read_bytes()[: 3 * size + 5])
    assert replayed_stream(path, 2) == [drops[:2].tobytes(), drops[2:3].tobytes()]
    done = nflae("inspect", path)
    assert "cut short: 3 of 6 items are present" in done.stdout
    assert f"the last item is cut short and left out: 5 of {size} bytes" in " ".join(done.stdout.split())


def test_a_killed_recorder_leaves_what_it_received(tmp_path: Path) -> None:
    path, drops = tmp_path / "a.sigmf-data", channels(3)
    writer = RecordingWriter(path, USERS, ANTENNAS, "hermitian", "a test")
    writer.write(drops[:2])
    writer._save()
    writer.write(drops[2:])  # its description would be renewed later
    recorded = RecordedMessages(path)
    assert recorded.notes == ("not completed: items 3 to 3 have neither times nor tags",)
    assert "core:sha512" not in json.loads(path.with_suffix(".sigmf-meta").read_text())["global"]
    assert replayed_stream(path, 2) == [drops[:2].tobytes(), drops[2:].tobytes()]


@pytest.mark.parametrize("convention", ["hermitian", "direct"])
def test_precode_and_evaluate_read_it(convention: str, tmp_path: Path, nflae: Run) -> None:
    path, drops = tmp_path / "a.sigmf-data", channels(5)
    writer = RecordingWriter(path, USERS, ANTENNAS, convention, "a test")
    writer.write(drops if convention == "hermitian" else drops.conj())
    writer.close()
    for file in (path, path.with_suffix(".sigmf-meta")):
        done = nflae(
            "precode", file, "-o", tmp_path / "w.mat", "--scheme", "zf", "--snr-db", 10, "--mat-version", "7.3"
        )
        assert done.exit_code == 0, done.stderr
        with open_channels(path) as channel_file:
            np.testing.assert_array_equal(channel_file.read(0, 5), drops)
    done = nflae("evaluate", path, "--schemes", "zf,rzf", "--snr-db", 10, "--csv", tmp_path / "table.csv")
    assert done.exit_code == 0, done.stderr
    noise = float(np.mean(np.sum(abs(drops) ** 2, -1))) / 10
    expected = precode(drops, scheme="zf", noise_power=noise).sum_rate.mean()
    line = next(row for row in (tmp_path / "table.csv").read_text().splitlines() if row.startswith("zf,"))
    assert any(abs(float(cell) - expected) < 1e-4 for cell in line.split(",")[1:] if cell.replace(".", "").isdigit())


def test_the_link_budget_that_all_requests_state_is_taken_and_said(tmp_path: Path, nflae: Run) -> None:
    path, output = tmp_path / "a.sigmf-data", tmp_path / "w.mat"
    writer = RecordingWriter(path, USERS, ANTENNAS, "hermitian", "a test")
    for number in range(2):
        request = {"op": "precode", "power": 2.0, "noise_power": 0.25, "min_rate": 0.125 * number}
        writer.write(channels(1, number), request=json.dumps(request))
    writer.close()
    done = nflae("precode", path, "-o", output, "--scheme", "zf")
    assert done.exit_code == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "power = 2 W (3.01 dBW; a.sigmf-data: power)" in said
    assert "noise_power = 0.25 W (-6.021 dBW; a.sigmf-data: noise_power)" in said
    assert (
        "min_rate is not taken from the requests, which do not all state the same number (0 to 0.125); pass --min-rate"
        in said
    )
    assert "alpha_c is not taken" not in said
    drops = np.concatenate([channels(1), channels(1, 1)])
    expected = precode(drops, scheme="zf", power=2.0, noise_power=0.25)
    with open_channels(path) as file:
        assert file.scalars == {"power": 2.0, "noise_power": 0.25}
    found = load(output)
    np.testing.assert_allclose(found["sum_rate"].ravel(), expected.sum_rate, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".sigmf-data", ".mat"])
@pytest.mark.parametrize("drops", [3, USERS])
def test_every_drop_is_precoded_with_the_noise_power_of_its_request(
    drops: int, suffix: str, tmp_path: Path, nflae: Run
) -> None:
    path, output = tmp_path / "a.sigmf-data", tmp_path / "w.mat"
    writer = RecordingWriter(path, USERS, ANTENNAS, "direct", "a test")
    given, noise = channels(drops), [0.25, *[0.5] * (drops - 1)]
    for part, power, budget in ((given[:1], 2.0, 0.25), (given[1:], 3.0, 0.5)):
        request = {"op": "precode", "power": power, "noise_power": budget}
        writer.write(part.conj(), request=json.dumps(request))
    writer.close()
    if suffix == ".mat":
        assert convert_recording(path, path.with_suffix(suffix)) == ["power"]
    done = nflae("precode", path.with_suffix(suffix), "-o", output, "--scheme", "zf", "--mat-version", "7")
    assert done.exit_code == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "power is not taken from the requests, which do not all state the same number (2 to 3); pass --power" in said
    expected = precode(given, scheme="zf", noise_power=noise)
    np.testing.assert_allclose(load(output)["sum_rate"].ravel(), expected.sum_rate, rtol=1e-5)


def test_a_replay_advises_no_option_that_it_has_not(tmp_path: Path, nflae: Run) -> None:
    np.save(tmp_path / "a.npy", channels(2))
    (tmp_path / "b.mat").write_text("plain text")
    scipy.io.savemat(tmp_path / "c.mat", {"H": channels(2)})
    for name, words in {
        "a.npy": "the file states no layout; a replay takes",
        "b.mat": "not a .mat file; save the channels with MATLAB's or Octave's save -v7; a replay takes",
        "c.mat": "can be read in",
    }.items():
        done = nflae("replay", tmp_path / name, "--server", "tcp://127.0.0.1:1")
        assert done.exit_code == 1
        assert words in done.stderr
        assert "--" not in done.stderr
        assert "text variables layout and convention" in done.stderr


@pytest.mark.parametrize("suffix", [".sigmf-data", ".mat"])
def test_requests_pass_and_are_sent_again_byte_by_byte(suffix: str, tmp_path: Path, server: LiveServer) -> None:
    path, output, where = tmp_path / "a.sigmf-data", tmp_path / f"a{suffix}", address()
    to = ServerAddress(server.address, 60, None, None)
    job = Job(lambda: record_requests(path, where, to, Limits(items=5), EventLog("error")))
    with Client(where, timeout=60) as client:
        for seed, drops in enumerate((2, 3)):
            budget = {"power": 2.0, "noise_power": 0.1 * (1 + seed)}
            answer = client.precode(channels(drops, seed), scheme="zf", **budget)
            expected = precode(channels(drops, seed), scheme="zf", **budget)
            np.testing.assert_allclose(answer.sum_rate, expected.sum_rate, rtol=1e-6)
        assert job.result() == 5
    if suffix == ".mat":
        assert convert_recording(path, output) == []
        assert not path.exists()
        with open_channels(output) as file:
            np.testing.assert_array_equal(file.read(0, 5), np.concatenate([channels(2), channels(3, 1)]))
            assert file.scalars["power"] == 2.0
    recorded = RecordedMessages(output)
    assert [json.loads(message.request)["noise_power"] for message in recorded.messages] == [0.1, 0.2]
    received: list[list[bytes]] = []
    with bounded_context() as context, context.socket(zmq.ROUTER) as twin:
        twin.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        port = twin.bind_to_random_port("tcp://127.0.0.1")
        to_twin = ServerAddress(f"tcp://127.0.0.1:{port}", 60, None, None)
        job = Job(lambda: replay_requests(recorded, to_twin, False, {}, EventLog("error")))
        for ok in (True, False):
            client_name, *frames = twin.recv_multipart()
            received.append(frames)
            twin.send_multipart([client_name, json.dumps({"ok": ok, "error": {"message": "no"}}).encode()])
        assert job.result() == (2, 1)
    assert [frames[0].decode() for frames in received] == [message.request for message in recorded.messages]
    assert [frames[1] for frames in received] == [channels(2).tobytes(), channels(3, 1).tobytes()]


def test_the_last_answers_can_be_read(tmp_path: Path) -> None:
    """ZeroMQ discards what a client has not read when its connection ends, so it ends a moment after the answer."""
    where = address()
    with bounded_context() as context, context.socket(zmq.ROUTER) as twin, context.socket(zmq.DEALER) as peer:
        for socket in (twin, peer):
            socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        to = ServerAddress(f"tcp://127.0.0.1:{twin.bind_to_random_port('tcp://127.0.0.1')}", 60, None, None)
        job = Job(lambda: record_requests(tmp_path / "a.sigmf-data", where, to, Limits(items=1), EventLog("error")))
        peer.connect(where)
        header = {"v": 1, "id": "1", "op": "precode", "shape": [ANTENNAS, USERS, 1], "dtype": "complex64"}
        peer.send_multipart([json.dumps(header).encode(), channels(1).tobytes()])
        client_name, *_ = twin.recv_multipart()
        answered = time.monotonic()
        twin.send_multipart([client_name, b'{"id": "1", "ok": true}'])
        assert job.result() == 1
        assert time.monotonic() - answered >= 0.2
        assert peer.recv_multipart() == [b'{"id": "1", "ok": true}']


def test_beyond_the_limit_the_connection_idle_for_the_longest_time_is_closed_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(requests, "_MAX_CLIENTS", 2)
    where, log = address(), EventLog("warning")
    with bounded_context() as context, context.socket(zmq.ROUTER) as twin, ExitStack() as stack:
        first, second, third = peers = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(3)]
        for socket in (twin, *peers):
            socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        to = ServerAddress(f"tcp://127.0.0.1:{twin.bind_to_random_port('tcp://127.0.0.1')}", 60, None, None)
        job = Job(lambda: record_requests(tmp_path / "a.sigmf-data", where, to, Limits(items=1), log))

        def asked(peer: zmq.Socket[bytes]) -> bytes:
            peer.send_multipart([b'{"v": 1, "id": "1", "op": "status"}'])
            return twin.recv_multipart()[0]

        def answered(peer: zmq.Socket[bytes], name: bytes) -> bytes:
            twin.send_multipart([name, b'{"id": "1", "ok": true}'])
            assert peer.recv_multipart() == [b'{"id": "1", "ok": true}']
            return name

        for peer in peers:
            peer.connect(where)
        kept = asked(first)
        answered(second, asked(second))
        answered(third, asked(third))  # closes that of the second: the first one waits for an answer
        answered(first, kept)
        assert answered(first, asked(first)) == kept
        answered(second, asked(second))  # closes that of the third, which is idle for a longer time than the first
        assert answered(first, asked(first)) == kept
        header = {"v": 1, "id": "1", "op": "precode", "shape": [ANTENNAS, USERS, 1], "dtype": "complex64"}
        first.send_multipart([json.dumps(header).encode(), channels(1).tobytes()])
        answered(first, twin.recv_multipart()[0])
        assert job.result() == 1
    log.flush()
    written = capsys.readouterr().err
    assert written.count("event=connection_closed") == 2
    assert "unanswered=0" in written


def test_refused_requests_and_those_beyond_the_limit_are_not_recorded(tmp_path: Path) -> None:
    path, where = tmp_path / "a.sigmf-data", address()
    sizes = {"1": 1, "2": 2, "3": 2, "4": 3}  # of the drops; 2 is refused, 4 has no room beside 1 and 3
    with bounded_context() as context, context.socket(zmq.ROUTER) as twin, context.socket(zmq.DEALER) as peer:
        for socket in (twin, peer):
            socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        to = ServerAddress(f"tcp://127.0.0.1:{twin.bind_to_random_port('tcp://127.0.0.1')}", 60, None, None)
        job = Job(lambda: record_requests(path, where, to, Limits(items=5), EventLog("error")))
        peer.connect(where)
        for name in ("1", "2", "3"):
            header = {"v": 1, "id": name, "op": "precode", "shape": [ANTENNAS, USERS, sizes[name]]}
            peer.send_multipart([json.dumps(header).encode(), channels(sizes[name], int(name)).tobytes()])
        held = [twin.recv_multipart()[:2] for _ in range(3)]
        for client_name, header_text in reversed(held):  # recorded in the order of arrival
            name = json.loads(header_text)["id"]
            answer = {"id": name, "ok": name != "2", "error": {"message": "no"}}
            twin.send_multipart([client_name, json.dumps(answer).encode()])
        for _ in held:
            peer.recv_multipart()
        header = {"v": 1, "id": "4", "op": "precode", "shape": [ANTENNAS, USERS, sizes["4"]]}
        peer.send_multipart([json.dumps(header).encode(), channels(3, 4).tobytes()])
        client_name, *_ = twin.recv_multipart()
        twin.send_multipart([client_name, b'{"id": "4", "ok": true}'])
        assert job.result() == 3
        assert json.loads(peer.recv_multipart()[0])["id"] == "4"  # it is served nevertheless
    recorded = RecordedMessages(path)
    assert [json.loads(message.request)["id"] for message in recorded.messages] == ["1", "3"]
    found = [drawn for _, drawn in recorded.scheduled(False, lambda: False)]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([channels(1, 1), channels(2, 3)]))


def test_requests_that_are_not_recorded_take_no_room(tmp_path: Path, server: LiveServer) -> None:
    path, where = tmp_path / "a.sigmf-data", address()
    to = ServerAddress(server.address, 60, None, None)
    job = Job(lambda: record_requests(path, where, to, Limits(items=3), EventLog("error")))
    with Client(where, timeout=60) as client:
        client.precode(channels(1), scheme="zf", noise_power=0.1)
        with pytest.raises(BadChannels):
            client.precode(np.full_like(channels(3), np.nan), scheme="zf", noise_power=0.1)
        client.precode(channels(3)[:, :, :-1], scheme="zf", noise_power=0.1)  # of another size
        client.precode(channels(2, 1), scheme="zf", noise_power=0.1)
        assert job.result() == 3
    found = [drawn for _, drawn in RecordedMessages(path).scheduled(False, lambda: False)]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([channels(1), channels(2, 1)]))


def test_a_stream_is_sent_to_a_server_too(tmp_path: Path, server: LiveServer, nflae: Run) -> None:
    path = tmp_path / "a.sigmf-data"
    recorded_stream(path, [channels(2).tobytes(), channels(1).tobytes()])
    before = counted(server)
    done = nflae("replay", path, "--server", server.address, "--scheme", "rzf")
    assert done.exit_code == 0, done.stderr
    assert counted(server) == before + 2
    done = nflae("replay", path, "--server", server.address, "--power-dbw", 5000)
    assert done.exit_code == 1


def counted(server: LiveServer) -> int:
    with Client(server.address, timeout=60) as client:
        return int(client.status()["counts"]["answered"])


def test_what_can_not_be_recorded_or_replayed_is_one_line(tmp_path: Path, nflae: Run) -> None:
    path = tmp_path / "a.sigmf-data"
    writer = RecordingWriter(path, USERS, ANTENNAS, "hermitian", "a test")
    writer.write(channels(1))
    writer.close()
    with pytest.raises(NflaeError, match=r"a\.sigmf-data: exists; give another name"):
        RecordingWriter(path, USERS, ANTENNAS, "hermitian", "a test")
    csi = ("--csi", f"pull:{address()}", "--users", 3, "--antennas", 4)
    to_server = ("--server", "tcp://127.0.0.1:1", "--bind", address(), "--seconds", 0.1)
    for arguments, words in {
        ("record", "-o", path): "give either --csi",
        ("record", "-o", path, "--csi", "pull:tcp://127.0.0.1:1"): "--csi needs --users and --antennas",
        ("record", "-o", path, "--server", "tcp://127.0.0.1:1"): "--server needs --bind",
        ("record", "-o", tmp_path / "a.wav", *csi): "a recording is NAME.sigmf-data",
        ("record", "-o", path, *csi): "exists; give another name",
        ("record", "-o", tmp_path / "b.mat", "--csi", "pull:tcp://127.0.0.1:1,pdu", *csi[2:]): "leave out ',pdu'",
        ("record", "-o", tmp_path / "no" / "b.mat", *to_server): "b.sigmf-data: cannot be written",
        ("replay", path): "give either --to",
        ("replay", path, "--to", "push:tcp://127.0.0.1:1", "--noise-dbw", 1): "are for --server",
        ("replay", path, "--to", "rep:tcp://127.0.0.1:1"): "are sent by push or pub",
        ("replay", tmp_path / "no.sigmf-data", "--to", "push:tcp://127.0.0.1:1"): "no such file",
    }.items():
        done = nflae(*arguments)
        assert done.exit_code in (1, 2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("core:datatype", "ci16_le", "core:datatype is 'ci16_le', expected 'cf32_le'"),
        ("nflae:users", None, "global nflae:users is missing, expected a whole number from 1; without it give"),
        ("nflae:antennas", 0, "global nflae:antennas is 0, expected"),
        ("nflae:convention", "other", "convention 'other': expected one of hermitian, direct"),
    ],
)
def test_other_sigmf_files_are_refused(name: str, value: object, words: str, tmp_path: Path, nflae: Run) -> None:
    path = tmp_path / "a.sigmf-data"
    writer = RecordingWriter(path, USERS, ANTENNAS, "hermitian", "a test")
    writer.write(channels(1))
    writer._global = {key: entry for key, entry in (writer._global | {name: value}).items() if entry is not None}
    writer.close()
    done = nflae("precode", path, "-o", tmp_path / "w.mat")
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_empty_recording_is_refused_before_a_reader_is_awaited(tmp_path: Path, nflae: Run) -> None:
    path = tmp_path / "empty.sigmf-data"
    RecordingWriter(path, USERS, ANTENNAS, "hermitian", "a test")._file.close()  # its program was killed
    refused = nflae("replay", path, "--to", f"push:{address()}")
    assert refused.exit_code == 1
    assert "holds no whole item" in refused.stderr


def test_a_stream_without_items_leaves_no_file(tmp_path: Path, nflae: Run) -> None:
    path = tmp_path / "a.sigmf-data"
    done = nflae("record", "-o", path, "--csi", f"pull:{address()}", "--users", 3, "--antennas", 4, "--seconds", 0.1)
    assert done.exit_code == 1
    assert "a.sigmf-data: nothing recorded" in done.stderr
    assert not list(tmp_path.iterdir())


def test_items_of_another_size_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.sigmf-data"
    with pytest.raises(NflaeError, match="holds 13 complex numbers, not a multiple"):
        recorded_stream(path, [bytes(8 * (USERS * ANTENNAS + 1))])
    assert not list(tmp_path.iterdir())


def test_a_request_whose_id_is_refused_holds_up_no_other(
    tmp_path: Path, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, where = tmp_path / "a.sigmf-data", address()
    log, said = EventLog("error"), list[object]()
    monkeypatch.setattr(log, "warning", lambda event, **fields: said.append(fields["message"]))
    to = ServerAddress(server.address, 60, None, None)
    with bounded_context() as context, context.socket(zmq.DEALER) as peer:
        peer.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        job = Job(lambda: record_requests(path, where, to, Limits(items=1), log))
        peer.connect(where)
        header = {"v": 1, "op": "precode", "shape": [ANTENNAS, USERS, 1], "scheme": "zf", "noise_power": 0.1}
        for name in (5, "x" * 200, "a"):
            peer.send_multipart([json.dumps(header | {"id": name}).encode(), channels(1).tobytes()])
            peer.recv_multipart()
        assert job.result() == 1
    assert ["the server has refused it" in str(text) for text in said] == [True, True]
    assert [json.loads(message.request)["id"] for message in RecordedMessages(path).messages] == ["a"]


def test_an_absent_server_is_said_and_waited_for_until_the_time_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.sigmf-data"
    writer = RecordingWriter(path, USERS, ANTENNAS, "hermitian", "a test")
    writer.write(channels(1))
    writer.close()
    log, began = EventLog(), time.monotonic()
    with pytest.raises(NflaeError, match=r"no answer within 0\.2 s; is `nflae serve` there"):
        replay_requests(RecordedMessages(path), ServerAddress(address(), 0.2, None, None), False, {}, log)
    log.flush()
    assert time.monotonic() - began < 20
    assert "event=waiting" in capsys.readouterr().err
