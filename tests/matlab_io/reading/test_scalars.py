"""The link budget found beside the channels: names, units, levels, and the reasons why a variable is not used."""

from __future__ import annotations

import math

import numpy as np
import pytest

from matlab_io.containers.variable import Variable
from matlab_io.reading.scalars import BudgetQuantity, budget_variables, link_budget


def found_beside(channel: str, notes: list[str] | None = None, **values: object) -> dict[str, BudgetQuantity]:
    """The budget of a file with these variables, ``__`` for the dot of a struct field; text becomes a char array."""
    contents = {name.replace("__", "."): value for name, value in values.items()}
    variables = []
    for name, value in contents.items():
        array = np.atleast_2d(np.asarray(value))
        kind = "char" if isinstance(value, str) else "double"
        variables.append(Variable(name, array.shape, kind, np.iscomplexobj(array)))
    target = Variable(channel, (8, 2), "double", True)
    beside = budget_variables(variables, target)
    read = lambda variable: np.atleast_2d(np.asarray(contents[variable.name], float))  # noqa: E731
    return link_budget(target, beside, read, [] if notes is None else notes)


def budget(channel: str, **values: object) -> dict[str, float]:
    found = found_beside(channel, **values)
    assert not [quantity.problem for quantity in found.values() if quantity.problem]
    return {name: quantity.value for name, quantity in found.items()}


def problem(channel: str, quantity: str, **values: object) -> str:
    return found_beside(channel, **values)[quantity].problem


@pytest.mark.parametrize(
    ("name", "value", "quantity", "expected"),
    [
        ("power", 2.0, "power", 2.0),
        ("power_dbw", 3.0, "power", 1.99526),
        ("Power_dBm", 30.0, "power", 1.0),
        ("powerdBm", 33.0, "power", 1.99526),
        ("Pt", 2.0, "power", 2.0),  # scripts on massive MIMO
        ("P_t", 0.5, "power", 0.5),
        ("Ptx", 0.1, "power", 0.1),
        ("P_tx", 1.0, "power", 1.0),
        ("P_tx_dBm", 46.0, "power", 39.8107),
        ("tx_power", 4.0, "power", 4.0),
        ("txPower_dBm", 20.0, "power", 0.1),
        ("tx_power_mW", 200.0, "power", 0.2),
        ("P_dBm", 0.0, "power", 1e-3),
        ("PmW", 5.0, "power", 5e-3),
        ("Pmax", 1.0, "power", 1.0),
        ("P_max_dBW", 10.0, "power", 10.0),
        ("P_total", 3.0, "power", 3.0),
        ("noise_power", 0.01, "noise_power", 0.01),
        ("noise_power_dBW", -30.0, "noise_power", 1e-3),
        ("noise_power_dbm", -94.0, "noise_power", 3.98107e-13),
        ("noise_dbm", -90.0, "noise_power", 1e-12),
        ("noise_dBW", -20.0, "noise_power", 0.01),
        ("NoisePower", 0.5, "noise_power", 0.5),  # comm.AWGNChannel's `Variance`, spelled out
        ("noise_var", 0.2, "noise_power", 0.2),
        ("noiseVariance", 0.2, "noise_power", 0.2),
        ("nVar", 0.1, "noise_power", 0.1),  # 5G Toolbox, nrPDSCHDecode
        ("noiseEst", 0.1, "noise_power", 0.1),  # 5G Toolbox, nrChannelEstimate
        ("N0", 0.02, "noise_power", 0.02),
        ("N0_dBm", -100.0, "noise_power", 1e-13),
        ("sigma2", 0.03, "noise_power", 0.03),
        ("sigma_2", 0.03, "noise_power", 0.03),
        ("sigma2_n", 0.03, "noise_power", 0.03),
        ("sigma_sq", 0.03, "noise_power", 0.03),
        ("noise_std", 0.1, "noise_power", 0.01),
        ("noise_floor_dBm", -100.0, "noise_power", 1e-13),
        ("snr_db", 15.0, "snr_db", 15.0),
        ("SNRdB", -3.0, "snr_db", -3.0),
        ("snr_linear", 100.0, "snr_db", 20.0),
        ("NF", 9.0, "noise_figure_db", 9.0),
        ("noise_figure", 7.0, "noise_figure_db", 7.0),
        ("noiseFigure_dB", 5.0, "noise_figure_db", 5.0),
        ("bandwidth", 20e6, "bandwidth", 20e6),
        ("BW_MHz", 100.0, "bandwidth", 100e6),
        ("bandwidth_kHz", 180.0, "bandwidth", 180e3),
        ("bandwidthGHz", 0.4, "bandwidth", 400e6),
        ("temperature", 300.0, "temperature", 300.0),
        ("noise_temperature", 75.0, "temperature", 75.0),
        ("temperature_K", 20.0, "temperature", 20.0),
        ("sigma2", 6e-17, "noise_power", 6e-17),  # kTB of 15 kHz
        ("N0", 1e-16, "noise_power", 1e-16),
        ("noise_power", 1e-20, "noise_power", 1e-20),
        ("Pt", 9.9, "power", 9.9),
        ("power", 46.0, "power", 46.0),
        ("alpha_c", 0.4, "alpha_c", 0.4),
        ("min_rate", 0.6, "min_rate", 0.6),
        ("R_min", 0.6, "min_rate", 0.6),
    ],
)
def test_names_and_units(name: str, value: float, quantity: str, expected: float) -> None:
    assert budget("H", **{name: value}) == {quantity: pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize("name", ["Nf", "nf", "N", "noisy", "csi_snr_db", "no", "power_scope", "sinr", "Hpower", "fs"])
def test_names_that_state_no_budget(name: str) -> None:
    assert budget("H", **{name: 12.0}) == {}


@pytest.mark.parametrize(
    ("name", "value", "quantity", "remedy"),
    [
        ("snr", 20.0, "noise_power", "pass --snr-db 20 if in dB or --snr-db 13.0103 if linear"),
        ("SNR", -5.0, "noise_power", "pass --snr-db -5 if in dB"),
        ("snr", 0.0, "noise_power", "pass --snr-db 0 if in dB"),
        ("P", 30.0, "power", "pass --power-dbw 14.7712 if in W or --power-dbm 30 if in dBm"),
        ("EbN0", 5.0, "noise_power", "pass --noise-dbm, --noise-dbw or --snr-db"),
        ("EsNo_dB", 5.0, "noise_power", "which depends on the code"),
        ("sigma", 0.1, "noise_power", "--noise-dbw -20 if a standard deviation or --noise-dbw -10 if a variance"),
        ("noise", 0.1, "noise_power", "pass --noise-dbw -10 if in W or --noise-dbw 0.1 if in dBW or --noise-dbm 0.1"),
        ("noise_power_dB", -94.0, "noise_power", "--noise-dbw -94 if over 1 W or --noise-dbm -94 if over 1 mW"),
        ("Pt_dB", 10.0, "power", "--power-dbw 10 if over 1 W or --power-dbm 10 if over 1 mW"),
        ("EIRP", 50.0, "power", "pass --power-dbm or --power-dbw"),
        ("N0_dBm_Hz", -174.0, "noise_power", "a density per Hz"),
        ("N0", -174.0, "noise_power", "is a density in dBm/Hz"),
        ("N0", 4e-21, "noise_power", "may be a density in W/Hz"),
        ("Pt", 46.0, "power", "pass --power-dbm 46 for dBm, or --power-dbw 16.63 for W"),
        ("tx_power", -10.0, "power", "if it is in dBm, pass --power-dbm -10"),
        ("noise_power", -94.0, "noise_power", "if it is in dBm, pass --noise-dbm -94"),
        ("bandwidth", 100.0, "bandwidth", "pass --bandwidth-mhz 100 for MHz"),
        ("BW", 9e4, "bandwidth", "may be in Hz or in MHz"),
        ("temperature", 20.0, "temperature", "pass --temperature 293.15 for Celsius"),
        ("N0", 9e-17, "noise_power", "may be a density in W/Hz"),
        ("Pt", 10.0, "power", "may be in W or in dBm"),
        ("power", "30 dBm", "power", "is not a real number; save a number, or pass --power-dbm"),
        ("noise_power", "-94", "noise_power", "is not a real number"),
        ("noise_power", 0.01 + 0j, "noise_power", "is not a real number"),
        ("power", [[1.0, 2.0]], "power", r"power (1 x 2 double) is not one number"),
        ("snr_db", [[0.0, 5.0, 10.0]], "snr_db", "is not one number; save one, or pass --snr-db"),
        ("noise_power", math.nan, "noise_power", "expected finite numbers"),
        ("noise_power", [[0.1], [math.inf]], "noise_power", "noise_power = inf: expected finite numbers"),
        ("power_dbw", 1e5, "power", "power_dbw = 100000: expected finite numbers"),
        ("snr_linear", 0.0, "snr_db", "expected finite numbers"),
    ],
)
def test_what_cannot_be_used_has_its_remedy(name: str, value: object, quantity: str, remedy: str) -> None:
    text = problem("H", quantity, **{name: value})
    assert text.startswith(name)
    assert remedy in text


def test_a_noise_power_per_user_is_kept_whole() -> None:
    found = found_beside("H", noise_dbm=[[0.0], [10.0], [20.0]])["noise_power"]
    assert not found.problem
    np.testing.assert_allclose(found.numbers, [[1e-3], [1e-2], [1e-1]])


def test_ambiguous_names_count_only_where_nothing_else_states_the_quantity() -> None:
    assert budget("H", snr=20.0, noise_power=0.1, P=4.0, power=2.0) == {"noise_power": 0.1, "power": 2.0}
    assert "snr" in problem("H", "noise_power", snr=20.0, power=1.0)
    assert set(budget("H", sigma=1.0, NF=9.0, bandwidth=1e6)) == {"noise_figure_db", "bandwidth"}


def test_ambiguous_names_of_arrays_are_other_things() -> None:
    assert budget("H", P=[[1.0, 2.0]], noise=[[0.1, 0.2]], sigma=[[1.0, 2.0]]) == {}


def test_of_two_that_agree_the_linear_one_counts() -> None:
    assert budget("H", power=0.5, power_dbw=-3.01) == {"power": 0.5}
    assert budget("H", power_dbw=-3.01, power=0.5) == {"power": 0.5}
    assert budget("H", sigma2=0.1, noise_dbw=-10.0) == {"noise_power": 0.1}


def test_of_two_the_usable_one_counts() -> None:
    assert budget("H", power="30 dBm", power_dbm=30.0) == {"power": pytest.approx(1.0)}
    assert budget("H", power_dbm=30.0, power="30 dBm") == {"power": pytest.approx(1.0)}


def test_a_contradiction_has_its_remedy() -> None:
    text = problem("H", "power", power=1.0, power_dbw=10.0)
    assert text.startswith(
        "power and power_dbw contradict each other (1 W and 10 W); keep one of them, or pass --power"
    )


def test_the_channels_own_struct_counts_more_than_the_top_level() -> None:
    assert budget("c.H", power=1.0, c__power=2.0, alpha_c=0.5) == {"power": 2.0, "alpha_c": 0.5}
    assert budget("a.b.H", a__power=3.0, power=1.0) == {"power": 3.0}


def test_other_structs_are_named_not_used() -> None:
    text = problem("H", "noise_power", params__noise_power=1e-12)
    assert text == "params.noise_power = 1e-12 is in another struct than H; pass --noise-dbw -120 to use it"
    assert "pass --power-dbw 3 to use it" in problem("a.H", "power", b__P_dBm=33.0)
    assert "pass --snr-db 7 to use it" in problem("H", "snr_db", cfg__SNRdB=7.0)
    assert "pass --noise-figure-db 9 to use it" in problem("H", "noise_figure_db", cfg__NF=9.0)
    assert "pass --power-dbm or --power-dbw to use it" in problem("H", "power", cfg__power=-1.0)
    assert budget("H", params__noise_power=1e-12, noise_power=0.1) == {"noise_power": 0.1}
    assert budget("H", params__power=[[1.0, 2.0]], other__P=3.0, result__bandwidth=1.0) == {}


@pytest.mark.parametrize(
    ("channel", "values", "note"),
    [
        ("H", {"snr": 3.0, "noise_power": 0.1}, "snr is not used: noise_power states the same"),
        ("H", {"sigma": 3.0, "NF": 9.0}, "sigma is not used: NF states the same"),
        ("H", {"P": 3.0, "power_dbw": 0.0}, "P is not used: power_dbw states the same"),
        ("H", {"power": "1 W", "Pt_dbm": 30.0}, "power is not used: Pt_dbm states the same"),
        ("H", {"cfg__noise_dbm": 3.0, "snr_db": 9.0}, "cfg.noise_dbm is not used: snr_db states the same"),
        ("c.H", {"c__power": 3.0, "power": 9.0}, "power is not used: c.power states the same"),
    ],
)
def test_what_gives_way_is_said(channel: str, values: dict[str, object], note: str) -> None:
    notes: list[str] = []
    found_beside(channel, notes, **values)
    assert notes == [note]


def test_the_channels_are_no_part_of_the_budget() -> None:
    assert budget("noise_power") == {}
    variables = [Variable("noise_power", (8, 2), "double", True)]
    assert budget_variables(variables, variables[0]) == []
