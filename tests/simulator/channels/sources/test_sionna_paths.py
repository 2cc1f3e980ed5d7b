"""Impulse responses of Sionna: against its own frequency responses, and in every form in which it returns them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io.errors import NflaeError
from simulator.channels.sources import channels

Array = npt.NDArray[Any]
BAND = {"subcarriers": 3, "bandwidth": 30e6}
OFFSETS = np.array([-10e6, 0.0, 10e6])
BATCH, USERS, ANTENNAS, PATHS, STEPS = 4, 3, 8, 5, 2


def save(path: Path, a: Array, tau: Array) -> Path:
    if path.suffix == ".npz":
        np.savez(path, a=a, tau=tau)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["a"], file["tau"] = a, tau
    else:
        scipy.io.savemat(path, {"a": a, "tau": tau})
    return path


def made_up(receive: int = 1, stations: int = 1, steps: int = STEPS) -> tuple[Array, Array]:
    """a (batch, users, receive, stations, antennas, paths, steps) and tau without the antenna and the time axes."""
    rng = np.random.default_rng(6)
    shape = (BATCH, USERS, receive, stations, ANTENNAS, PATHS, steps)
    a = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return a, rng.uniform(0, 1e-6, (BATCH, USERS, stations, PATHS))


def expected(a: Array, tau: Array, station: int = 0) -> Array:
    """h of y = h^H x, one receive antenna: drops (batch, steps, subcarriers, the latter fastest), users, antennas."""
    turns = np.exp(-2j * np.pi * tau[:, :, station, :, None] * OFFSETS)
    direct = np.einsum("bkapt,bkpf->btfka", a[:, :, 0, station], turns)
    return direct.conj().reshape(-1, USERS, ANTENNAS)


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
@pytest.mark.parametrize("per_antenna", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
def test_forms_of_sionna_phy(tmp_path: Path, suffix: str, per_antenna: bool, steps: int) -> None:
    a, tau = made_up(steps=steps)
    saved = np.broadcast_to(tau[:, :, None, :, None], a.shape[:-1]) if per_antenna else tau
    found = channels("sionna", file=save(tmp_path / f"cir{suffix}", a, saved), **BAND)
    np.testing.assert_allclose(found, expected(a, tau), atol=1e-5)


@pytest.mark.parametrize("suffix", [".mat", ".npz", ".h5"])
@pytest.mark.parametrize("per_antenna", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
def test_forms_of_sionna_rt(tmp_path: Path, suffix: str, per_antenna: bool, steps: int) -> None:
    """Without the batch axis; delays without the antenna axes for a synthetic array."""
    a, tau = made_up(steps=steps)
    saved = np.broadcast_to(tau[:, :, None, :, None], a.shape[:-1]) if per_antenna else tau
    path = save(tmp_path / f"cir{suffix}", a[0], saved[0])
    if steps == 1 and per_antenna and suffix == ".mat":  # without trailing axes: also a batch of single paths
        with pytest.raises(NflaeError, match=r"fit several readings; save them with numpy\.savez"):
            channels("sionna", file=path)
        return
    found = channels("sionna", file=path, **BAND)
    np.testing.assert_allclose(found, expected(a, tau)[: 3 * steps], atol=1e-5)


def test_base_stations_and_receive_antennas(tmp_path: Path) -> None:
    a, tau = made_up(receive=2, stations=2)
    path = save(tmp_path / "cir.mat", a, tau)
    with pytest.raises(NflaeError, match="2 base stations; add --base-station with a number from 1 to 2"):
        channels("sionna", file=path, receive_antennas="each")
    with pytest.raises(NflaeError, match="2 receive antennas; add --receive-antennas each"):
        channels("sionna", file=path, base_station=2)
    found = channels("sionna", file=path, base_station=2, receive_antennas="each", **BAND)
    assert found.shape == (24, 2 * USERS, ANTENNAS)
    np.testing.assert_allclose(found[:, ::2], expected(a, tau, station=1), atol=1e-5)


def test_sionnas_own_frequency_response(tmp_path: Path) -> None:
    pytest.importorskip("sionna")
    import torch
    from sionna.phy.channel import cir_to_ofdm_channel

    a, tau = made_up()
    theirs = cir_to_ofdm_channel(
        torch.from_numpy(OFFSETS).float(), torch.from_numpy(a).to(torch.complex64), torch.from_numpy(tau).float()
    ).numpy()  # batch, receivers, receive antennas, transmitters, antennas, steps, subcarriers
    h = theirs[:, :, 0, 0].conj().transpose(0, 3, 4, 1, 2).reshape(-1, USERS, ANTENNAS)
    found = channels("sionna", file=save(tmp_path / "cir.mat", a, tau), **BAND)
    np.testing.assert_allclose(found, h, atol=1e-3)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"tau": np.ones((3, 4))}, "no a; save the coefficients a and the delays tau"),
        ({"a": np.ones((3, 4)) * 1j}, "no tau; save"),
        ({"a": np.ones((3, 4)), "tau": np.ones((3, 4))}, "expected complex coefficients"),
        ({"a": np.ones((3, 1, 1, 8, 5, 2)) * 1j, "tau": np.ones((3, 1, 4))}, r"a 3 x 1 x 1 x 8 x 5 x 2 .* do not fit"),
    ],
)
def test_what_a_file_lacks(tmp_path: Path, content: dict[str, Array], told: str) -> None:
    scipy.io.savemat(tmp_path / "cir.mat", content)
    with pytest.raises(NflaeError, match=told):
        channels("sionna", file=tmp_path / "cir.mat")
