"""The blocks of GNU Radio Companion in real flowgraphs, with a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from matlab_io.containers.other_formats.sigmf import open_recording
from matlab_io.errors import NflaeError
from nflae_bridge import Client, precode
from nflae_bridge.live.gnuradio.blocks import installation
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import EXAMPLE, gnuradio  # noqa: F401
from tests.nflae_bridge.live.live_server import LiveServer
from tests.ports import free_tcp_port

pytestmark = pytest.mark.gnuradio

WAITING = """
import sys, threading
from gnuradio import blocks, gr
from nflae_bridge.live.gnuradio.blocks import precoder
precoder._LOG_WAIT_SECONDS = 0.05
block, logged = precoder.Precoder(2, 4, sys.argv[1], late="block"), threading.Event()
given = block._requests.reason
block._requests.reason = lambda: (logged.set(), given())[1]
graph = gr.top_block()
graph.connect(blocks.vector_source_c([1] * 8, False, 8), block, blocks.null_sink(64))
graph.start()
assert logged.wait(60), "no line within 60 s"
graph.stop(), graph.wait()
"""

FLOWGRAPHS = Path(__file__).parent / "block_flowgraphs.py"
USERS, ANTENNAS, SYMBOLS = 3, 16, 8
SIZES = {"users": USERS, "antennas": ANTENNAS, "symbols": SYMBOLS}
Run = Callable[..., dict[str, npt.NDArray[Any]]]


@pytest.fixture(scope="module")
def home(gnuradio: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:  # noqa: F811
    """The environment of a user who has installed the blocks, and nothing else."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QT_QPA_PLATFORM", "offscreen")
        patch.setenv("HOME", str(folder))
        for name in ("XDG_DATA_HOME", "PYTHONPATH", "GRC_BLOCKS_PATH", "GRC_HIER_PATH"):
            patch.delenv(name, raising=False)
        try:
            installation.install(installation.find_gnuradio(gnuradio))
        except NflaeError as error:
            if "is for another version" in str(error):
                pytest.skip(str(error))
            raise
        return dict(os.environ)


@pytest.fixture
def run(gnuradio: str, home: dict[str, str], tmp_path: Path) -> Run:  # noqa: F811
    def call(**settings: Any) -> dict[str, npt.NDArray[Any]]:
        target = tmp_path / "received.npz"
        command = [gnuradio, str(FLOWGRAPHS), "run", json.dumps(SIZES | settings), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=home, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with np.load(target) as content:
            return dict(content) | {"log": np.array(done.stdout + done.stderr)}

    return call


def numbers(items: int, length: int, seed: int = 7) -> npt.NDArray[np.complex64]:
    """As block_flowgraphs.py makes them."""
    parts = np.random.default_rng(seed).normal(size=(items, length, 2)).astype(np.float32)
    return parts.view(np.complex64)[..., 0]


def channels(items: int) -> npt.NDArray[np.complex64]:
    return numbers(items, USERS * ANTENNAS).reshape(items, USERS, ANTENNAS)


def tagged(tags: npt.NDArray[Any], key: str) -> dict[int, Any]:
    """The values of a tag by item."""
    return {offset: value for offset, name, value in json.loads(str(tags)) if name == key}


def test_a_wait_without_a_server_is_logged_with_the_remedy(gnuradio: str, home: dict[str, str]) -> None:  # noqa: F811
    address = f"tcp://127.0.0.1:{free_tcp_port()}"
    done = subprocess.run(
        [gnuradio, "-c", WAITING, address], capture_output=True, text=True, timeout=180, env=home, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = (
        rf"item 0 has waited for \d+ s \(block\): {address}: no answer yet; unless `nflae serve` runs there, start it"
    )
    assert re.search(line, done.stdout + done.stderr)


def test_answers_tags_and_messages_are_those_of_precode(run: Run, server: LiveServer, tmp_path: Path) -> None:
    items, bad, file = 40, 13, tmp_path / "csi.sigmf-data"
    got = run(items=items, address=server.address, late="block", bad=[bad], recording=str(file), noise_power=0.02)
    assert not got["heavy"].size
    good = np.delete(np.arange(items), bad)
    h = channels(items)
    with Client(server.address) as client:
        served = client.precode(h[good], noise_power=0.01)
    expected = np.zeros_like(h)
    expected[good] = served.precoder * np.sqrt(served.power)[..., None]
    np.testing.assert_array_equal(got["precoders"], expected)
    result = precode(h[good], noise_power=0.01)
    expected[good] = result.precoder * np.sqrt(result.power)[..., None]
    np.testing.assert_allclose(got["precoders"], expected, atol=2e-4)
    np.testing.assert_array_equal(got["pdus"].reshape(h.shape), got["precoders"])
    assert got["counts"].tolist() == [items, 0, 1]
    assert tagged(got["tags"], "nflae_item") == {int(item): int(item) for item in good}
    assert tagged(got["tags"], "place") == {item: item for item in range(0, items, 7)}
    assert list(tagged(got["tags"], "nflae_error")) == [bad]
    assert "user 1, antenna 1 is NaN" in tagged(got["tags"], "nflae_error")[bad]
    for name in ("near_field", "power", "sinr", "rate", "sum_rate", "feasible"):
        values = tagged(got["tags"], f"nflae_{name}")
        assert list(values) == good.tolist()
        np.testing.assert_allclose(list(values.values()), getattr(served, name), rtol=1e-6)
    np.testing.assert_allclose(got["pdu_rates"][good], served.sum_rate, rtol=1e-6)
    recorded = open_recording(file)
    np.testing.assert_array_equal(recorded.load()[good], h[good])
    assert any(message.header for message in recorded.messages)
    received = got["received"][good]
    sent = numbers(items, USERS * SYMBOLS, 8).reshape(items, USERS, SYMBOLS)[good]
    evm = 10 * np.log10((abs(received - sent) ** 2).sum((0, 2)) / (abs(sent) ** 2).sum((0, 2)))
    assert (evm < 0).all()


@pytest.mark.parametrize("convention", ["hermitian", "direct"])
def test_the_downlink_and_the_probe_follow_their_equations(run: Run, server: LiveServer, convention: str) -> None:
    items, settings = 20, {"scheme": "mrt", "scaled": False, "per_report": 8, "convention": convention}
    got = run(items=items, address=server.address, late="block", **settings)
    rows = channels(items).astype(complex)  # of H in y = H x, or h_k
    h = rows.conj() if convention == "direct" else rows
    sent = numbers(items, USERS * SYMBOLS, 8).reshape(items, USERS, SYMBOLS)
    w = got["precoders"]
    np.testing.assert_allclose(w, h / np.linalg.norm(h, axis=2, keepdims=True), atol=1e-5)
    y = np.einsum("ikn,ijn,jis->iks", h.conj(), w, sent.transpose(1, 0, 2))
    np.testing.assert_allclose(got["received"], y, atol=1e-4)
    assert got["evm_items"].tolist() == [7, 15]
    parts = [slice(0, 8), slice(8, 16)]
    errors = [(abs(y[p] - sent[p]) ** 2).sum((0, 2)) / (abs(sent[p]) ** 2).sum((0, 2)) for p in parts]
    np.testing.assert_allclose(got["evm_db"], 10 * np.log10(errors), atol=1e-3)
    np.testing.assert_allclose(got["evm_called"], got["evm_db"], atol=1e-5)
    np.testing.assert_allclose(got["evm_last"], got["evm_db"][-1], atol=1e-5)
    np.testing.assert_allclose(got["constellation"].reshape(2, USERS, SYMBOLS), got["received"][[7, 15]])
    assert f"whole run: EVM of users 1 to {USERS}" in str(got["log"])


@pytest.mark.parametrize("late", ["hold", "zeros"])
def test_without_a_server_the_flowgraph_runs_on(run: Run, free_port: int, late: str) -> None:
    items, address = 60, f"tcp://127.0.0.1:{free_port}"
    got = run(items=items, address=address, late=late, deadline_ms=1, timeout=0.2)
    assert not got["precoders"].any()
    assert got["counts"].tolist() == [items, items, 0]
    assert got["late"].sum() == items
    assert tagged(got["tags"], "nflae_late") == dict.fromkeys(range(items), "zeros")
    assert tagged(got["probe_tags"], "nflae_late") == dict.fromkeys(range(items), "zeros")
    assert f"{items} items, {items} late ({late}), 0 bad" in str(got["log"])
    assert f"{address}: no answer within" in str(got["log"])


REFUSED = """
import sys
from nflae_bridge.live.gnuradio import blocks
for name in blocks.__all__:
    for users in (0, 2.5, "4", 2**30):
        try:
            getattr(blocks, name)(users, 64, *{"CsiRecorder": [""], "DownlinkChannel": [8]}.get(name, []))
        except Exception as error:
            print(type(error).__name__, error)
"""


def test_sizes_that_are_none_are_named(gnuradio: str, home: dict[str, str]) -> None:  # noqa: F811
    done = subprocess.run([gnuradio, "-c", REFUSED], capture_output=True, text=True, env=home, timeout=120, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 16
    for place, shown in enumerate(("0", "2.5", "'4'")):
        assert set(lines[place::4]) == {f"NflaeError users must be a whole number of at least 1, got {shown}"}
    assert all("longer than an item of GNU Radio may be" in line for line in lines[3::4])


def test_a_request_that_the_server_refuses_is_said(run: Run, server: LiveServer) -> None:
    got = run(items=3, address=server.address, late="block", scheme="mrt", objective="max-min")
    assert not got["precoders"].any()
    assert got["counts"].tolist() == [3, 0, 3]
    assert all("max-min" in text for text in tagged(got["tags"], "nflae_error").values())
    assert "max-min" in str(got["log"])


UNWRITABLE = """
import pathlib, sys
from gnuradio import blocks, gr
from nflae_bridge.live.gnuradio import blocks as nflae
file = pathlib.Path(sys.argv[1])
for refused in (file, file.parent / "none" / file.name):
    try:
        nflae.CsiRecorder(2, 4, str(refused))
    except Exception as error:
        print(type(error).__name__, error)
file.unlink()
recorder, graph = nflae.CsiRecorder(2, 4, str(file)), gr.top_block()
file.write_bytes(b"later")
graph.connect(blocks.vector_source_c([1] * 8, True, 8), recorder)
graph.run()
print("ended")
"""


def test_a_file_that_cannot_be_written_is_refused_and_ends_the_flowgraph(
    gnuradio: str,  # noqa: F811
    home: dict[str, str],
    tmp_path: Path,
) -> None:
    file = tmp_path / "csi.sigmf-data"
    file.write_bytes(b"precious")
    command = [gnuradio, "-c", UNWRITABLE, file]
    done = subprocess.run(command, capture_output=True, text=True, env=home, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"NflaeError {file}: exists; give another name")
    assert lines[1].startswith(f"NflaeError {tmp_path}/none/{file.name}: the folder {tmp_path}/none does not exist")
    assert lines[-1] == "ended"
    assert f"{file}: exists" in done.stdout.split("\n", 2)[2] + done.stderr
    assert file.read_bytes() == b"later"


@pytest.mark.slow
@pytest.mark.parametrize("late", ["hold", "block"])
def test_server_and_flowgraph_restart_in_mid_run(
    gnuradio: str,  # noqa: F811
    home: dict[str, str],
    tmp_path: Path,
    late: str,
) -> None:
    items, address, target = 50, f"tcp://127.0.0.1:{free_tcp_port()}", tmp_path / "received.npz"
    settings = {"users": USERS, "antennas": ANTENNAS, "rate": 200, "items": items, "address": address, "late": late}
    command = [gnuradio, str(FLOWGRAPHS), "endless", json.dumps(settings | {"scheme": "rzf"}), str(target)]
    result = precode(channels(items), noise_power=0.01, scheme="rzf")
    expected = (result.precoder * np.sqrt(result.power)[..., None]).astype(np.complex64)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=home)

    def wait_for(process: subprocess.Popen[str], word: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"the flowgraph ended before {word!r}")

    with LiveServer(bind=address) as server:
        with start() as killed:
            wait_for(killed, "answered")
            killed.kill()
        flowgraph = start()
        wait_for(flowgraph, "answered")
        server.stop(9)
    if late == "hold":
        wait_for(flowgraph, "late")
    with LiveServer(bind=address) as server:
        if late == "hold":
            wait_for(flowgraph, "answered")
        else:
            server.wait_for("event=listening")
        log, _ = flowgraph.communicate(timeout=60)
    assert flowgraph.returncode == 0
    with np.load(target) as content:
        got = dict(content)
    count, late_count, bad = got["counts"]
    cut = count - len(got["precoders"])  # answered, but not read before the stop
    assert 0 <= cut < 200
    assert bad == 0
    assert 0 <= late_count - got["late"].sum() <= cut
    assert f"{count} items, {late_count} late ({late}), 0 bad" in log
    held = got["numbers"] >= 0
    np.testing.assert_allclose(got["precoders"][held], expected[got["numbers"][held] % items], atol=1e-5)
    own = got["numbers"] == np.arange(count - cut)
    np.testing.assert_array_equal(own, ~got["late"])
    if late == "hold":
        assert late_count > 0
        assert (got["numbers"][got["late"] & held] < np.flatnonzero(got["late"] & held)).all()
        assert not got["precoders"][~held].any()
    else:
        assert late_count == 0


def test_the_companion_flowgraph_embeds_the_blocks_beside_it() -> None:
    graph = (EXAMPLE / "precoder_blocks.grc").read_text()
    for name in ("near_field_users", "tag_values"):
        source = (EXAMPLE / f"{name}.py").read_text()
        embedded = "".join(f"      {line}" if line.strip() else line for line in source.splitlines(keepends=True))
        assert embedded in graph, f"{name}.py and the block of that name in precoder_blocks.grc differ"


@pytest.mark.slow
def test_the_example_compiles_and_runs_to_its_end(
    gnuradio: str,  # noqa: F811
    home: dict[str, str],
    server: LiveServer,
    tmp_path: Path,
) -> None:
    compiler = shutil.which("grcc")
    assert compiler is not None
    compile_ = [compiler, "-o", tmp_path, EXAMPLE / "precoder_blocks.grc"]
    subprocess.run(compile_, env=home, capture_output=True, check=True, timeout=180)
    file, picture = tmp_path / "csi.sigmf-data", tmp_path / "seen.png"
    command = [gnuradio, tmp_path / "precoder_blocks.py", "--server", server.address, "--drops", "60"]
    command += ["--recording", file, "--picture", picture]
    done = subprocess.run([*map(str, command)], env=home, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    log = done.stdout + done.stderr
    assert "60 items" in log
    assert "whole run: EVM of users 1 to 4 in dB:" in log
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert open_recording(file).items == 60
