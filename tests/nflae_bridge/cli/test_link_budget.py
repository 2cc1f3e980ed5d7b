"""Link budgets at the command line: as people write them in files and options, and the SNR beside every answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.channel_files import Run, WriteMat, load, random_channels


def recomputed(H: np.ndarray, result: dict[str, Any], noise_power: float) -> np.ndarray:
    """Rates (users, drops) by y = H' x + n from precoders and powers alone."""
    drops, users, antennas = H.shape
    W = result["precoder"].reshape(antennas, users, drops, order="F").transpose(2, 1, 0)
    p = result["power"].reshape(users, drops, order="F").T
    received = np.abs(H.astype(complex).conj() @ W.swapaxes(1, 2)) ** 2 * p[:, None, :]
    wanted = np.diagonal(received, axis1=1, axis2=2)
    return np.asarray(np.log2(1 + wanted / (received.sum(-1) - wanted + noise_power)).T)


# Variables as in scripts of massive MIMO, the 5G Toolbox and link-budget sheets, beside channels of 1e-5.
AS_WRITTEN = [
    ({"noise_power_dbm": -94.0}, 1.0, 10**-12.4),
    ({"N0_dBm": -94.0, "Ptx_dBm": 33.0}, 10**0.3, 10**-12.4),
    ({"sigma2": 1e-12, "Pt": 2.0}, 2.0, 1e-12),
    ({"nVar": 2e-12}, 1.0, 2e-12),
    ({"noise_std": 1e-6}, 1.0, 1e-12),
    ({"NF": 9.0, "bandwidth": 20e6, "txPower_dBm": 23.0}, 10**-0.7, 1.380649e-23 * 290 * 20e6 * 10**0.9),
]


@pytest.mark.parametrize(("variables", "power", "noise_power"), AS_WRITTEN)
@pytest.mark.parametrize("scheme", ["rzf", "nflae"])
def test_budgets_as_written_give_the_rates_they_state(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, variables: dict[str, float], power: float, noise_power: float,
    scheme: str,
) -> None:  # fmt: skip
    H, output = random_channels() * np.float32(1e-5), tmp_path / "out.mat"
    done = nflae("precode", write_mat(H, **variables), "-o", output, "--scheme", scheme, "--layout", "nks")
    assert done.exit_code == 0, done.output
    result = load(output)
    assert result["power"].sum(0).max() == pytest.approx(power, rel=1e-5)
    np.testing.assert_allclose(recomputed(H, result, noise_power), result["rate"], atol=1e-4)
    assert result["nflae_info"]["noise_power"] == pytest.approx(noise_power)
    assert result["sum_rate"].mean() > 1


@pytest.mark.parametrize(
    ("options", "power", "noise_power"),
    [
        (("--power-dbm", 33, "--noise-dbm", -94), 10**0.3, 10**-12.4),
        (("--noise-figure-db", 9, "--bandwidth-mhz", 20), 1.0, 1.380649e-23 * 290 * 20e6 * 10**0.9),
        (("--noise-figure-db", 0, "--bandwidth-mhz", 20, "--temperature", 300), 1.0, 1.380649e-23 * 300 * 20e6),
    ],
)
def test_options_in_dbm_and_of_thermal_noise(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, options: tuple[object, ...], power: float, noise_power: float
) -> None:
    H, output = random_channels() * np.float32(1e-5), tmp_path / "out.mat"
    done = nflae("precode", write_mat(H), "-o", output, "--scheme", "rzf", "--layout", "nks", *options)
    assert done.exit_code == 0, done.output
    info = load(output)["nflae_info"]
    assert (info["power"], info["noise_power"]) == pytest.approx((power, noise_power))


def test_scalars_of_an_hdf5_file_of_another_program(nflae: Run, tmp_path: Path) -> None:
    H, source = random_channels() * np.float32(1e-6), tmp_path / "in.h5"
    with h5py.File(source, "w") as file:
        file["H"], file["noise_power"], file["power"] = H, 1e-12, 2.0
    done = nflae("inspect", source, "--layout", "nks", "--convention", "hermitian")
    assert done.exit_code == 0
    assert "power = 2 W (3.01 dBW; in.h5: power)" in done.output
    assert "noise_power = 1e-12 W (-120 dBW; in.h5: noise_power)" in done.output


@pytest.mark.parametrize("command", ["precode", "evaluate"])
def test_a_default_noise_power_at_an_implausible_snr_stops(
    nflae: Run, write_mat: WriteMat, untrained: Path, tmp_path: Path, command: str
) -> None:
    H, output = random_channels() * np.float32(1e-5), tmp_path / "out.mat"
    source, snr_db = write_mat(H), 20 + 10 * np.log10(np.median((np.abs(H.astype(complex)) ** 2).sum(-1)))
    arguments: list[object] = [command, source, "--model", untrained, "--layout", "nks"]
    arguments += ["-o", output] if command == "precode" else ["--schemes", "rzf"]
    done = nflae(*arguments)
    assert done.exit_code == 1
    assert "nflae: error:" in done.stderr
    assert f"in.mat: H: the SNR of the median user is {snr_db:.1f} dB" in done.stderr
    for option in ("--noise-dbm", "--snr-db", "--noise-figure-db", "--yes"):
        assert option in done.stderr
    assert not output.exists()
    for options in (("--yes",), ("--noise-dbw", -120), ("--snr-db", 10)):
        again = nflae(*arguments, *options)
        assert again.exit_code == 0, again.output
        assert "dB for the median user" in again.stdout


def test_the_snr_is_in_the_answer_and_in_inspect(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H, output = random_channels(), tmp_path / "out.mat"
    source = write_mat(H, noise_power=0.05)
    expected = 10 * np.log10(np.median((np.abs(H) ** 2).sum(-1)) / 0.05)
    done = nflae("precode", source, "-o", output, "--scheme", "rzf", "--layout", "nks")
    assert f"SNR                {expected:.1f} dB for the median user, P ||h||^2 / sigma^2" in done.output
    assert load(output)["nflae_info"]["median_snr_db"] == pytest.approx(expected, abs=1e-4)
    assert f"{expected:.1f} dB for the median user" in nflae("inspect", source, "--layout", "nks").output


def test_inspect_names_what_cannot_be_used(nflae: Run, write_mat: WriteMat) -> None:
    done = nflae("inspect", write_mat(random_channels(), snr=20.0), "--layout", "nks")
    assert done.exit_code == 0
    assert "not usable:" in done.output
    assert "pass --snr-db 20 if in dB" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--power-dbw", 0, "--power-dbm", 30), "--power-dbw and --power-dbm state the same quantity"),
        (("--noise-dbw", 0, "--snr-db", 30), "--noise-dbw and --snr-db state the same quantity"),
        (("--noise-dbm", 0, "--noise-figure-db", 3), "--noise-dbm and --noise-figure-db state the same quantity"),
        (("--bandwidth-mhz", 0), "--bandwidth-mhz 0: give a positive number"),
        (("--temperature", "inf"), "--temperature inf: give a positive number"),
        (("--power-scope", "half"), "is not one of 'each', 'equal', 'total'"),
    ],
)
def test_wrong_usage(nflae: Run, write_mat: WriteMat, options: tuple[object, ...], words: str) -> None:
    done = nflae("precode", write_mat(random_channels()), "-o", "out.mat", *options)
    assert (done.exit_code, words in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("scope", ["each", "equal"])
def test_power_of_subcarriers(nflae: Run, write_mat: WriteMat, tmp_path: Path, scope: str) -> None:
    H, output = random_channels(drops=10), tmp_path / "out.mat"
    source = write_mat(grid=H.reshape(2, 5, 3, 16).T, power=2.0, noise_power=0.01)
    options = ("--layout", "nkfs", "--scheme", "wmmse", "--power-scope", scope)
    done = nflae("precode", source, "-o", output, *options)
    assert done.exit_code == 0, done.output
    result = load(output)
    each = 2.0 if scope == "each" else 0.4
    np.testing.assert_allclose(result["power"].sum(0), each, rtol=1e-5)  # 5 x 2: every subcarrier of every drop
    np.testing.assert_allclose(recomputed(H, result, 0.01), result["rate"].reshape(3, 10, order="F"), atol=1e-4)
    info = result["nflae_info"]
    assert (info["power"], info["power_scope"], info["sum_rate_of"]) == (2.0, scope, "subcarrier")
    assert info["power_per_subcarrier"] == pytest.approx(each)
    words = "each with the whole P" if scope == "each" else "each with an equal share of P"
    assert f"bps/Hz per subcarrier, {words}; mean over 5 subcarriers and the drops" in done.output


def test_a_drop_is_no_subcarrier(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    output = tmp_path / "out.mat"
    done = nflae("precode", write_mat(random_channels()), "-o", output, "--scheme", "rzf", "--layout", "nks")
    assert "per subcarrier" not in done.output
    assert load(output)["nflae_info"]["sum_rate_of"] == "drop"


def test_evaluate_takes_a_noise_power_per_user_and_labels_its_sum_rates(
    nflae: Run, write_mat: WriteMat, untrained: Path, tmp_path: Path
) -> None:
    H, table = random_channels(drops=10), tmp_path / "t.csv"
    noise = np.array([[0.01], [0.02], [0.04]])
    source = write_mat(grid=H.reshape(2, 5, 3, 16).T, noise_var=noise)
    options = ("--layout", "nkfs", "--schemes", "mrt", "--model", untrained, "--csv", table)
    done = nflae("evaluate", source, *options)
    assert done.exit_code == 0, done.output
    gram = H.astype(complex).conj() @ H.astype(complex).swapaxes(1, 2)  # by hand: MRT with equal powers
    norms = np.linalg.norm(H, axis=-1)
    received = np.abs(gram / norms[:, None, :]) ** 2 / 3
    wanted = np.diagonal(received, axis1=1, axis2=2)
    rates = np.log2(1 + wanted / (received.sum(-1) - wanted + noise.T))
    row = next(line for line in table.read_text().splitlines() if line.startswith("mrt"))
    assert float(row.split(",")[1]) == pytest.approx(rates.sum(-1).mean(), rel=1e-4)
    assert "sum rate           in bps/Hz per subcarrier, each with the whole P" in done.output


def test_a_plot_of_a_drop_uses_its_users_noise(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H = random_channels(drops=2)
    source = write_mat(H, noise_power=np.array([[1e-4, 1.0]]))
    options = ("--scheme", "mrt", "--layout", "nks", "--plot", tmp_path / "p.svg", "--plot-drop", 2)
    done = nflae("precode", source, "-o", tmp_path / "out.mat", *options)
    assert done.exit_code == 0, done.output
    shown = load(tmp_path / "out.mat")["sum_rate"][0, 1]
    assert f"{shown:.2f} bps/Hz" in (tmp_path / "p.svg").read_text()


ADVICE = re.compile(r"(--[a-z-]+ -?[0-9.]+(?:e[+-]?[0-9]+)?)(?= |,|;|$)")


@pytest.mark.parametrize(
    "variables",
    [
        {"snr": 20.0},
        {"P": 30.0},
        {"sigma": 0.1},
        {"noise": 0.1},
        {"noise_power_dB": -20.0},
        {"Pt_dB": 3.0},
        {"Pt": 30.0},
        {"tx_power": -10.0},
        {"noise_power": -30.0},
        {"NF": 200.0, "bandwidth": 20.0},
        {"noise_power": 0.1, "snr_db": 20.0},
        {"NF": 180.0, "BW_MHz": 20.0, "sigma2": 0.1},
        {"cfg": {"noise_power": 0.01, "power": 2.0, "snr_db": 9.0}},
        {"power": 1.0, "power_dbm": 33.0, "cfg": {"noise_power": 0.1}},
    ],
)
def test_every_option_that_an_error_names_with_a_number_works(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, variables: dict[str, Any]
) -> None:
    source = write_mat(random_channels(), **variables)
    common = ("precode", source, "-o", tmp_path / "out.mat", "--scheme", "mrt", "--layout", "nks", "--yes")
    pending: list[tuple[str, ...]] = [()]
    answers = 0
    while pending:  # one error after the other, each reading that it names
        given = pending.pop()
        done = nflae(*common, *given)
        if done.exit_code == 0:
            answers += 1
            continue
        assert done.exit_code == 1, done.output
        advice = [tuple(each.split()) for each in ADVICE.findall(done.stderr)]
        if not advice:
            advice = [("--power-dbw", "0")]
            assert "pass --power-dbm or --power-dbw" in done.stderr
        assert len(given) < 6, done.stderr
        pending += [(*given, *each) for each in advice]
    assert answers >= 1
