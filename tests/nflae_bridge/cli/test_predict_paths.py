"""nflae predict --paths: Doppler shifts, delays and gains of channels that are sums of known paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import nflae_bridge
from tests.channel_files import Run, WriteMat, load

DOPPLER_HZ = np.array([[310.0, -140.0], [-420.0, 55.0]])  # (users, paths), the strongest first
DELAY_S = np.array([[0.2e-6, 1.5e-6], [4.0e-6, 0.9e-6]])
GAIN = np.array([[4.0, 0.5], [1e-9, 2e-10]])
SLOT_S, SUBCARRIER_HZ, ANTENNAS = 0.25e-3, 120e3, 8
AR = ("--method", "ar", "--ahead", 2)


def responses(slots: int, carriers: int = 1) -> npt.NDArray[np.complex128]:
    """Responses g from the antennas to the users, (slots, carriers, users, antennas): sums of two exponentials."""
    time, frequency = SLOT_S * np.arange(slots)[:, None, None, None], SUBCARRIER_HZ * np.arange(carriers)[:, None, None]
    waves = np.exp(2j * np.pi * (DOPPLER_HZ * time - DELAY_S * frequency))
    directions = np.exp(2j * np.pi * np.array([0.11, -0.27])[:, None] * np.arange(ANTENNAS))
    return np.asarray((waves * np.sqrt(GAIN)) @ directions)


def check(found: npt.NDArray[np.float64], true: npt.NDArray[np.float64], tolerance: float) -> None:
    """Compare paths x users, of which those after the second are NaN."""
    assert found.shape == (8, 2)
    np.testing.assert_allclose(found[:2].T, true, rtol=tolerance)
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("convention", ["hermitian", "direct"])
def test_doppler_shifts_in_hz_and_gains(nflae: Run, write_mat: WriteMat, tmp_path: Path, convention: str) -> None:
    stored, output = responses(20)[:, 0], tmp_path / "next.mat"
    h = stored.transpose(1, 2, 0) if convention == "direct" else stored.conj().transpose(2, 1, 0)
    options = ("--layout", "kns" if convention == "direct" else "nks", "--convention", convention)
    done = nflae("predict", write_mat(h=h), "-o", output, *AR, "--paths", "--slot-ms", 1e3 * SLOT_S, *options)
    assert done.exit_code == 0, done.output
    found = load(output)
    check(found["doppler_hz"], DOPPLER_HZ, 1e-3)
    check(found["path_gain"], GAIN, 1e-2)
    assert not {"doppler_cycles", "delay_s"} & set(found)


def test_delays_pair_with_doppler_shifts_in_every_slot(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    h = responses(12, 10).conj().transpose(3, 2, 1, 0)  # antennas, users, subcarriers, slots
    source, output = write_mat(h=h), tmp_path / "all.mat"
    options = ("--layout", "nkfs", "--paths", "--rolling", "--slot-ms", 1e3 * SLOT_S)
    done = nflae("predict", source, "-o", output, *AR, *options, "--subcarrier-khz", 120)
    assert done.exit_code == 0, done.output
    found = load(output)
    for slot in (4, 11):
        check(found["doppler_hz"][..., slot], DOPPLER_HZ, 1e-3)
        check(found["delay_s"][..., slot], DELAY_S, 1e-3)
        check(found["path_gain"][..., slot], GAIN, 1e-2)
    assert np.isnan(found["doppler_hz"][..., 0]).all(), "one snapshot has no Doppler shift"
    done = nflae("predict", source, "-o", output, *AR, *options)
    assert "no delays: their unit is the inverse subcarrier spacing, give --subcarrier-khz" in done.output
    assert "delay_s" not in load(output)


def test_without_slot_duration_in_cycles_per_snapshot(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    h, output = responses(20)[:, 0].conj(), tmp_path / "next.mat"
    done = nflae("predict", write_mat(h), "-o", output, *AR, "--paths", "--subcarrier-khz", 120)
    assert done.exit_code == 0, done.output
    check(load(output)["doppler_cycles"], DOPPLER_HZ * SLOT_S, 1e-3)
    assert "--subcarrier-khz is ignored: the file has no subcarriers" in done.stderr
    assert "doppler_hz" not in load(output)


def test_python_finds_the_same() -> None:
    h = responses(16)[:, 0].conj()
    found = nflae_bridge.predict(h, times=SLOT_S * np.arange(16), method="ar", ahead=2, paths=True)
    assert found.doppler_hz is not None
    assert found.path_gain is not None
    assert found.doppler_cycles is None
    check(found.doppler_hz.T, DOPPLER_HZ, 1e-3)
    check(found.path_gain.T, GAIN, 1e-2)
    cycles = nflae_bridge.predict(h, method="ar", ahead=2, paths=True).doppler_cycles
    assert cycles is not None
    check(cycles.T, DOPPLER_HZ * SLOT_S, 1e-3)
    assert nflae_bridge.predict(h, method="ar", ahead=2).path_gain is None


def test_what_paths_cannot_be_found_from_is_refused(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    h, output = responses(20)[:, 0].conj(), tmp_path / "next.mat"
    times = SLOT_S * (np.arange(20) + 0.2 * (np.arange(20) % 2))
    done = nflae("predict", write_mat(h, when=times), "-o", output, *AR, "--paths", "--times", "when")
    assert done.exit_code == 1
    assert "--paths needs evenly spaced snapshots, and the times are uneven" in done.stderr
    done = nflae("predict", write_mat(h), "-o", output, *AR, "--subcarrier-khz", 120)
    assert done.exit_code == 2
    assert "is for the delays of --paths" in " ".join(done.output.replace("│", " ").split())
