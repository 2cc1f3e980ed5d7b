"""The SNRs that nflae link sweeps: those given, else around the link budget of the file."""

from __future__ import annotations

import numpy as np
import pytest

from matlab_io import open_channels
from matlab_io.errors import NflaeError
from nflae_bridge.cli.options.link import choose_link_budget, default_sweep, sweep_line
from nflae_bridge.files.budget.choice import BudgetRequest
from tests.channel_files import WriteMat, random_channels


def unit_channels(scale: float = 1.0) -> np.ndarray:
    """Channels of exactly ``scale`` as the norm of every user."""
    H = random_channels()
    return (scale * H / np.linalg.norm(H, axis=-1, keepdims=True)).astype(np.complex64)


def test_a_scenario_is_swept_around_10_dB() -> None:
    budget = choose_link_budget(BudgetRequest(), None, None)
    assert default_sweep(budget) == list(np.arange(-5, 25.1, 2.5))
    assert sweep_line(budget, [-5, 25]) == "P / sigma^2 swept from -5 to 25 dB"


def test_without_a_noise_power_the_median_user_is_swept_around_10_dB(write_mat: WriteMat) -> None:
    with open_channels(write_mat(unit_channels(1e-5))) as file:
        budget = choose_link_budget(BudgetRequest(), file, None)
    assert default_sweep(budget) == list(np.arange(95, 125.1, 2.5))
    assert sweep_line(budget, [95.0, 125.0]) == (
        "P / sigma^2 swept from 95 to 125 dB, -5.0 to 25.0 dB for the median user"
    )


def test_the_files_link_budget_is_the_centre(write_mat: WriteMat) -> None:
    with open_channels(write_mat(unit_channels(1e-5), noise_power_dbm=-94.0, power_dbm=33.0)) as file:
        budget = choose_link_budget(BudgetRequest(), file, None)
    sweep = default_sweep(budget)
    assert (sweep[0], sweep[-1], len(sweep)) == (112.0, 142.0, 13)
    assert sweep_line(budget, sweep) == (
        "P / sigma^2 swept from 112 to 142 dB, 12.0 to 42.0 dB for the median user (27.0 dB at the link budget above)"
    )


def test_options_count_more_than_the_file(write_mat: WriteMat) -> None:
    with open_channels(write_mat(unit_channels(), noise_power_dbm=-94.0)) as file:
        assert default_sweep(choose_link_budget(BudgetRequest(noise_dbw=-30), file, None))[6] == 30.0
    assert default_sweep(choose_link_budget(BudgetRequest(power_dbm=33, noise_dbm=30), None, None))[6] == 3.0


def test_given_snrs_replace_what_cannot_be_used(write_mat: WriteMat, capsys: pytest.CaptureFixture[str]) -> None:
    with open_channels(write_mat(unit_channels(), snr=20.0, alpha_c=0.5)) as file:
        with pytest.raises(NflaeError, match="snr = 20 may be linear or in dB; pass --snr-db 20"):
            choose_link_budget(BudgetRequest(), file, None)
        budget = choose_link_budget(BudgetRequest(), file, [20.0])
        with pytest.raises(NflaeError, match="--noise-dbw 400"):
            choose_link_budget(BudgetRequest(noise_dbw=400), file, [20.0])
    assert budget.alpha_c.value == 0.5
    assert sweep_line(budget, [20.0]).endswith("20.0 to 20.0 dB for the median user")
    assert "not needed here" in capsys.readouterr().err
    with (
        open_channels(write_mat(unit_channels(), snr=20.0, alpha_c=1.5)) as file,
        pytest.raises(NflaeError, match="alpha"),
    ):
        choose_link_budget(BudgetRequest(), file, [20.0])
