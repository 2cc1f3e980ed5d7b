"""The 5G Toolbox's path gains: files laid out as the manual of nrCDLChannel says (the toolbox itself was not run)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hdf5storage
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io.errors import NflaeError
from simulator.channels.sources import Request, channels, draw
from tests.octave_session import run_octave

Array = npt.NDArray[Any]
BAND = {"subcarriers": 3, "bandwidth": 30e6}
OFFSETS = np.array([-10e6, 0.0, 10e6])
SNAPSHOTS, PATHS, ANTENNAS = 4, 5, 6


def made_up(users: int = 2) -> tuple[Array, Array]:
    """Gains (users, snapshots, paths, transmit antennas, 1) and delays (users, paths)."""
    rng = np.random.default_rng(5)
    shape = (users, SNAPSHOTS, PATHS, ANTENNAS, 1)
    gains = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return gains, np.sort(rng.uniform(0, 1e-6, (users, PATHS)), axis=-1)


def expected(gains: Array, delays: Array, offsets: Array = OFFSETS) -> Array:
    """Drops (snapshots x subcarriers, the latter fastest), users, antennas, by definition."""
    turns = np.exp(-2j * np.pi * delays[:, :, None] * offsets)
    h = np.zeros((SNAPSHOTS, len(offsets), len(gains), ANTENNAS), complex)
    for user in range(len(gains)):
        for path in range(PATHS):
            h[:, :, user] += gains[user, :, path, None, :, 0] * turns[user, path][None, :, None]
    return h.conj().reshape(-1, len(gains), ANTENNAS)


def as_cells(gains: Array, delays: Array) -> dict[str, Any]:
    cells = [np.empty((1, len(gains)), object) for _ in range(2)]
    for user in range(len(gains)):
        cells[0][0, user], cells[1][0, user] = gains[user], delays[user][None]
    return {"pathGains": cells[0], "pathDelays": cells[1]}


def as_structs(gains: Array, delays: Array) -> dict[str, Any]:
    """Beside a struct array of gains the channels' info structs, whose PathDelays have the same index."""
    chan = np.empty((1, len(gains)), [("pathGains", object), ("sampleTimes", object)])
    info = np.empty((1, len(gains)), [("PathDelays", object), ("AveragePathGains", object)])
    for user in range(len(gains)):
        chan[0, user] = (gains[user], np.arange(SNAPSHOTS)[:, None] / 30.72e6)
        info[0, user] = (delays[user][None], np.zeros((1, PATHS)))
    return {"chan": chan, "info": info}


def as_fifth_axis(gains: Array, delays: Array) -> dict[str, Any]:
    return {"path_gains": gains.transpose(1, 2, 3, 4, 0), "path_delays": delays}


def as_cells_and_a_matrix(gains: Array, delays: Array) -> dict[str, Any]:
    return as_cells(gains, delays) | {"pathDelays": delays}


@pytest.mark.parametrize("lay_out", [as_cells, as_structs, as_fifth_axis, as_cells_and_a_matrix])
@pytest.mark.parametrize("version", ["7", "7.3"])
def test_every_layout(tmp_path: Path, lay_out: Callable[[Array, Array], dict[str, Any]], version: str) -> None:
    gains, delays = made_up()
    path = tmp_path / "gains.mat"
    if version == "7":
        scipy.io.savemat(path, lay_out(gains, delays))
    else:
        hdf5storage.savemat(str(path), lay_out(gains, delays), format="7.3")
    found = channels("matlab5g", file=path, **BAND)
    assert found.shape == (12, 2, 6)
    np.testing.assert_allclose(found, expected(gains, delays), atol=1e-5)
    np.testing.assert_allclose(channels("matlab5g", file=path), expected(gains, delays, np.zeros(1)), atol=1e-5)


def test_one_user_as_the_toolbox_returns_it(tmp_path: Path) -> None:
    """[snapshot, path, transmit antenna], the receive antenna dropped; delays shared, carrier known."""
    gains, delays = made_up(users=1)
    content = {"pathGains": gains[0, ..., 0], "pathDelays": delays, "cdl": {"CarrierFrequency": 3.5e9}}
    scipy.io.savemat(tmp_path / "gains.mat", content)
    found = channels("matlab5g", file=tmp_path / "gains.mat", **BAND)
    np.testing.assert_allclose(found, expected(gains, delays), atol=1e-5)
    assert draw("matlab5g", Request(file=tmp_path / "gains.mat")).metadata["carrier_hz"] == 3.5e9


def test_fourth_axis_counts_receive_antennas(tmp_path: Path) -> None:
    """Two users with two antennas, which share the delays: users 1 and 2 of the first, 3 and 4 of the second."""
    gains, delays = made_up(users=4)
    delays[1::2] = delays[::2]
    pairs = np.concatenate([gains[::2], gains[1::2]], -1)
    scipy.io.savemat(tmp_path / "gains.mat", as_cells(pairs, delays[::2]))
    found = channels("matlab5g", file=tmp_path / "gains.mat", receive_antennas="each", **BAND)
    np.testing.assert_allclose(found, expected(gains, delays), atol=1e-5)


def test_file_of_python(tmp_path: Path) -> None:
    """Row-major, the axes in the toolbox's order; the axis of one receive antenna kept."""
    gains, delays = made_up(users=1)
    np.savez(tmp_path / "gains.npz", pathGains=gains[0], pathDelays=delays)
    found = channels("matlab5g", file=tmp_path / "gains.npz", **BAND)
    np.testing.assert_allclose(found, expected(gains, delays), atol=1e-5)


@pytest.mark.octave
def test_written_by_octave(tmp_path: Path) -> None:
    gains, delays = made_up()
    scipy.io.savemat(tmp_path / "in.mat", {"g": gains.transpose(1, 2, 3, 4, 0), "d": delays})
    run_octave(
        "load in.mat; for k = 1:2, pathGains{k} = g(:, :, :, :, k); pathDelays{k} = d(k, :); end,"
        " save -v7 gains.mat pathGains pathDelays",
        tmp_path,
    )
    found = channels("matlab5g", file=tmp_path / "gains.mat", **BAND)
    np.testing.assert_allclose(found, expected(gains, delays), atol=1e-5)


def test_path_filters_are_the_channel(tmp_path: Path) -> None:
    """Filters that delay path l by l whole samples are those delays, and count more than pathDelays."""
    gains, _ = made_up()
    rate = 30.72e6
    content = as_cells(gains, np.zeros((2, PATHS)))
    content |= {"pathFilters": np.eye(7, PATHS), "sampleRate": rate}
    scipy.io.savemat(tmp_path / "gains.mat", content)
    delays = np.tile(np.arange(PATHS) / rate, (2, 1))
    found = channels("matlab5g", file=tmp_path / "gains.mat", **BAND)
    np.testing.assert_allclose(found, expected(gains, delays), atol=1e-5)


def without(name: str) -> dict[str, Any]:
    content = as_cells(*made_up())
    del content[name]
    return content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (without("pathGains"), "no field pathGains"),
        (without("pathDelays"), r"pathGains of \{1\} has neither pathDelays nor pathFilters"),
        (without("pathDelays") | {"pathDelays": np.ones((1, 3))}, "has 5 paths and pathDelays 3 numbers"),
        (as_cells(*made_up()) | {"pathFilters": np.ones((9, 3))}, "has 5 paths and pathFilters 3 columns"),
        (as_cells(*made_up()) | {"pathFilters": np.ones((9, 5))}, "pathFilters without a sampleRate"),
        (
            {"pathGains": np.ones((4, 5, 6, 2)) * 1j, "pathDelays": np.arange(5) * 1e-7},
            "2 receive antennas; add --receive-antennas each",
        ),
        ({"pathGains": np.ones((2, 2, 2, 1, 2, 2)) * 1j}, "has 6 axes, and 5 were expected"),
    ],
)
def test_what_a_file_lacks(tmp_path: Path, content: dict[str, Any], told: str) -> None:
    scipy.io.savemat(tmp_path / "gains.mat", content)
    with pytest.raises(NflaeError, match=told) as raised:
        channels("matlab5g", file=tmp_path / "gains.mat", **BAND)
    assert str(raised.value).startswith(str(tmp_path / "gains.mat"))
    assert "\n" not in str(raised.value)
