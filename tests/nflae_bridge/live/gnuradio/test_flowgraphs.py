"""``nflae stream`` and real GNU Radio flowgraphs, over every kind of socket."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nflae_bridge import precode
from nflae_bridge.live.gnuradio.pmt import Pair, Vector, decode, encode
from tests.nflae_bridge.live.gnuradio.test_pmt import assert_same
from tests.ports import free_tcp_port
from tests.warm_python import WarmProgram

FLOWGRAPHS = Path(__file__).parent / "flowgraphs.py"
USERS, ANTENNAS = 4, 16
INPUT_OF = {"push": "pull", "pub": "sub", "rep": "req"}
OUTPUT_OF = {"push": "push", "pub": "pub", "rep": "rep"}

Flowgraph = Callable[..., dict[str, npt.NDArray[Any]]]


@pytest.fixture(scope="session")
def gnuradio() -> str:
    """The Python that GNU Radio was installed for."""
    program = "/usr/bin/python3"
    try:
        done = subprocess.run([program, "-c", "from gnuradio import zeromq"], capture_output=True, check=False)
        found = done.returncode == 0
    except OSError:
        found = False
    if not found:
        if os.environ.get("CI"):
            pytest.fail("GNU Radio is not installed, and CI must have it")
        pytest.skip("GNU Radio is not installed (apt-get install gnuradio)")
    return program


@pytest.fixture
def flowgraph(gnuradio: str, tmp_path: Path) -> Flowgraph:
    """Runs one of the flowgraphs of flowgraphs.py; returns what came back to it."""

    def run(which: str, **settings: Any) -> dict[str, npt.NDArray[Any]]:
        target = tmp_path / "received.npz"
        command = [gnuradio, str(FLOWGRAPHS), which, json.dumps(settings), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with np.load(target) as content:
            return dict(content)

    return run


def free_address() -> str:
    return f"tcp://127.0.0.1:{free_tcp_port()}"


class Streaming:
    """A running ``nflae stream``: its log line by line, and its counts once it was stopped."""

    def __init__(self, *arguments: object) -> None:
        self.process = WarmProgram("stream", *arguments)
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "event=ready" in line:
                self._ready.set()
        self._ready.set()

    def wait_ready(self) -> None:
        assert self._ready.wait(120)
        assert self.process.poll() is None, self.lines

    def stop(self, number: int = signal.SIGTERM) -> dict[str, float]:
        """The counts it reports at its end."""
        self.process.send_signal(number)
        assert self.process.wait(60) == 0, self.lines
        self._reader.join(60)
        (last,) = (line for line in self.lines if "event=stopped" in line)
        return {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)(?= |$)", last.split("stopped")[1])}


@contextmanager
def streaming(*arguments: object) -> Iterator[Streaming]:
    running = Streaming("--users", USERS, "--antennas", ANTENNAS, "--scheme", "rzf", *arguments)
    try:
        running.wait_ready()
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def channels(items: int) -> npt.NDArray[np.complex64]:
    """As flowgraphs.py makes them, (items, users, antennas)."""
    parts = np.random.default_rng(7).normal(size=(items, USERS * ANTENNAS, 2)).astype(np.float32)
    return parts.view(np.complex64)[..., 0].reshape(items, USERS, ANTENNAS)


def numbers_of(received: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """Which drop each vector belongs to, by the tags ``nflae_item``."""
    count = len(received["precoders"])
    numbers = np.empty(count, np.int64)
    for offset, value in received["numbers"].astype(np.int64):
        numbers[offset:] = value + np.arange(count - offset)
    return numbers


pytestmark = pytest.mark.gnuradio


def test_pmts_are_the_same_on_both_sides(gnuradio: str) -> None:
    whole: dict[str, Any] = {
        "null": None,
        "true": True,
        "false": False,
        "symbol": "héllo",
        "int32": -7,
        "int64": 2**40,
        "uint64": np.uint64(2**64 - 1),
        "double": 2.5,
        "complex": 1.5 - 2j,
        "pair": Pair(1, 2.5),
        "list": [1, 2.5, "x"],
        "tuple": (1, 2.5),
        "vector": Vector((1, 2.5)),
        "dict": {"b": (1,), "a": 1},
        "pdu": Pair({"a": 1}, np.array([1 + 2j, 3 - 4j], np.complex64)),
    }
    kinds = {"u": ("u", 1), "s": ("i", -1), "f": ("f", 1.5), "c": ("c", 1.5)}
    for name in ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f32", "f64", "c32", "c64"):
        kind, first = kinds[name[0]]
        width = int(name[1:]) // 8 * (2 if kind == "c" else 1)
        whole[name] = np.array([first, 2, 3], f"{kind}{width}")
    ours = {name: encode(value).hex() for name, value in whole.items()}
    done = subprocess.run(
        [gnuradio, str(FLOWGRAPHS), "pmts"], input=json.dumps(ours), capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert theirs["hex"] == ours
    assert all(theirs["equal"].values())
    for name, value in whole.items():
        assert_same(decode(bytes.fromhex(theirs["hex"][name])), value)


@pytest.mark.parametrize("kind", ["push", "rep"])
@pytest.mark.parametrize("pass_tags", [False, True], ids=["bare", "tags"])
def test_every_vector_comes_back_precoded(flowgraph: Flowgraph, kind: str, pass_tags: bool) -> None:
    items, csi, precoders = 300, free_address(), free_address()
    tags = ",tags" if pass_tags else ""
    arguments = ["--csi", f"{INPUT_OF[kind]}:{csi}{tags}", "--precoders", f"{OUTPUT_OF[kind]}:{precoders}{tags}"]
    with streaming(*arguments, *(["--result-tags"] if pass_tags else [])) as running:
        got = flowgraph(
            "samples",
            csi=csi,
            precoders=precoders,
            kind=kind,
            items=items,
            length=USERS * ANTENNAS,
            pass_tags=pass_tags,
        )
        counts = running.stop()
    result = precode(channels(items), scheme="rzf")
    np.testing.assert_allclose(got["precoders"].reshape(result.precoder.shape), result.precoder, atol=1e-6)
    assert (counts["received"], counts["sent"], counts["lost"], counts["malformed"]) == (items, items, 0, 0)
    if pass_tags:
        assert (numbers_of(got) == np.arange(items)).all()
        assert (got["places"][:, 0] == got["places"][:, 1]).all()
        assert (got["places"][:, 0] == np.arange(0, items, 7)).all()
        assert (got["label_tags"] == result.near_field).all()
        np.testing.assert_allclose(got["rates"], result.sum_rate, rtol=1e-6)


@pytest.mark.parametrize("kind", ["push", "rep"])
def test_labels_and_powers_have_streams_of_their_own(flowgraph: Flowgraph, kind: str) -> None:
    items, csi = 200, free_address()
    addresses = {name: free_address() for name in ("precoders", "labels", "powers")}
    outputs = [text for name, address in addresses.items() for text in (f"--{name}", f"{OUTPUT_OF[kind]}:{address}")]
    with streaming("--csi", f"{INPUT_OF[kind]}:{csi}", *outputs, "--scaled", "--scheme", "wmmse"):
        got = flowgraph(
            "samples",
            csi=csi,
            kind=kind,
            items=items,
            length=USERS * ANTENNAS,
            pass_tags=False,
            users=USERS,
            **addresses,
        )
    result = precode(channels(items), scheme="wmmse")
    scaled = result.precoder * np.sqrt(result.power)[..., None]
    np.testing.assert_allclose(got["precoders"].reshape(scaled.shape), scaled, atol=1e-6)
    np.testing.assert_allclose(got["powers"], result.power, atol=1e-6)
    assert (got["labels"] == result.near_field).all()


def test_a_subscription_says_which_drops_it_missed(flowgraph: Flowgraph) -> None:
    items, csi, precoders = 400, free_address(), free_address()
    with streaming("--csi", f"sub:{csi},tags", "--precoders", f"pub:{precoders},tags") as running:
        got = flowgraph(
            "samples",
            csi=csi,
            precoders=precoders,
            kind="pub",
            items=items,
            length=USERS * ANTENNAS,
            pass_tags=True,
            rate=200,
        )
        running.stop()
    numbers = numbers_of(got)
    assert len(numbers) > items / 20
    assert numbers[-1] == items - 1
    result = precode(channels(items)[numbers], scheme="rzf")
    np.testing.assert_allclose(got["precoders"].reshape(result.precoder.shape), result.precoder, atol=1e-6)


def test_gaps_of_a_lossy_socket_are_counted_and_numbered(flowgraph: Flowgraph) -> None:
    items, csi, precoders = 64, free_address(), free_address()
    with streaming("--csi", f"sub:{csi},tags", "--precoders", f"push:{precoders},tags") as running:
        got = flowgraph(
            "samples",
            csi=csi,
            precoders=precoders,
            kind="pub",
            items=items,
            length=USERS * ANTENNAS,
            pass_tags=True,
            seconds=1.0,
        )
        counts = running.stop()
    numbers = numbers_of(got)
    assert counts["gaps"] > 0
    assert any("event=gap" in line for line in running.lines)
    assert len(numbers) == counts["received"] == counts["sent"]
    assert counts["lost"] == numbers[-1] - numbers[0] + 1 - len(numbers)
    assert counts["gaps"] == (np.diff(numbers) > 1).sum()
    result = precode(channels(items), scheme="rzf").precoder.reshape(items, -1)
    np.testing.assert_allclose(got["precoders"], result[numbers % items], atol=1e-6)


@pytest.mark.parametrize("kind", ["push", "pub", "rep"])
def test_pdus_come_back_with_their_metadata(flowgraph: Flowgraph, kind: str) -> None:
    items, csi, precoders = 12, free_address(), free_address()
    with streaming("--csi", f"{INPUT_OF[kind]}:{csi},pdu", "--precoders", f"{OUTPUT_OF[kind]}:{precoders},pdu"):
        got = flowgraph("pdus", csi=csi, precoders=precoders, kind=kind, items=items, length=USERS * ANTENNAS)
    places = got["places"]
    assert len(places) >= items
    if kind != "pub":
        assert (places == np.arange(items)).all()
        assert (got["items"] == np.arange(items)).all()
    result = precode(channels(items), scheme="rzf", noise_power=0.1)
    np.testing.assert_allclose(got["precoders"], result.precoder.reshape(items, -1)[places], atol=1e-6)
    np.testing.assert_allclose(got["powers"], result.power[places], atol=1e-6)


EXAMPLE = Path(__file__).parents[4] / "examples" / "gnuradio"


def test_the_companion_flowgraph_embeds_the_blocks_of_the_python_one() -> None:
    graph = (EXAMPLE / "downlink.grc").read_text()
    for name in ("near_field_users", "transmission", "evm"):
        source = (EXAMPLE / f"{name}.py").read_text()
        embedded = "".join(f"      {line}" if line.strip() else line for line in source.splitlines(keepends=True))
        assert embedded in graph, f"{name}.py and the block of that name in downlink.grc differ"


def test_the_example_pairs_precoders_and_channels_by_number(flowgraph: Flowgraph) -> None:
    """Precoders are the channels here, so that those of the right number are the matched filters."""
    numbers = [0, 1, 5, 6, 7, 11]
    got = flowgraph("pairing", folder=str(EXAMPLE), numbers=numbers, items=12)
    assert len(got["received"]) == len(numbers)
    parts = np.random.default_rng(7).normal(size=(12, 8, 2)).astype(np.float32)
    h = parts.view(np.complex64)[..., 0].reshape(12, 2, 4)[numbers]
    parts = np.random.default_rng(7).normal(size=(12, 6, 2)).astype(np.float32)
    sent = parts.view(np.complex64)[..., 0].reshape(12, 2, 3)[: len(numbers)]
    gains = h.conj() @ h.transpose(0, 2, 1)
    own = np.diagonal(gains, axis1=1, axis2=2)[..., None]
    np.testing.assert_allclose(got["received"], gains @ sent / own, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("companion", [False, True], ids=["python", "grc"])
def test_the_example_improves_every_users_constellation(gnuradio: str, tmp_path: Path, companion: bool) -> None:
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    outputs = ["--csv", str(tmp_path / "evm.csv")]
    if companion:
        compiler = shutil.which("grcc")
        assert compiler is not None
        compile_ = [compiler, "-o", tmp_path, EXAMPLE / "downlink.grc"]
        subprocess.run(compile_, env=environment, capture_output=True, check=True, timeout=180)
        outputs += ["--picture", str(tmp_path / "seen.png")]
    flowgraph = str((tmp_path if companion else EXAMPLE) / "downlink.py")
    csi, precoders = free_address(), free_address()
    arguments = ("--users", 4, "--antennas", 128, "--scheme", "nflae", "--scaled", "--noise-dbw", -25, "--min-rate", 1)
    with streaming("--csi", f"pull:{csi},tags", "--precoders", f"push:{precoders},tags", *arguments):
        addresses = ["--csi-address", csi, "--precoder-address", precoders]
        command = [gnuradio, flowgraph, "--drops", "100", *addresses, *outputs]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "100 drops" in done.stdout
    table = np.loadtxt(tmp_path / "evm.csv", delimiter=",", skiprows=1)
    assert (table[:, 0] == [1, 2, 3, 4]).all()
    assert (table[:, 2] < 0.5 * table[:, 1]).all()
    assert not companion or (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
