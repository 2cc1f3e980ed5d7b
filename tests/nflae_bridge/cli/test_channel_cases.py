"""Channel files of kinds that are easily misread: each is answered truly, or refused with what to type.

Arrays are recreated in the form that the named tool or report has them; none is copied. Where a case is answered, rates
recomputed from the array as it was saved equal `rate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from tests.channel_files import Run

Array = npt.NDArray[Any]
NOISE = 0.01


def c(*shape: int, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(32)


def cell(*arrays: Any) -> Array:
    out = np.empty((1, len(arrays)), object)
    for index, array in enumerate(arrays):
        out[0, index] = array
    return out


def structs(**fields: list[Any]) -> Array:
    out = np.empty((1, len(next(iter(fields.values())))), [(name, object) for name in fields])
    for name, values in fields.items():
        for index, value in enumerate(values):
            out[0, index][name] = value
    return out


@dataclass(frozen=True)
class Case:
    """A file, and what must happen: lines of the refusal, and options with which it is answered.

    `truth` is H of y = H x, (drops, users or receive antennas, antennas), in the order of the result's drops.
    """

    origin: str
    variables: dict[str, Any]
    refusal: tuple[str, ...] = ()
    options: str = ""
    truth: Array | None = None
    combined: bool = False
    write: Callable[[Path, dict[str, Any]], None] = field(default=lambda path, content: scipy.io.savemat(path, content))

    def __str__(self) -> str:
        return self.origin


def h5(path: Path, content: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            file[name] = value


def text(content: str | bytes) -> Callable[[Path, dict[str, Any]], None]:
    return lambda path, _: path.write_bytes(content if isinstance(content, bytes) else content.encode())


PAGES = c(1, 64, 4)  # y_k = H(:,:,k) x
CELLS = [c(1, 64, seed=k) for k in range(4)]
NKS = c(64, 4, 5)  # columns, y = H' x
TRUE_NKS = NKS.conj().transpose(2, 1, 0)
SKN = c(50, 4, 64)
GRID = c(72, 14, 2, 32)  # subcarriers x symbols x receive x transmit
RNFS = c(2, 64, 12, 5)
TRUE_GRID = GRID.transpose(1, 0, 2, 3).reshape(14 * 72, 2, 32)
TRUE_RNFS = RNFS.transpose(3, 2, 0, 1).reshape(60, 2, 64)
SIONNA = c(3, 2, 2, 1, 16, 4, 6)  # batch, rx, rx_ant, tx, tx_ant, symbol, subcarrier
EACH = "--receive-antennas each"
EIGEN = "--receive-antennas eigen"

CASES = [
    Case(
        "one page per user, y_k = H(:,:,k) x (MATLAB pages)",
        {"H": PAGES},
        ("--layout 1nk = 64 antennas x 4 users x 1 drop, users in rows, y = H x", "--layout 1ns"),
        "--layout 1nk",
        PAGES.transpose(0, 2, 1),
    ),
    Case(
        "one cell per user, a row each",
        {"Hc": cell(*CELLS)},
        ("--var 'Hc{:}'", "--var 'Hc{1}'"),
        "--var Hc{:}",
        np.concatenate(CELLS)[None],
    ),
    Case(
        "5G Toolbox: hest of nrPerfectChannelEstimate",
        {"hest": GRID},
        ("--layout fsrn = 32 antennas x 1 user with 2 receive antennas x 72 subcarriers x 14 drops",),
        f"--layout fsrn {EIGEN}",
        TRUE_GRID,
        combined=True,
    ),
    Case(
        "5G Toolbox: hest, each receive antenna a user",
        {"hest": GRID},
        ("--layout fsrn",),
        f"--layout fsrn {EACH}",
        TRUE_GRID,
    ),
    Case(
        "5G Toolbox: hest of one transmit antenna, 300 x 14 x 2, as its page prints",
        {"hest": c(300, 14, 2)},
        ("300 x 14 x 2 can be read in",),
    ),
    Case("5G Toolbox: hest of one transmit and one receive antenna", {"hest": c(612, 14)}, ("an OFDM grid of 612",)),
    Case("5G Toolbox: pathGains of nrCDLChannel", {"pathGains": c(3, 23, 8, 2)}, ("--source matlab5g:",)),
    Case(
        "QuaDRiGa: response, receive x transmit x carrier x snapshot, in a variable h",
        {"h": RNFS},
        ("--layout rnfs = 64 antennas x 1 user with 2 receive antennas x 12 subcarriers x 5 drops",),
        f"--layout rnfs {EIGEN}",
        TRUE_RNFS,
        combined=True,
    ),
    Case(
        "QuaDRiGa: fr of two receive antennas has known axes",
        {"fr": RNFS},
        ("2 receive antennas per user (layout rnfs)", "each (every antenna as a user), strongest", "eigen"),
        EIGEN,
        TRUE_RNFS,
        combined=True,
    ),
    Case("QuaDRiGa: fr of one receive antenna", {"fr": RNFS[:1]}, (), "", TRUE_RNFS[:, :1]),
    Case("QuaDRiGa: fr of one carrier, two receive antennas, is two axes", {"fr": c(2, 64)}, ("2 receive antennas",)),
    Case(
        "QuaDRiGa: mat_save",
        {"channel_00001_Coeffs": c(1, 64, 16), "channel_00001_Delays": np.ones((1, 64, 16)) * 1e-6},
        ("nflae simulate --source quadriga:", "-o channels.mat"),
    ),
    Case("QuaDRiGa: coeff in a struct", {"chan": {"coeff": c(1, 64, 8), "delay": np.ones((1, 64, 8))}}, ("quadriga:",)),
    Case(
        "DeepMIMO 2: DeepMIMO_dataset{1}.user{k}.channel",
        {"DeepMIMO_dataset": cell({"user": cell(*({"channel": c(1, 64, 4)} for _ in range(3)))})},
        ("nflae simulate --source deepmimo:",),
    ),
    Case(
        "DeepMIMO 3 and 4, Python: channel, users x receive x transmit x subcarriers, by savemat",
        {"channel": c(7, 2, 16, 4)},
        ("7 x 2 x 16 x 4 can be read in",),
        f"--layout krnf {EACH}",
        c(7, 2, 16, 4).transpose(3, 0, 1, 2).reshape(4, 14, 16),
    ),
    Case(
        "Sionna PHY: h_freq of seven axes, by savemat",
        {"h_freq": SIONNA},
        ("3 x 2 x 2 x 1 x 16 x 4 x 6 can be read in", "nflae inspect lists"),
        f"--layout skr1nsf {EACH}",
        SIONNA[:, :, :, 0].transpose(5, 4, 0, 1, 2, 3).reshape(72, 4, 16),
    ),
    Case(
        "Sionna RT: Paths.cfr, rx x rx_ant x tx x tx_ant x time x frequency",
        {"cfr": SIONNA[0]},
        ("can be read in",),
        f"--layout kr1nsf {EACH}",
        SIONNA[0, :, :, 0].transpose(4, 3, 0, 1, 2).reshape(24, 4, 16),
    ),
    Case(
        "Sionna: several transmitters serve together",
        {"h": c(4, 2, 8, 3)},
        ("can be read in",),
        "--layout knns",
        c(4, 2, 8, 3).transpose(3, 0, 2, 1).reshape(3, 4, 16),
    ),
    Case(
        "Sionna: impulse response a with delays tau",
        {"a": c(2, 2, 1, 1, 16, 9, 3), "tau": np.ones((2, 2, 1, 9))},
        ("nflae simulate --source sionna:",),
    ),
    Case("NYUSIM: H_ensemble, receive x transmit, of getLocalCIR", {"H_ensemble": c(4, 64)}, ("4 receive antennas",)),
    Case(
        "NYUSIM: H_ensemble combined",
        {"H_ensemble": c(4, 64)},
        ("--receive-antennas",),
        EIGEN,
        c(4, 64)[None],
        combined=True,
    ),
    Case(
        "Intel 5300 CSI Tool: csi of a packet, transmit x receive x tones, y = csi.' x",
        {"csi": c(3, 2, 30)},
        ("3 x 2 x 30 can be read in",),
        f"--layout nrf --convention direct {EACH}",
        c(3, 2, 30).transpose(2, 1, 0),
    ),
    Case(
        "Intel 5300 CSI Tool: cells are packets, never users of one array",
        {"csi_trace": cell(*({"csi": c(3, 2, 30, seed=k)} for k in range(4)))},
        ("--var 'csi_trace{:}.csi'",),
    ),
    Case(
        "WLAN Toolbox: chEst, subcarriers x streams x receive",
        {"chEst": c(52, 4, 2)},
        ("may be the WLAN Toolbox's estimate, --layout fnr", "--layout nks"),
        f"--layout fnr {EACH}",
        c(52, 4, 2).transpose(0, 2, 1),
    ),
    Case("FeitCSI: subcarriers x receive x transmit", {"csi": c(56, 2, 2)}, ("can be read in",)),
    Case(
        "real and imaginary part in the last axis",
        {"H": np.stack([NKS.real, NKS.imag], -1)},
        ("complex(H(:,:,:,1), H(:,:,:,2))", "--layout nksc"),
        "--layout nksc",
        TRUE_NKS,
    ),
    Case(
        "real and imaginary part in the first axis, as PyTorch data sets have them",
        {"H": np.stack([NKS.real, NKS.imag])},
        ("complex(H(1,:,:,:), H(2,:,:,:))", "--layout cnks"),
        "--layout cnks",
        TRUE_NKS,
    ),
    Case(
        "COST 2100 as CsiNet has it: real, 2 x 32 x 32 x drops",
        {"H": c(2, 32, 32, 9).real},
        ("is real", "name that axis c"),
    ),
    Case(
        "real and imaginary part in two variables",
        {"Hr": NKS.real, "Hi": NKS.imag},
        ("--var re:Hr,im:Hi",),
        "--var re:Hr,im:Hi --layout nks",
        TRUE_NKS,
    ),
    Case(
        "real and imaginary part in fields of a struct",
        {"H": {"real": NKS.real, "imag": NKS.imag}},
        ("--var re:H.real,im:H.imag",),
        "--var re:H.real,im:H.imag --layout nks",
        TRUE_NKS,
    ),
    Case(
        "amplitude and phase",
        {"amp": np.abs(NKS), "phase": np.angle(NKS)},
        ("--var abs:amp,angle:phase", "--var abs:amp,angle_deg:phase"),
        "--var abs:amp,angle:phase --layout nks",
        TRUE_NKS,
    ),
    Case("drops x antennas x users", {"H": c(100, 64, 4)}, ("--layout snk = 64 antennas x 4 users x 100 drops",)),
    Case(
        "drops x antennas x users, named",
        {"H": c(100, 64, 4)},
        ("--layout snk",),
        "--layout snk",
        c(100, 64, 4).conj().transpose(0, 2, 1),
    ),
    Case(
        "a numpy array (drops, users, antennas) by savemat",
        {"H": SKN},
        ("--layout skn = 64 antennas x 4 users x 50 drops, users in rows, y = H x",),
        "--layout skn",
        SKN,
    ),
    Case(
        "the same by h5py",
        {"H": SKN},
        ("row-major order (50 x 4 x 64", "likely skn = 64 antennas x 4 users x 50 drops", "--convention"),
        "--layout skn --convention direct",
        SKN,
        write=h5,
    ),
    Case(
        "h5py, with a text data set layout and convention",
        {"H": SKN, "layout": "skn", "convention": "direct"},
        (),
        "",
        SKN,
        write=h5,
    ),
    Case("h5py, two axes", {"H": c(4, 64)}, ("row-major order (4 x 64", "--convention"), write=h5),
    Case(
        "h5py, structure of two real data sets",
        {"H_real": SKN.real, "H_imag": SKN.imag},
        ("--var re:H_real,im:H_imag",),
        "--var re:H_real,im:H_imag --layout skn --convention direct",
        SKN,
        write=h5,
    ),
    Case(
        "a struct array of users",
        {"user": structs(h=CELLS, position=[np.zeros(3)] * 4)},
        ("--var 'user(:).h'",),
        "--var user(:).h",
        np.concatenate(CELLS)[None],
    ),
    Case(
        "numbered variables, a user each",
        {"h1": CELLS[0], "h2": CELLS[1], "h3": CELLS[2], "h4": CELLS[3]},
        ("several arrays could be the channel", "--var h1,h2,h3,h4"),
        "--var h1,h2,h3,h4",
        np.concatenate(CELLS)[None],
    ),
    Case(
        "one cell per drop",
        {"H": cell(*(NKS[:, :, s] for s in range(5)))},
        ("--var 'H{:}'",),
        "--var H{:} --layout nk",
        TRUE_NKS,
    ),
    Case(
        "one cell of several",
        {"H_total": cell(NKS, c(8, 2))},
        ("--var 'H_total{1}'",),
        "--var H_total{2}",
        c(8, 2).conj().T[None],
    ),
    Case(
        "a panel: rows x columns x users",
        {"H": c(8, 4, 3)},
        ("can be read in",),
        "--layout nnk",
        c(8, 4, 3).conj().transpose(2, 1, 0).reshape(1, 3, 32),
    ),
    Case(
        "subcarriers and drops",
        {"H": c(4, 64, 12, 5)},
        ("can be read in",),
        "--layout knfs",
        c(4, 64, 12, 5).transpose(3, 2, 0, 1).reshape(60, 4, 64),
    ),
    Case(
        "the file states its layout",
        {"H": c(100, 64, 4), "layout": "snk"},
        (),
        "",
        c(100, 64, 4).conj().transpose(0, 2, 1),
    ),
    Case(
        "the file states its layout and convention within the struct",
        {"data": {"H": NKS, "layout": "nks", "convention": "direct"}},
        (),
        "",
        NKS.transpose(2, 1, 0),
    ),
    Case("a layout that does not fit the array", {"H": NKS, "layout": "nk"}, ("layout 'nk' names 2 axes",)),
    Case("a convention that does not exist", {"H": NKS, "layout": "nks", "convention": "row"}, ("convention 'row'",)),
    Case("noise power in dBm", {"H": NKS * 1e-5, "noise_power_dbm": -94.0, "layout": "nks"}, (), "", TRUE_NKS * 1e-5),
    Case("Git LFS pointer", {}, ("git lfs pull",), write=text("version https://git-lfs.github.com/spec/v1\n")),
    Case("GitHub page in place of the file", {}, ("web page",), write=text("\n<!DOCTYPE html>\n<html>")),
    Case("table of text", {}, ("CSV",), write=text("0.1,0.2\n0.3,0.4\n")),
    Case(
        "Octave's default format", {}, ("text format; save it with save -v7",), write=text("# Created by Octave 7.3\n")
    ),
    Case("a file compressed twice", {}, ("gunzip",), write=text(b"\x1f\x8b\x08" + bytes(60))),
]


@pytest.mark.parametrize("case", [case for case in CASES if case.refusal], ids=str)
def test_what_nothing_states_is_refused_with_what_to_type(nflae: Run, tmp_path: Path, case: Case) -> None:
    source, output = tmp_path / "in.mat", tmp_path / "out.mat"
    case.write(source, case.variables)
    done = nflae("precode", source, "-o", output, "--scheme", "rzf")
    assert done.exit_code == 1, done.output
    assert not output.exists()
    message = done.stderr.strip()
    assert message.startswith(f"nflae: error: {source}: ")
    assert "\n" not in message
    for part in case.refusal:
        assert part in message
    assert nflae("inspect", source).exit_code == (0 if case.variables else 1)


@pytest.mark.parametrize("case", [case for case in CASES if case.truth is not None], ids=str)
def test_what_is_stated_is_answered_truly(nflae: Run, tmp_path: Path, case: Case) -> None:
    source = tmp_path / "in.mat"
    case.write(source, case.variables)
    noise = 10 ** ((-94.0 - 30) / 10) if "noise_power_dbm" in case.variables else NOISE
    budget = [] if noise != NOISE else ["--noise-dbw", "-20"]
    done = nflae("precode", source, "-o", tmp_path / "out.npz", "--scheme", "rzf", *case.options.split(), *budget)
    assert done.exit_code == 0, done.output
    assert "dB for the median user" in done.output
    with np.load(tmp_path / "out.npz") as arrays:
        result = {name: arrays[name] for name in arrays}
    rows = case.truth
    assert rows is not None
    drops, _, antennas = rows.shape
    power = result["power"].reshape(drops, -1)
    precoder = result["precoder"].reshape(drops, power.shape[1], antennas)
    if case.combined:
        rows = np.einsum("sr,srn->sn", result["receive_combiner"].reshape(drops, -1).conj(), rows)[:, None]
    arrived = np.abs(rows @ (precoder * np.sqrt(power)[..., None]).swapaxes(1, 2)) ** 2
    signal = np.einsum("skk->sk", arrived)
    rate = np.log2(1 + signal / (arrived.sum(-1) - signal + noise))
    np.testing.assert_allclose(result["rate"].reshape(drops, -1), rate, rtol=1e-3, atol=1e-3)
    assert result["rate"].mean() > 0.1


def test_an_implausible_snr_is_doubted_with_a_noise_power_too(nflae: Run, tmp_path: Path) -> None:
    """Channels of unit gain beside a noise power of kTB: 100 dB too much."""
    scipy.io.savemat(tmp_path / "in.mat", {"H": NKS, "layout": "nks", "noise_power": 1e-13})
    done = nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--scheme", "rzf")
    assert done.exit_code == 0
    assert "implausible, check the units" in done.output


@pytest.mark.parametrize("name", ["out.npy", "out.h5", "out.csv"])
def test_an_output_of_another_kind_is_refused(nflae: Run, tmp_path: Path, name: str) -> None:
    scipy.io.savemat(tmp_path / "in.mat", {"H": NKS, "layout": "nks"})
    done = nflae("precode", tmp_path / "in.mat", "-o", tmp_path / name, "--scheme", "rzf")
    assert done.exit_code == 1
    assert f"{tmp_path / name}: results are written as .mat or .npz" in done.stderr
    assert not (tmp_path / name).exists()
    assert nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "o.npz", "--mat-version", "7").exit_code == 2
