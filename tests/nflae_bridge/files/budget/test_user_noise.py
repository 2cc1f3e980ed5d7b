"""Noise powers per user and drop: the axes they may have, and the rates they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io import open_channels
from nflae_bridge.files.budget.user_noise import UserNoise, fit_user_noise
from tests.channel_files import Run, WriteMat, load, random_channels

Array = npt.NDArray[Any]


def fitted(path: Path, layout: str, numbers: Array) -> UserNoise | str:
    with open_channels(path, variable="G", layout=layout) as file:
        return fit_user_noise(file, np.atleast_2d(numbers))


def powers(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).uniform(0.01, 0.1, shape)


@pytest.mark.parametrize(
    ("layout", "stored", "given", "expected"),
    [  # sizes: n 8, k 3, s 5, f 4; expected: indices of the array as noise(user, subcarrier, drop)
        ("nks", (8, 3, 5), (3, 1), "k"),
        ("nks", (8, 3, 5), (1, 3), "k"),
        ("nks", (8, 3, 5), (1, 5), "s"),
        ("nks", (8, 3, 5), (5, 1), "s"),
        ("nks", (8, 3, 5), (3, 5), "ks"),
        ("skn", (5, 3, 8), (5, 3), "sk"),
        ("skn", (5, 3, 8), (3, 5), "ks"),
        ("nsk", (8, 5, 3), (5, 3), "sk"),
        ("nkfs", (8, 3, 4, 5), (3, 4, 5), "kfs"),
        ("nkfs", (8, 3, 4, 5), (1, 4), "f"),
        ("nkfs", (8, 3, 4, 5), (4, 5), "fs"),
        ("nkfs", (8, 3, 4, 5), (3, 4), "kf"),
        ("nkfs", (8, 3, 4, 5), (3, 5), "ks"),
        ("kn", (3, 8), (3, 1), "k"),
        ("ns", (8, 5), (1, 5), "s"),
    ],
)
def test_axes_of_noise_powers(
    write_mat: WriteMat, layout: str, stored: tuple[int, ...], given: tuple[int, ...], expected: str
) -> None:
    sizes = dict(zip(layout, stored, strict=True))
    numbers = powers(*given)
    noise = fitted(write_mat(G=np.ones(stored) * 1j), layout, numbers)
    assert isinstance(noise, UserNoise), noise
    squeezed = numbers.reshape([sizes[letter] for letter in expected])
    drop_letters = [letter for letter in layout if letter in "sf"]
    drops = np.prod([sizes[letter] for letter in drop_letters], initial=1)
    for drop in range(int(drops)):
        place = dict(
            zip(drop_letters, np.unravel_index(drop, [sizes[x] for x in drop_letters], order="F"), strict=True)
        )
        for user in range(sizes.get("k", 1)):
            place["k"] = np.intp(user)
            sigma2 = squeezed[tuple(place[letter] for letter in expected)]
            amplitude = np.broadcast_to(noise.amplitude(drop, drop + 1), (1, sizes.get("k", 1), 1))[0, user, 0]
            assert amplitude == pytest.approx(np.sqrt(noise.reference / sigma2), rel=1e-6)


@pytest.mark.parametrize(
    ("layout", "stored", "given", "expected"),
    [
        ("skn", (5, 3, 8), (3,), "k"),
        ("skn", (5, 3, 8), (5, 1), "s"),
        ("skn", (3, 3, 8), (3, 3), "sk"),  # the file's order and that of results
        ("skn", (5, 3, 8), (5, 3), "sk"),
        ("skfn", (5, 3, 4, 8), (5, 3, 4), "skf"),
        ("skfn", (5, 3, 4, 8), (5, 4, 3), "sfk"),
        ("skfn", (5, 3, 4, 8), (5, 4), "sf"),
    ],
)
def test_axes_of_row_major_files(
    tmp_path: Path, layout: str, stored: tuple[int, ...], given: tuple[int, ...], expected: str
) -> None:
    numbers, sizes = powers(*given), dict(zip(layout, stored, strict=True))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["G"], file["sigma2"] = np.ones(stored) * 1j, numbers
    with open_channels(tmp_path / "in.h5", variable="G", layout=layout, convention="direct") as channels:
        noise = fit_user_noise(channels, channels.budget["noise_power"].numbers)
    assert isinstance(noise, UserNoise), noise
    squeezed = numbers.reshape([sizes[letter] for letter in expected])
    drops, letters = channels.drop_axes, channels.drop_letters
    for drop in range(int(np.prod(drops))):
        place = dict(zip(letters, np.unravel_index(drop, drops, order="F"), strict=True))
        for user in range(sizes["k"]):
            place["k"] = np.intp(user)
            amplitude = np.broadcast_to(noise.amplitude(drop, drop + 1), (1, sizes["k"], 1))[0, user, 0]
            sigma2 = squeezed[tuple(place[letter] for letter in expected)]
            assert amplitude == pytest.approx(np.sqrt(noise.reference / sigma2), rel=1e-6)


@pytest.mark.parametrize(
    ("layout", "stored", "given", "words"),
    [
        ("nks", (8, 3, 3), (3, 1), "may count users or drops"),
        ("skn", (3, 3, 8), (3, 3), "may count users or drops"),
        ("nkfs", (8, 3, 4, 4), (1, 4), "may count users or drops"),
        (
            "nks",
            (8, 3, 5),
            (1, 7),
            "neither users nor drops; save 3 numbers, one per user, or 5, one per drop",
        ),
        ("nks", (8, 3, 5), (8, 1), "is 8 x 1, which fits neither"),
        ("nks", (8, 3, 5), (3, 5, 2), "is 3 x 5 x 2, which fits neither"),
    ],
)
def test_axes_that_fit_no_reading_or_two(
    write_mat: WriteMat, layout: str, stored: tuple[int, ...], given: tuple[int, ...], words: str
) -> None:
    found = fitted(write_mat(G=np.ones(stored) * 1j), layout, powers(*given))
    assert isinstance(found, str)
    assert words in found


def test_users_in_rows_of_a_square_file_are_the_results_order(write_mat: WriteMat) -> None:
    numbers = powers(3, 3)
    noise = fitted(write_mat(G=np.ones((8, 3, 3)) * 1j), "nks", numbers)
    assert isinstance(noise, UserNoise)
    np.testing.assert_array_equal(noise.power, numbers)


def rates_with(H: Array, result: dict[str, Any], noise: Array) -> Array:
    """Rates (users, drops) from y = H' x + n with noise (users, drops), from the precoders and powers alone."""
    drops, users, antennas = H.shape
    W = result["precoder"].reshape(antennas, users, drops, order="F").transpose(2, 1, 0)
    p = result["power"].reshape(users, drops, order="F").T
    received = np.abs(H.conj() @ W.swapaxes(1, 2)) ** 2 * p[:, None, :]
    wanted = np.diagonal(received, axis1=1, axis2=2)
    return np.log2(1 + wanted / (received.sum(-1) - wanted + noise.T)).T


@pytest.mark.parametrize("scheme", ["nflae", "rzf", "wmmse", "zf"])
@pytest.mark.parametrize("shape", [(3, 1), (1, 6), (3, 6)])
@pytest.mark.parametrize("batch", [4, 100])
def test_rates_are_those_of_every_users_noise(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, scheme: str, shape: tuple[int, int], batch: int
) -> None:
    H, noise, output = random_channels(), powers(*shape) ** 2, tmp_path / "out.mat"
    source = write_mat(H, noise_power_dbm=30 + 10 * np.log10(noise))
    options = ("--scheme", scheme, "--batch", batch, "--min-rate", 0.1, "--layout", "nks")
    done = nflae("precode", source, "-o", output, *options)
    assert done.exit_code == 0, done.output
    result = load(output)
    np.testing.assert_allclose(result["nflae_info"]["noise_power"] * np.ones((3, 6)), noise * np.ones((3, 6)))
    np.testing.assert_allclose(rates_with(H, result, noise * np.ones((3, 6))), result["rate"], atol=2e-5)
    assert "one per " in done.output
    snr = 10 * np.log10(np.median((np.abs(H) ** 2).sum(-1).T / noise))
    assert result["nflae_info"]["median_snr_db"] == pytest.approx(snr, abs=1e-3)
    assert f"{snr:.1f} dB for the median user" in done.output


def test_equal_noise_powers_are_one(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H, results = random_channels(), []
    for number, noise in enumerate((0.02, np.full((3, 1), 0.02))):
        output = tmp_path / f"{number}.mat"
        options = ("-o", output, "--scheme", "nflae", "--layout", "nks")
        assert nflae("precode", write_mat(H, noise_power=noise), *options).exit_code == 0
        results.append(load(output))
    np.testing.assert_allclose(results[0]["rate"], results[1]["rate"], rtol=1e-6)


def test_noise_per_subcarrier_in_a_v73_file_and_its_plot(nflae: Run, tmp_path: Path) -> None:
    H = random_channels(drops=20)  # 4 subcarriers x 5 drops
    noise, source, output = powers(4, 1), tmp_path / "in.mat", tmp_path / "out.mat"
    scipy.io.savemat(tmp_path / "v7.mat", {"H": H.reshape(5, 4, 3, 16).T, "sigma2": noise})
    source = tmp_path / "v7.mat"
    options = ("--layout", "nkfs", "--scheme", "rzf", "--mat-version", "7.3", "--plot", tmp_path / "p.png")
    done = nflae("precode", source, "-o", output, *options)
    assert done.exit_code == 0, done.output
    with h5py.File(output) as file:
        result = {name: file[name][()].T for name in ("power", "rate")}
        raw = file["precoder"][()].T
        info_noise = file["nflae_info/noise_power"][()].T
    result["precoder"] = raw["real"] + 1j * raw["imag"]
    assert info_noise.shape == (1, 4, 5)
    each = np.broadcast_to(noise.reshape(1, 4, 1), (3, 4, 5)).reshape(3, 20, order="F")
    np.testing.assert_allclose(rates_with(H, result, each), result["rate"].reshape(3, 20, order="F"), atol=2e-5)
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_noise_powers_that_fit_nothing_or_are_out_of_range(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    for noise, words in [
        (powers(1, 7), "in.mat: noise_power is 1 x 7, which fits neither users nor drops"),
        (np.array([[0.1], [0.0], [0.1]]), "in.mat: noise_power: noise_power must be positive"),
    ]:
        source = write_mat(random_channels(), noise_power=noise)
        arguments = ("-o", tmp_path / "out.mat", "--scheme", "rzf", "--layout", "nks")
        done = nflae("precode", source, *arguments)
        assert (done.exit_code, words in done.stderr) == (1, True), done.stderr
        assert nflae("precode", source, *arguments, "--noise-dbw", -20).exit_code == 0
