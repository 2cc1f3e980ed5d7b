"""The precoding problems of `nflae precode`: options in, variables of the result file out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.channel_files import Run, WriteMat, load, random_channels


def test_weights_of_a_variable_and_of_numbers(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H, output = random_channels(drops=5), tmp_path / "out.mat"
    weights = np.array([[8.0, 1, 1], [1, 8, 1], [1, 1, 8], [1, 1, 1], [0, 1, 1]])
    source = write_mat(grid=H.T, noise_power=0.1, a=weights.T)
    rates = {}
    for name, given in (("plain", ()), ("variable", ("--weights", "a")), ("numbers", ("--weights", "8,1,1"))):
        done = nflae("precode", source, "-o", output, "--layout", "nks", "--scheme", "wmmse", "--batch", 2, *given)
        assert done.exit_code == 0, done.output
        rates[name] = load(output)["rate"].T
    assert ((weights * rates["variable"]).sum(1) >= (weights * rates["plain"]).sum(1) * (1 - 1e-4)).all()
    assert rates["variable"][4, 0] == pytest.approx(0, abs=1e-6)  # of the drop's own weights, in the third block
    np.testing.assert_allclose(rates["numbers"][0], rates["variable"][0], rtol=1e-4)
    assert load(output)["nflae_info"]["weights"].ravel().tolist() == [8, 1, 1]


def test_one_power_over_subcarriers(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H, output = random_channels(drops=10), tmp_path / "out.mat"
    H = H * np.tile([1.0, 0.1, 0.5, 1.0, 0.2], 2).reshape(10, 1, 1)
    source = write_mat(grid=H.reshape(2, 5, 3, 16).T, power=2.0, noise_power=0.1)
    sums = {}
    for scope in ("equal", "total"):
        options = ("--layout", "nkfs", "--scheme", "wmmse", "--power-scope", scope, "--batch", 3)
        done = nflae("precode", source, "-o", output, *options)
        assert done.exit_code == 0, done.output
        result = load(output)
        np.testing.assert_allclose(result["power"].sum((0, 1)), 2.0, rtol=1e-5)
        sums[scope] = result["sum_rate"].reshape(5, 2).sum(0)
    assert (sums["total"] > sums["equal"] * 1.01).all()
    assert result["nflae_info"]["power_scope"] == "total"


def test_a_hybrid_array_and_joint_receivers(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    output = tmp_path / "out.mat"
    source = write_mat(grid=random_channels(drops=4).T, noise_power=0.1)
    done = nflae("precode", source, "-o", output, "--layout", "nks", "--scheme", "rzf", "--rf-chains", 4)
    assert done.exit_code == 0, done.output
    result = load(output)
    assert result["analog"].shape == (16, 4, 4)
    formed = np.einsum("ncs,cks->nks", result["analog"], result["digital"])
    np.testing.assert_allclose(formed, result["precoder"], atol=1e-5)

    H = (rng.normal(size=(4, 3, 2, 16)) + 1j * rng.normal(size=(4, 3, 2, 16))).astype(np.complex64)
    source = write_mat(grid=H.T, noise_power=0.1)
    joint = ("--layout", "nrks", "--receive-antennas", "joint", "--scheme", "bd")
    done = nflae("precode", source, "-o", output, *joint)
    assert done.exit_code == 0, done.output
    result = load(output)
    assert result["precoder"].shape == (16, 2, 3, 4)
    assert result["receive_combiner"].shape == (2, 2, 3, 4)
    assert result["rate"].shape == (2, 3, 4)
    np.testing.assert_allclose(result["rate"].sum((0, 1)), result["sum_rate"].ravel(), rtol=1e-6)


@pytest.mark.parametrize("suffix", ["mat", "npz"])
def test_noise_powers_and_weights_in_a_result_expand_to_its_rates(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, suffix: str
) -> None:
    rng, output = np.random.default_rng(1), tmp_path / f"out.{suffix}"

    def info(**options: object) -> tuple[dict[str, Any], tuple[int, ...]]:
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        done = nflae("precode", source, "-o", output, "--scheme", "rzf", *words)
        assert done.exit_code == 0, done.output
        if suffix == "mat":
            result = load(output)
            return result["nflae_info"], result["rate"].shape
        with np.load(output) as arrays:
            return json.loads(str(arrays["nflae_info"])), arrays["rate"].T.shape

    H = (rng.normal(size=(3, 2, 3, 16)) + 1j * rng.normal(size=(3, 2, 3, 16))).astype(np.complex64)
    noise, weights = 0.1 + rng.random((3, 2, 3)), 1 + rng.random((6, 3))
    source = write_mat(grid=H.T, noise_power=noise.T, a=weights.T)
    found, shape = info(layout="nkfs", weights="a")
    assert shape == (3, 2, 3)
    kept = {name: np.array(found[name]) if suffix == "mat" else np.array(found[name]).T for name in found}
    np.testing.assert_allclose(kept["noise_power"], noise.T)
    np.testing.assert_allclose(kept["weights"], weights.reshape(3, 2, 3).T)

    joint = (rng.normal(size=(4, 3, 3, 16)) + 1j * rng.normal(size=(4, 3, 3, 16))).astype(np.complex64)
    source = write_mat(grid=joint.T, noise_power=[[0.1], [0.2], [0.3]])
    found, shape = info(layout="nrks", receive_antennas="joint")
    assert shape == (3, 3, 4)  # as many streams as users
    per_user = np.array(found["noise_power"]) if suffix == "mat" else np.array(found["noise_power"]).T
    assert per_user.shape[:2] == (1, 3)
    np.testing.assert_allclose(per_user.ravel(), [0.1, 0.2, 0.3])


def test_limits_of_antennas_alone_set_the_power_of_the_report_and_of_the_snr(
    nflae: Run, write_mat: WriteMat, tmp_path: Path
) -> None:
    H, output = random_channels(drops=4), tmp_path / "out.mat"
    source = write_mat(grid=H.T)
    limits = ("--power-per-antenna", 0.02, "--snr-db", 10)
    done = nflae("precode", source, "-o", output, "--layout", "nks", *limits)
    assert done.exit_code == 0, done.output
    assert "power = 0.32 W (-4.949 dBW; default: 16 antennas of at most 0.02 W)" in done.stdout
    result = load(output)
    assert result["nflae_info"]["power"] == pytest.approx(0.32)
    gain = (np.abs(H) ** 2).sum(-1).mean()
    assert result["nflae_info"]["noise_power"] == pytest.approx(0.32 * gain / 10, rel=1e-5)
    assert result["power"].sum(0).max() <= 0.32 * (1 + 1e-5)
    done = nflae("precode", source, "-o", output, "--layout", "nks", *limits, "--power-dbw", -20)
    assert "power = 0.01 W (-20 dBW; --power-dbw)" in done.stdout, done.output


def test_limits_of_antennas_of_a_variable(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    """Limits that differ by a factor of 10: each antenna is within its own, in the order of a panel's antennas."""
    H, output = random_channels(drops=4), tmp_path / "out.mat"
    limits = np.linspace(0.01, 0.1, 16)
    panel = limits.reshape(4, 4, order="F")
    source = write_mat(grid=H.T.reshape(4, 4, 3, 4, order="F"), cap=panel, noise_power=0.01)
    done = nflae("precode", source, "-o", output, "--layout", "nnks", "--power-per-antenna", "cap")
    assert done.exit_code == 0, done.output
    assert "default: 16 antennas of at most 0.1 W" in done.stdout
    result = load(output)
    assert result["nflae_info"]["power"] == pytest.approx(limits.sum())
    np.testing.assert_allclose(result["nflae_info"]["power_per_antenna"].ravel(), limits)
    weighted = result["precoder"].reshape(16, 3, 4, order="F") * np.sqrt(result["power"])
    used = (np.abs(weighted) ** 2).sum(1)
    assert (used <= limits[:, None] * (1 + 1e-5)).all()
    assert (used.max(1) > 0.5 * limits).all()
    numbers = ",".join(f"{value:.17g}" for value in limits)
    done = nflae("precode", source, "-o", output, "--layout", "nnks", "--power-per-antenna", numbers)
    np.testing.assert_array_equal(load(output)["precoder"], result["precoder"])


def test_the_report_names_what_a_problem_falls_back_to(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(grid=random_channels(drops=4).T, noise_power=0.1)
    exact = ("--layout", "nks", "--objective", "max-min")
    done = nflae("precode", source, "-o", tmp_path / "out.mat", *exact)
    assert "nflae, an exact algorithm without a network" in done.stdout, done.output
    assert "fallback" not in done.stdout + nflae("evaluate", source, *exact).stdout
    done = nflae("precode", source, "-o", tmp_path / "out.mat", "--layout", "nks", "--weights", "1,2,3")
    assert "fallback  " in done.stdout
    assert "fallback to RZF" not in done.stdout
    crowded = write_mat(grid=random_channels(drops=4)[..., :3].T, noise_power=0.1)
    assert "RZF is that of selected users" in nflae("evaluate", crowded, "--layout", "nks").stdout


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--weights", "1,-1,1"), 1, "weights must be finite and not negative; value 2 is -1"),
        (("--weights", "1,1"), 1, "weights must hold one value for each of the 3 users"),
        (("--weights", "missing"), 1, "no variable missing; pass --weights"),
        (
            ("--power-per-antenna", "negative"),
            1,
            "in.mat: negative must be positive and finite, W; value 3 is -1; corre",
        ),
        (("--power-per-antenna", "missing"), 1, "no variable missing; pass --power-per-antenna with such an array, or"),
        (("--power-per-antenna", "short"), 1, "short is 1 x 15; expected a limit per antenna, 16 x 1; pass"),
        (("--power-per-antenna", "turned"), 1, "turned (double) holds no power limits"),
        (("--power-per-antenna", "1,x"), 1, "--power-per-antenna must be numbers with commas between them"),
        (("--power-per-antenna", "1,2"), 1, "--power-per-antenna must hold one value, or one for each of the 16"),
        (("--power-per-antenna", "0"), 1, "--power-per-antenna must be positive and finite, W; value 1 is 0"),
        (("--rf-chains", 2), 1, "--rf-chains must be from 3, the number of streams, to 16"),
        (("--rf-chains", 4, "--phase-bits", 0), 1, "--phase-bits must be a whole number of at least 1, got 0"),
        (("--streams", 2), 1, "--streams applies together with --receive-antennas joint only; give that too, or"),
        (("--connection", "sub"), 1, "with --rf-chains only; give that too, or leave --connection sub out"),
        (("--objective", "max-min", "--rf-chains", 4), 1, "hybrid array + max-min cannot be solved together"),
        (("--scheme", "bd"), 1, "scheme bd solves receive antennas only"),
        (("--weights", "1,2,3", "--plot", "p.png"), 2, "--plot draws the plain sum rate"),
        (("--objective", "fairness"), 2, "is not one of"),
    ],
)
def test_bad_options_leave_no_file(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, options: tuple[object, ...], status: int, words: str
) -> None:
    output = tmp_path / "out.mat"
    arrays = {"short": np.ones(15), "turned": np.full(16, 1j), "negative": np.r_[1, 1, -1, np.ones(13)]}
    source = write_mat(grid=random_channels(drops=4).T, noise_power=0.1, **arrays)
    done = nflae("precode", source, "-o", output, "--layout", "nks", "--var", "grid", *options)
    assert (done.exit_code, words in done.stderr) == (status, True), done.stderr
    assert not output.exists()


def test_labels_of_a_problem_are_those_of_the_model(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, untrained: Path
) -> None:
    angles = np.random.default_rng(1).uniform(-1, 1, (2, 3, 1))
    waves = (np.exp(1j * np.pi * angles * np.arange(32)) / np.sqrt(32)).astype(np.complex64)
    source, output = write_mat(waves, noise_power=0.1), tmp_path / "out.mat"
    scores = []
    for options in (("--model", untrained), ("--model", untrained, "--weights", "1,2,3"), ("--weights", "1,2,3")):
        done = nflae("precode", source, "-o", output, *options)
        assert done.exit_code == 0, done.output
        scores.append(load(output)["near_field_score"])
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2], atol=0.01)
