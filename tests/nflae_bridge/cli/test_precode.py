"""nflae precode: the main job, from file to file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import check_constraints
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.schemes import scheme_names
from tests.channel_files import Run, WriteMat, load, random_channels


def recomputed_rates(H: np.ndarray, result: dict, noise_power: float) -> np.ndarray:
    """Rates (drops, users) of a result file by their definition; H (drops, users, antennas), hermitian."""
    users, antennas = H.shape[1:]
    precoder = result["precoder"].reshape(antennas, users, -1).T
    power = result["power"].reshape(users, -1).T
    sinr = achieved_sinr(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (H, precoder, power)), noise_power)
    return rates(sinr).numpy()


@pytest.mark.parametrize("scheme", ["nflae", *scheme_names()])
def test_every_scheme_precodes(nflae: Run, write_mat: WriteMat, untrained: Path, tmp_path: Path, scheme: str) -> None:
    H = random_channels()
    source, output = write_mat(H), tmp_path / "out.mat"
    model = ("--model", untrained) if scheme == "nflae" else ()
    done = nflae("precode", source, "-o", output, "--scheme", scheme, *model)
    assert done.exit_code == 0, done.output
    result = load(output)
    assert result["precoder"].shape == (16, 3, 6)
    assert result["precoder"].dtype == np.complex64
    for name in ("power", "lambda", "near_field_score", "sinr", "rate", "near_field"):
        assert result[name].shape == (3, 6), name
    for name in ("sum_rate", "feasible", "fallback"):
        assert result[name].shape == (1, 6), name
    info = result["nflae_info"]
    assert info["receiver"] == ("sic" if scheme == "noma" else "linear")
    assert ("(SIC)" in done.output) == (scheme == "noma")
    recomputed = recomputed_rates(H, result, 0.01)
    if scheme == "noma":  # what SIC cancels counts as interference in the formula
        assert (recomputed <= result["rate"].T + 1e-5).all()
    else:
        np.testing.assert_allclose(recomputed, result["rate"].T, atol=1e-5)
    np.testing.assert_allclose(result["rate"].sum(0), result["sum_rate"][0])
    assert (info["scheme"], info["layout"], info["convention"]) == (scheme, "nks", "hermitian")
    assert info["noise_power"] == pytest.approx(0.01)
    assert info.get("model", "") == ("untrained" if scheme == "nflae" else "")


def test_constraints_hold_as_asked(nflae: Run, write_mat: WriteMat, untrained: Path, tmp_path: Path) -> None:
    H = random_channels(drops=20, seed=3)
    output = tmp_path / "out.mat"
    limits = ("--alpha-c", 0.3, "--min-rate", 0.5, "--power-dbw", 3, "--noise-dbw", -17)
    done = nflae("precode", write_mat(H), "-o", output, "--model", untrained, *limits)
    assert done.exit_code == 0, done.output
    result = load(output)
    budget = LinkBudget(10**0.3, 10**-1.7, 0.3, 0.5)
    parts = (H, result["precoder"].T, result["power"].T, result["near_field"].T.astype(bool))
    check = check_constraints(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts), budget)
    for violation in (check.total_power, check.negative_power, check.near_share, check.beam_norm):
        assert float(violation.max()) < 1e-5
    assert float(check.min_rate[torch.from_numpy(result["feasible"][0].astype(bool))].max()) < 1e-5


@pytest.mark.parametrize(
    ("layout", "axes", "convention"),
    [
        ("nks", (2, 1, 0), "hermitian"),
        ("kns", (1, 2, 0), "direct"),
        ("skn", (0, 1, 2), "direct"),
        ("snk", (0, 2, 1), "hermitian"),
        ("nsk", (2, 0, 1), "hermitian"),
    ],
)
def test_every_layout_gives_the_same_answer(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, layout: str, axes: tuple[int, ...], convention: str
) -> None:
    H = random_channels()
    stored = H.transpose(axes) if convention == "hermitian" else H.conj().transpose(axes)
    output = tmp_path / "out.mat"
    done = nflae("precode", write_mat(h=stored), "-o", output, "--layout", layout, "--scheme", "wmmse")
    assert done.exit_code == 0, done.output
    assert f"layout {layout}, as given" in done.output
    result = load(output)
    assert result["nflae_info"]["convention"] == convention
    np.testing.assert_allclose(recomputed_rates(H, result, 0.01), result["rate"].T, atol=1e-5)


def test_direct_result_is_used_as_y_equals_H_x(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H = random_channels(drops=1)[0]  # rows to be read as h_k^H
    output = tmp_path / "out.mat"
    source = write_mat(H=None, H_est=H)
    assert nflae("precode", source, "-o", output, "--scheme", "zf").exit_code == 0
    received = np.abs(H @ load(output)["precoder"])
    assert np.abs(received - np.diag(np.diag(received))).max() < 1e-5  # zero forcing: no interference


def test_subcarriers_stay_an_axis_of_their_own(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H = random_channels(drops=10)
    output = tmp_path / "out.mat"
    source = write_mat(chan={"H": H.reshape(2, 5, 3, 16).T})  # N x K x F x S
    done = nflae("precode", source, "-o", output, "--var", "chan.H", "--layout", "nkfs", "--scheme", "rzf")
    assert done.exit_code == 0, done.output
    result = load(output)
    assert result["precoder"].shape == (16, 3, 5, 2)
    assert result["rate"].shape == (3, 5, 2)
    assert result["sum_rate"].shape == (1, 5, 2)
    rate = result["rate"].reshape(3, 10, order="F")
    flat = {"precoder": result["precoder"].reshape(16, 3, 10, order="F"),
            "power": result["power"].reshape(3, 10, order="F")}  # fmt: skip
    np.testing.assert_allclose(recomputed_rates(H, flat, 0.01), rate.T, atol=1e-5)


def test_a_two_dimensional_array_is_one_drop(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    output = tmp_path / "out.mat"
    assert nflae("precode", write_mat(random_channels(drops=1)[0]), "-o", output, "--scheme", "rzf").exit_code == 0
    assert load(output)["precoder"].shape == (16, 3)


def test_blocks_give_what_one_block_gives(nflae: Run, write_mat: WriteMat, untrained: Path, tmp_path: Path) -> None:
    source = write_mat(random_channels(drops=11))
    results = []
    for batch in (1, 4, 11):
        output = tmp_path / f"out{batch}.mat"
        arguments = ("--model", untrained, "--batch", batch, "--alpha-c", 0.5, "--min-rate", 0.2)
        assert nflae("precode", source, "-o", output, *arguments).exit_code == 0
        results.append(load(output))
    for other in results[:-1]:
        for name in ("precoder", "power", "rate", "near_field", "feasible"):
            np.testing.assert_allclose(other[name], results[-1][name], rtol=1e-4, atol=1e-5)


def test_budget_options_count_more_than_the_file_and_the_file_more_than_defaults(
    nflae: Run, write_mat: WriteMat, tmp_path: Path
) -> None:
    source = write_mat(random_channels(), noise_power=0.25, power_dbw=10.0, alpha_c=0.7)
    output = tmp_path / "out.mat"
    done = nflae("precode", source, "-o", output, "--scheme", "rzf", "--power-dbw", 3)
    assert done.exit_code == 0, done.output
    info = load(output)["nflae_info"]
    assert info["power"] == pytest.approx(10**0.3)
    assert (info["noise_power"], info["alpha_c"], info["min_rate"]) == (0.25, 0.7, 0.0)
    shown = [line for line in done.output.splitlines() if line.startswith("link budget")]
    assert "(3 dBW; --power-dbw)" in shown[0]
    assert "(-6.021 dBW; in.mat: noise_power)" in shown[1]
    assert "in.mat: alpha_c" in shown[2]
    assert "default" in shown[3]


@pytest.mark.parametrize("version", ["6", "7", "7.3"])
def test_result_has_the_inputs_version_unless_told(nflae: Run, tmp_path: Path, version: str) -> None:
    source, same, other = tmp_path / "in.mat", tmp_path / "same.mat", tmp_path / "other.mat"
    size = ("--drops", 4, "--users", 2, "--antennas", 8)
    assert nflae("simulate", "-o", source, *size, "--mat-version", version).exit_code == 0
    assert f"(version {version})" in nflae("precode", source, "-o", same, "--scheme", "rzf").output
    told = nflae("precode", source, "-o", other, "--scheme", "rzf", "--mat-version", "7")
    assert "(version 7)" in told.output
    assert load(other)["precoder"].shape == (8, 2, 4)


def test_an_output_that_exists_is_replaced(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    output = tmp_path / "out.mat"
    output.write_text("before")
    assert nflae("precode", write_mat(random_channels()), "-o", output, "--scheme", "mrt").exit_code == 0
    assert load(output)["nflae_info"]["scheme"] == "mrt"


def test_refinement_does_not_lower_the_sum_rate(
    nflae: Run, write_mat: WriteMat, untrained: Path, tmp_path: Path
) -> None:
    source = write_mat(random_channels(drops=10, users=6))
    rates_at = []
    for refine in (0, 3):
        output = tmp_path / f"r{refine}.mat"
        assert nflae("precode", source, "-o", output, "--model", untrained, "--refine", refine).exit_code == 0
        rates_at.append(load(output)["sum_rate"].mean())
    assert rates_at[1] > rates_at[0]


def test_real_channels_need_to_be_allowed(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    output = tmp_path / "out.mat"
    done = nflae("precode", write_mat(random_channels().real), "-o", output, "--scheme", "rzf", "--allow-real")
    assert done.exit_code == 0, done.output
    assert output.exists()


def test_skipped_drops_are_marked_and_the_others_unchanged(
    nflae: Run, write_mat: WriteMat, untrained: Path, tmp_path: Path
) -> None:
    clean = random_channels(drops=9)
    damaged = clean.copy()
    damaged[1, 2, 5] = np.nan
    damaged[4, 0, 0] = np.inf
    damaged[8, 1] = 0
    outputs = []
    for name, H in (("clean", clean), ("damaged", damaged)):
        output = tmp_path / f"{name}_out.mat"
        done = nflae("precode", write_mat(H, f"{name}.mat"), "-o", output, "--model", untrained, "--batch", 4,
                     "--on-bad-drop", "skip")  # fmt: skip
        assert done.exit_code == 0, done.output
        outputs.append(load(output))
    assert "3 bad drops" in done.output
    bad = [1, 4, 8]
    good = [drop for drop in range(9) if drop not in bad]
    for name in ("precoder", "power", "rate", "sinr", "sum_rate", "lambda", "near_field_score"):
        assert np.isnan(outputs[1][name][..., bad]).all(), name
        np.testing.assert_allclose(outputs[1][name][..., good], outputs[0][name][..., good], rtol=1e-4, atol=1e-5)
    for name in ("near_field", "feasible", "fallback"):
        assert not outputs[1][name][..., bad].any(), name


def test_a_file_of_bad_drops_alone_can_be_skipped_through(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    output, plot = tmp_path / "out.mat", tmp_path / "p.png"
    source = write_mat(np.full((3, 2, 8), np.nan + 0j))
    arguments = ("--scheme", "rzf", "--on-bad-drop", "skip", "--plot", plot)
    done = nflae("precode", source, "-o", output, *arguments)
    assert done.exit_code == 0, done.output
    assert np.isnan(load(output)["sum_rate"]).all()
    assert not plot.exists()
    assert "not drawn" in done.output


@pytest.mark.parametrize("extension", ["png", "pdf", "svg"])
def test_plot_is_drawn(nflae: Run, tmp_path: Path, extension: str) -> None:
    source, plot = tmp_path / "in.mat", tmp_path / f"users.{extension}"
    assert nflae("simulate", "-o", source, "--drops", 2, "--users", 3, "--antennas", 32).exit_code == 0
    arguments = ("--scheme", "rzf", "--plot", plot, "--plot-drop", 2)
    done = nflae("precode", source, "-o", tmp_path / "out.mat", *arguments)
    assert done.exit_code == 0, done.output
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[extension]
    assert plot.read_bytes().startswith(start)
    assert plot.stat().st_size > 5000


def test_the_input_is_never_changed(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(random_channels())
    before = source.read_bytes()
    nflae("precode", source, "-o", tmp_path / "out.mat", "--scheme", "rzf")
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mat", "out.mat"]


def test_version_4_comes_back_as_version_7(nflae: Run, tmp_path: Path) -> None:
    source, output = tmp_path / "in.mat", tmp_path / "out.mat"
    scipy.io.savemat(source, {"H": random_channels(drops=1)[0].T.astype(complex)}, format="4")
    done = nflae("precode", source, "-o", output, "--scheme", "rzf")
    assert done.exit_code == 0, done.output
    assert "version 7" in done.output
    assert load(output)["precoder"].shape == (16, 3)


@pytest.mark.parametrize(("options", "words"), [(("--refine", 3), "--refine"), (("--model", "tiny"), "--model")])
def test_options_of_the_network_are_usage_errors_with_another_scheme(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, options: tuple[str | int, ...], words: str
) -> None:
    command = ("precode", write_mat(random_channels()), "-o", tmp_path / "out.mat", *options)
    done = nflae(*command, "--scheme", "wmmse:iterations=5")
    assert done.exit_code == 2
    assert f"{words} applies to --scheme nflae only; leave it out with wmmse:iterations=5." in done.output
    assert not (tmp_path / "out.mat").exists()
    assert nflae(*command).exit_code == 0


@pytest.mark.parametrize("scheme", ["nflae", "mrt"])
def test_every_block_is_computed_alike(nflae: Run, write_mat: WriteMat, tmp_path: Path, scheme: str) -> None:
    channels = random_channels(drops=5, antennas=32)
    source, output = write_mat(np.concatenate([channels, channels])), tmp_path / "out.mat"
    assert nflae("precode", source, "-o", output, "--batch", 5, "--scheme", scheme).exit_code == 0
    found = load(output)
    for name in ("power", "rate", "near_field_score"):
        np.testing.assert_array_equal(found[name][:, :5], found[name][:, 5:], err_msg=name)
