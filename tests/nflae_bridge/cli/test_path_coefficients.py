"""Path coefficients of other tools: refused by precode, with a command line that reads them when typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io import open_channels
from tests.conftest import Run

Array = npt.NDArray[Any]
_rng = np.random.default_rng(8)


def _random(*shape: int) -> Array:
    return _rng.standard_normal(shape) + 1j * _rng.standard_normal(shape)


def _cell(elements: Sequence[Any]) -> Array:
    cell = np.empty((1, len(elements)), object)
    for index, element in enumerate(elements):
        cell[0, index] = element
    return cell


def _structs(elements: Sequence[dict[str, Any]]) -> Array:
    array = np.empty((1, len(elements)), [(name, object) for name in elements[0]])
    for index, element in enumerate(elements):
        array[0, index] = tuple(element.values())
    return array


COEFF = [_random(1, 16, 5, 3) for _ in range(2)]
DELAY = [_rng.random((1, 16, 5, 3)) * 1e-6 for _ in range(2)]
PATHS = [{"coeff": c, "delay": d} for c, d in zip(COEFF, DELAY, strict=True)]
GAINS = [_random(3, 5, 16) for _ in range(2)]
SEEN = [{"channel": c} for c in (_random(1, 16, 4), _random(1, 16, 4))]

# The form in which a tool's documentation saves its paths, and the drops, users and antennas in it.
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "qd_channel.mat_save": (
        {f"channel_{k + 1:05}_Coeffs": COEFF[k] for k in range(2)}
        | {f"channel_{k + 1:05}_Delays": DELAY[k] for k in range(2)}
        | {"ChannelDims": np.array([[2, 1, 1, 1]])},
        "quadriga",
    ),
    "properties of one qd_channel": (PATHS[0], "quadriga"),
    "struct of one qd_channel": ({"c": PATHS[0]}, "quadriga"),
    "struct array of qd_channels": ({"c": _structs(PATHS)}, "quadriga"),
    "cell of structs of qd_channels": ({"c": _cell(PATHS)}, "quadriga"),
    "cells of coefficients": ({"coeff": _cell(COEFF), "delay": _cell(DELAY)}, "quadriga"),
    "output of nrCDLChannel": ({"pathGains": GAINS[0], "pathDelays": np.arange(5) * 1e-7}, "matlab5g"),
    "pathGains beside waveforms": ({"pathGains": GAINS[0], "txWaveform": _random(50, 16)}, "matlab5g"),
    "path_gains per user": ({"path_gains": _cell(GAINS)}, "matlab5g"),
    "struct of path gains": ({"out": {"PathGains": GAINS[0]}}, "matlab5g"),
    "DeepMIMO_dataset of MATLAB": ({"DeepMIMO_dataset": _cell([{"user": _cell(SEEN)}])}, "deepmimo"),
    "cir of Sionna RT": ({"a": _random(2, 1, 1, 16, 5, 3), "tau": _rng.random((2, 1, 5)) * 1e-6}, "sionna"),
    "cir of Sionna PHY": ({"a": _random(4, 2, 1, 1, 16, 5, 1), "tau": _rng.random((4, 2, 1, 5)) * 1e-6}, "sionna"),
    "DeepMIMO dataset of one user": ({"deepmimo": {"user": _cell(SEEN[:1])}}, "deepmimo"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_command_line_in_the_refusal_reads_them(
    nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    content, source = FORMS[form]
    folder = tmp_path / "two words"  # the line quotes the path
    folder.mkdir()
    scipy.io.savemat(folder / "in.mat", content)
    refused = nflae("precode", folder / "in.mat", "-o", tmp_path / "out.mat", "--scheme", "rzf")
    assert refused.exit_code == 1
    assert "is not taken as a channel" in refused.stderr
    assert refused.stderr.count("\n") == 1
    line = re.search(r"type: (nflae .*? -o channels\.mat)", refused.stderr)
    assert line is not None
    program, *arguments = shlex.split(line[1])
    assert (program, arguments[:3]) == ("nflae", ["simulate", "--source", f"{source}:{folder / 'in.mat'}"])
    monkeypatch.chdir(tmp_path)
    typed = nflae(*arguments)
    assert typed.exit_code == 0, typed.output
    with open_channels(tmp_path / "channels.mat") as channels:
        assert channels.antennas == 16
    assert nflae("precode", "channels.mat", "-o", "out.mat", "--scheme", "rzf").exit_code == 0


RECORDED = Path(__file__).parents[2] / "simulator" / "channels" / "sources" / "recorded"


@pytest.mark.parametrize(
    ("file", "read", "chosen"),
    [
        ("quadriga_mat_save.mat", "quadriga:", []),
        ("quadriga_users.mat", "quadriga:", []),
        ("quadriga_shared_delays.mat", "quadriga:", []),
        ("quadriga_two_receive.mat", "quadriga:", ["--receive-antennas", "strongest"]),
        ("places_v3/BS1_UE_0-4.mat", "deepmimo:", ["--base-station", "1"]),
        ("places_v2/places_v2.1.CIR.mat", "deepmimo:", ["--base-station", "1"]),
    ],
)
def test_files_that_quadriga_and_deepmimo_wrote(
    nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, read: str, chosen: list[str]
) -> None:
    """The line works as typed, with the base station that its own message names where there are several."""
    refused = nflae("precode", RECORDED / file, "-o", tmp_path / "out.mat", "--scheme", "rzf")
    assert refused.exit_code == 1
    line = re.search(r"type: (nflae .*? -o channels\.mat( --receive-antennas strongest)?)", refused.stderr)
    assert line is not None
    arguments = shlex.split(line[1])[1:]
    path = RECORDED / file if read == "quadriga:" else (RECORDED / file).parent
    assert arguments[:3] == ["simulate", "--source", f"{read}{path}"]
    monkeypatch.chdir(tmp_path)
    if "--base-station" in chosen:
        several = nflae(*arguments)
        assert several.exit_code == 1
        assert "holds channels of 2 base stations; add --base-station with a number from 1 to 2" in several.stderr
        arguments += chosen
    assert arguments[-len(chosen) :] == chosen or not chosen
    typed = nflae(*arguments)
    assert typed.exit_code == 0, typed.output
    if "--receive-antennas" in chosen:  # receive antennas x users x snapshots
        assert scipy.io.loadmat("channels.mat")["receive_combiner"].shape == (2, 1, 3)
        assert "2 receive antennas: strongest" in typed.output
    assert nflae("precode", "channels.mat", "-o", "out.mat", "--scheme", "rzf").exit_code == 0


def test_real_channels_beside_positions_are_no_scenario(nflae: Run, tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "in.mat", {"H": np.ones((16, 4)), "rx_locs": np.ones((4, 3))})
    refused = nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat")
    assert "H (16 x 4 double) is real" in refused.stderr


def test_several_receive_antennas_of_path_gains(nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default receive array of nrCDLChannel has two antennas."""
    scipy.io.savemat(tmp_path / "in.mat", {"pathGains": _random(3, 5, 16, 2)})
    refused = nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat")
    assert refused.stderr.count("-o channels.mat --receive-antennas strongest (or each, or eigen)") == 1


@pytest.mark.parametrize("name", ["cir", "CIR", "h_cir", "impulseResponse", "taps"])
def test_impulse_responses_are_refused(nflae: Run, tmp_path: Path, name: str) -> None:
    scipy.io.savemat(tmp_path / "in.mat", {name: _random(16, 4, 30)})
    refused = nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--scheme", "rzf")
    assert refused.exit_code == 1
    assert re.search(rf"{name} .* is not taken as a channel: .*H = fft\(.*--var {name}", refused.stderr)


def test_paths_of_nyusim_are_refused(nflae: Run, tmp_path: Path) -> None:
    """CIR_MIMO_Struct.CIR_MIMO_1.H is a cell with a matrix per path; H_ensemble is their sum."""
    paths = [_random(2, 16) for _ in range(3)]
    user = {"H": _cell(paths), "HSmallScale": _random(3, 2), "H_ensemble": sum(paths)}
    scipy.io.savemat(tmp_path / "in.mat", {"CIR_MIMO_Struct": {"CIR_MIMO_1": user}})
    refused = nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--scheme", "rzf")
    assert refused.exit_code == 1
    assert re.search(r"CIR_MIMO_1\.H .*of NYUSIM's paths; their sum H_ensemble .* pass --var", refused.stderr)


@pytest.mark.parametrize("name", ["coefficients", "mycoeff_H", "pathGainsTable", "circle", "user_channel"])
def test_similar_names_are_no_path_coefficients(nflae: Run, tmp_path: Path, name: str) -> None:
    scipy.io.savemat(tmp_path / "in.mat", {name: _random(16, 4)})
    assert nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--scheme", "rzf").exit_code == 0


def test_a_channel_beside_path_coefficients_is_taken(nflae: Run, tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "in.mat", {"coeff": COEFF[0], "H": _random(16, 4)})
    assert nflae("precode", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--scheme", "rzf").exit_code == 0
