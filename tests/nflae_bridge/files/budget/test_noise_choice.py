"""The noise power as a level, as an SNR of the mean user, as thermal noise; the SNR of the median user."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matlab_io import open_channels
from matlab_io.errors import NflaeError
from nflae_bridge.files.budget import user_snr
from nflae_bridge.files.budget.choice import BudgetChoice, BudgetRequest, choose_budget
from simulator.downlink.budget import thermal_noise, watts_from_dbm
from tests.channel_files import WriteMat, random_channels


def choice_of(path: Path, layout: str = "nks", **options: Any) -> BudgetChoice:
    with open_channels(path, layout=layout) as file:
        return choose_budget(BudgetRequest(**options), file)


def gains(H: np.ndarray) -> np.ndarray:
    return np.asarray((np.abs(H.astype(complex)) ** 2).sum(-1))


def test_levels_in_dbm(write_mat: WriteMat) -> None:
    budget = choice_of(write_mat(random_channels()), power_dbm=33, noise_dbm=-94).link_budget()
    assert (budget.power, budget.noise_power) == (
        pytest.approx(1.99526, rel=1e-5),
        pytest.approx(3.98107e-13, rel=1e-5),
    )
    assert watts_from_dbm(-270) == pytest.approx(1e-30)
    for dbm in (-270.1, 330.1, math.nan):
        with pytest.raises(ValueError, match="a power in dBm must lie within -270 and 330"):
            watts_from_dbm(dbm)


@pytest.mark.parametrize("bytes_per_block", [1, 1 << 20])
def test_an_snr_is_that_of_the_mean_user(
    write_mat: WriteMat, monkeypatch: pytest.MonkeyPatch, bytes_per_block: int
) -> None:
    monkeypatch.setattr(user_snr, "_BLOCK_BYTES", bytes_per_block)
    H = random_channels() * np.arange(1, 7)[:, None, None]
    H[4, 1, 2] = np.nan
    mean = gains(np.delete(H, 4, axis=0)).mean()
    choice = choice_of(write_mat(H), snr_db=17.0, power_dbw=3.0)
    assert choice.noise_power.value == pytest.approx(10**0.3 * mean / 10**1.7, rel=1e-6)
    assert choice.noise_power.origin == "--snr-db 17 of the mean user"
    stated = choice_of(write_mat(H, SNRdB=17.0, power_dbm=33.0))
    assert stated.noise_power.value == pytest.approx(choice.noise_power.value)
    assert stated.noise_power.origin == "in.mat: SNRdB = 17 dB of the mean user"


def test_the_pass_over_the_file_shows_its_progress(write_mat: WriteMat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_snr, "_BLOCK_BYTES", 1)
    shown: list[object] = []

    @contextmanager
    def progress(what: str, total: int, unit: str) -> Iterator[Callable[[int, str], None]]:
        shown.append((what, total, unit))
        yield lambda done, note: shown.append(done)

    with open_channels(write_mat(random_channels())) as file:
        choose_budget(BudgetRequest(snr_db=3), file, progress)
    assert shown == [("mean gain", 6, "drops"), 1, 2, 3, 4, 5, 6]


def test_an_snr_without_channels_or_beyond_all_reason(write_mat: WriteMat) -> None:
    with pytest.raises(NflaeError, match="--snr-db 5: an SNR of the mean user needs a file of channels"):
        choose_budget(BudgetRequest(snr_db=5))
    for snr_db in (400.0, -400.0, 1e9, math.nan):
        with pytest.raises(NflaeError, match=r"--snr-db .*: noise_power must be positive.*SNR of the mean user in dB"):
            choice_of(write_mat(random_channels()), snr_db=snr_db)
    with pytest.raises(NflaeError, match="no drop is without NaN"):
        choice_of(write_mat(np.full((2, 3, 4), np.nan + 0j)), snr_db=5)


def test_thermal_noise(write_mat: WriteMat) -> None:
    assert 10 * math.log10(thermal_noise(1.0, 0.0)) == pytest.approx(-203.975, abs=1e-3)  # kT at 290 K, dBW per Hz
    assert thermal_noise(1e6, 1e9) == math.inf
    source = write_mat(random_channels())
    choice = choice_of(source, noise_figure_db=7, bandwidth_mhz=100)
    assert 10 * math.log10(choice.noise_power.value) + 30 == pytest.approx(-173.975 + 80 + 7, abs=1e-3)
    assert choice.noise_power.origin == "noise figure 7 dB, 100 MHz, 290 K"
    warm = choice_of(source, noise_figure_db=7, bandwidth_mhz=100, temperature=580)
    assert warm.noise_power.value == pytest.approx(2 * choice.noise_power.value)
    named = choice_of(write_mat(random_channels(), NF=7.0, bandwidth=100e6, temperature=580.0))
    assert named.noise_power.value == pytest.approx(warm.noise_power.value)
    mixed = choice_of(write_mat(random_channels(), NF=4.0, bandwidth=1e6), noise_figure_db=7)
    assert mixed.noise_power.value == pytest.approx(choice.noise_power.value / 100)
    other = choice_of(write_mat(random_channels(), NF=7.0), bandwidth_mhz=100)
    assert other.noise_power.value == pytest.approx(choice.noise_power.value)


@pytest.mark.parametrize(
    ("variables", "options", "words"),
    [
        ({}, {"noise_figure_db": 9}, "--noise-figure-db: a noise figure needs the noise bandwidth; pass --bandw"),
        ({"NF": 9.0}, {}, "in.mat: NF: a noise figure needs the noise bandwidth; pass --bandwidth-mhz"),
        ({"NF": 9.0, "BW": 100.0}, {}, "in.mat: BW = 100 may be in Hz or in MHz; pass --bandwidth-mhz 100 for MHz"),
        ({}, {"bandwidth_mhz": 20}, "--bandwidth-mhz 20: states no noise power without --noise-figure-db"),
        ({"noise_power": 0.1}, {"temperature": 300}, "--temperature 300: states no noise power without"),
        ({}, {"noise_dbm": 1, "temperature": 300}, "--temperature 300: --noise-dbm states the noise power without it"),
        ({}, {"snr_db": 1, "bandwidth_mhz": 20}, "--bandwidth-mhz 20: --snr-db states the noise power without it"),
        ({}, {"noise_figure_db": 1e9, "bandwidth_mhz": 1}, "noise figure 1e+09 dB, 1 MHz, 290 K: noise_power must be"),
        ({"noise_power": 0.1, "snr_db": 20.0}, {}, "noise_power and snr_db state the noise power in different ways;"
         " pass --noise-dbw -10 or --snr-db 20, or keep one"),
        ({"NF": 9.0, "BW_MHz": 100.0, "noise_dbm": -100.0}, {}, "noise_dbm and NF state the noise power in different"),
        ({"NF": 9.0, "BW_MHz": 100.0, "sigma2": 0.0}, {}, "sigma2 and NF state the noise power in different ways"),
        ({"snr": 20.0}, {}, "in.mat: snr = 20 may be linear or in dB; pass --snr-db 20"),
        ({"P": 30.0}, {}, "in.mat: P = 30 may be a power in W or in dBm, or no power at all"),
        ({"Pt": "30"}, {}, "in.mat: Pt (1 x 2 char) is not a real number; save a number, or pass --power-dbm"),
    ],
)  # fmt: skip
def test_what_states_no_usable_noise_power(
    write_mat: WriteMat, variables: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(NflaeError) as caught:
        choice_of(write_mat(random_channels(), **variables), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "option", [{"noise_dbw": -10}, {"noise_dbm": 20}, {"snr_db": 3}, {"noise_figure_db": 5, "bandwidth_mhz": 1}]
)
def test_any_option_settles_the_noise_power(write_mat: WriteMat, option: dict[str, float]) -> None:
    source = write_mat(random_channels(), noise_power="0.1", snr_db=20.0, sigma=3.0)
    assert not choice_of(source, **option).noise_power.is_default


def test_thermal_noise_and_a_noise_power_that_agree(write_mat: WriteMat) -> None:
    choice = choice_of(write_mat(random_channels(), NF=9.0, BW_MHz=100.0, noise_dbm=-84.98))
    assert choice.noise_power.origin == "in.mat: noise_dbm"
    assert choice_of(write_mat(random_channels(), bandwidth=20e6)).noise_power.is_default


def test_the_snr_of_the_median_user(write_mat: WriteMat, monkeypatch: pytest.MonkeyPatch) -> None:
    H = random_channels(drops=9) * np.arange(1, 10)[:, None, None]
    choice = choice_of(write_mat(H), power_dbw=3, noise_dbw=-17)
    assert choice.median_snr_db == pytest.approx(20 + 10 * np.log10(np.median(gains(H))), abs=1e-4)
    assert choice.snr_line(9) == f"{choice.median_snr_db:.1f} dB for the median user, P ||h||^2 / sigma^2"
    monkeypatch.setattr(user_snr, "_BLOCK_BYTES", 4 * 8 * 3 * 16)
    H[:4, 0, 0] = np.nan  # the first block has no good drop, the second five
    first = choice_of(write_mat(H), power_dbw=3, noise_dbw=-17)
    assert first.median_snr_db == pytest.approx(20 + 10 * np.log10(np.median(gains(H[4:8]))), abs=1e-4)
    assert first.snr_line(9).endswith("(of the first 8 of 9 drops)")
    bad = choice_of(write_mat(np.full((2, 3, 4), np.nan + 0j)))
    assert math.isnan(bad.median_snr_db)
    assert bad.snr_line(2) == "not known: no drop can be used"


@pytest.mark.parametrize(("db", "stops"), [(-20.2, True), (-19.8, False), (59.8, False), (60.2, True)])
def test_a_default_noise_power_stops_beyond_plausible_snrs(write_mat: WriteMat, db: float, stops: bool) -> None:
    H = random_channels(drops=1, users=1)
    H *= np.sqrt(0.01 * 10 ** (db / 10) / gains(H)[0, 0])
    choice = choice_of(write_mat(H))
    if stops:
        with pytest.raises(NflaeError, match=rf"^f.mat: the SNR of the median user is {db:.1f} dB with the default"):
            choice.check_snr("f.mat")
    else:
        choice.check_snr("f.mat")
    choice_of(write_mat(H, noise_power=0.01)).check_snr("f.mat")
    choice_of(write_mat(H), noise_dbw=-20).check_snr("f.mat")


def test_power_of_subcarriers(write_mat: WriteMat) -> None:
    source = write_mat(grid=random_channels(drops=12).reshape(3, 4, 3, 16).T, power=2.0)
    each, total = (choice_of(source, "nkfs", power_scope=scope) for scope in ("each", "equal"))
    assert (each.subcarriers, each.link_budget().power, total.link_budget().power) == (4, 2.0, 0.5)
    assert each.median_snr_db - total.median_snr_db == pytest.approx(10 * math.log10(4))
    assert each.lines()[0] == "power = 2 W (3.01 dBW; in.mat: power), on each of 4 subcarriers"
    assert total.lines()[0].endswith("in.mat: power), shared by the 4 subcarriers, 0.5 W each")
    assert each.sum_rate_scope == " per subcarrier, each with the whole P; mean over 4 subcarriers and the drops"
    assert "an equal share of P" in total.sum_rate_scope
    snr = choice_of(source, "nkfs", power_scope="equal", snr_db=10.0)
    mean = gains(random_channels(drops=12)).mean()
    assert snr.noise_power.value == pytest.approx(0.5 * mean / 10, rel=1e-6)
    with pytest.raises(NflaeError, match=r"grid: --power-scope equal needs a subcarrier axis; name it f in --layout"):
        choice_of(write_mat(grid=random_channels().T), "nks", power_scope="equal")
    as_simulated = write_mat(grid=random_channels(drops=12).T, subcarriers=4.0)
    with pytest.raises(
        NflaeError, match=r"4 subcarriers each, .*: save reshape\(grid, 16, 3, 4, \[\]\) with layout = 'nkfs'"
    ):
        choice_of(as_simulated, "nks", power_scope="total")
    with pytest.raises(NflaeError, match="name it f in --layout"):
        choice_of(write_mat(grid=random_channels(drops=12).T, subcarriers=5.0), "nks", power_scope="total")


@pytest.mark.parametrize(("few", "most"), [(1.0, 1e-5), (1.0, 1e5)])
def test_a_plausible_user_among_others_does_not_make_the_default_noise_plausible(few: float, most: float) -> None:
    channels = np.full((1, 3, 4), most, np.complex64)
    channels[0, 1] = few
    with pytest.raises(NflaeError, match="the SNR of the median user is"):
        user_snr.check_default_noise(channels, 1.0)
    channels[0, 2] = few
    user_snr.check_default_noise(channels, 1.0)
