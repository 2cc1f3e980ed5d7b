"""``nflae evaluate`` with imperfect CSI, several SNRs and models, and its figures drop by drop."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nflae_bridge import precode
from nflae_bridge.files.blocks import Block
from nflae_bridge.plots.evaluation import SweptScheme, distribution_figure, sweep_figure
from nflae_bridge.studies.evaluation.comparison import Comparison, _engine
from nflae_bridge.studies.evaluation.scoring import score_block
from nflae_bridge.studies.intervals import mean_interval
from simulator.downlink.budget import LinkBudget
from tests.channel_files import Run, WriteMat, random_channels

NOISE = 0.05
Drops = npt.NDArray[np.complex64]


def moving(drops: int = 12) -> Drops:
    H = random_channels(drops=drops, users=3, antennas=8)
    for drop in range(1, drops):
        H[drop] = 0.9 * H[drop - 1] + np.sqrt(1 - 0.81) * H[drop]
    return H


def achieved(known: Drops, true: Drops, scheme: str) -> npt.NDArray[np.float64]:
    return user_rates(known, true, scheme).sum(-1)


def user_rates(known: Drops, true: Drops, scheme: str, min_rate: float = 0.0) -> npt.NDArray[np.float64]:
    """Rates on the true channels, by the definition of the SINR."""
    found = precode(known, noise_power=NOISE, scheme=scheme, min_rate=min_rate)
    gains = abs(np.einsum("skn,sjn->skj", true.conj(), np.asarray(found.precoder))) ** 2
    received = gains * np.asarray(found.power)[:, None, :]
    signal = np.einsum("skk->sk", received)
    rates: npt.NDArray[np.float64] = np.log2(1 + signal / (received.sum(-1) - signal + NOISE))
    return rates


def per_drop(path: Path) -> dict[tuple[str, str], dict[int, float]]:
    """Sum rates by SNR and scheme, then drop; without the drops that are skipped."""
    found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    with path.open() as file:
        for row in csv.DictReader(file):
            if row["skipped"] == "1":
                assert (row["sum_rate"], row["feasible"], row["fallback"]) == ("", "", "")
                continue
            found[row["snr_db"], row["scheme"]][int(row["drop"])] = float(row["sum_rate"])
    return found


def means(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open() as file:
        return {(row.get("snr_db", ""), row["scheme"]): row for row in csv.DictReader(file)}


def test_precoders_of_an_estimate_are_judged_on_the_true_channels(
    nflae: Run, write_mat: WriteMat, tmp_path: Path
) -> None:
    true = random_channels(drops=9, users=3, antennas=8)
    known = true + 0.3 * random_channels(drops=9, users=3, antennas=8, seed=1)
    broken = true.copy()
    broken[4, 1] = np.nan
    source = write_mat(H_est=known.T, H_true=broken.T, noise_power=NOISE, layout="nks")
    table, drops, plot = tmp_path / "t.csv", tmp_path / "d.csv", tmp_path / "p.svg"
    options = ("--var", "H_est", "--h-true", "H_true", "--schemes", "zf,rzf", "--csv", table, "--per-drop", drops)
    refused = nflae("evaluate", source, *options)
    assert refused.exit_code == 1
    assert "H_true: drop 5, user 2, antenna 1 is NaN" in refused.stderr
    done = nflae("evaluate", source, *options, "--plot", plot, "--on-bad-drop", "skip", "--batch", 4)
    assert done.exit_code == 0, done.output
    assert "the precoders, and the labels of users, come from H_est" in " ".join(done.stdout.split())
    found, good = per_drop(drops), [drop for drop in range(9) if drop != 4]
    for scheme in ("zf", "rzf"):
        expected = achieved(known, true, scheme)[good]
        assert list(found["", scheme]) == [drop + 1 for drop in good]
        np.testing.assert_allclose(list(found["", scheme].values()), expected, rtol=1e-5)
        row = means(table)["", scheme]
        assert float(row["mean_sum_rate"]) == pytest.approx(expected.mean(), rel=1e-5)
        interval = mean_interval(expected)
        assert float(row["low_95"]) == pytest.approx(interval.low, rel=1e-5)
        assert float(row["high_95"]) == pytest.approx(interval.high, rel=1e-5)
    assert "95 % (DKW)" in plot.read_text()
    marked = [line for line in drops.read_text().splitlines() if line.endswith(",1")]
    assert marked == ["5,,rzf,,,,1", "5,,zf,,,,1", "5,,capacity,,,,1"]


def test_the_minimum_rates_are_those_of_the_true_channels(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    true, table = random_channels(drops=8, users=3, antennas=8), tmp_path / "t.csv"
    known = random_channels(drops=8, users=3, antennas=8, seed=5)
    source = write_mat(H_est=known.T, H_true=true.T, noise_power=NOISE, layout="nks")
    options = ("--schemes", "zf", "--min-rate", 2, "--csv", table, "--var", "H_est")
    shares = {}
    for name in ("H_true", ""):
        done = nflae("evaluate", source, *options, *(("--h-true", name) if name else ()))
        assert done.exit_code == 0, done.output
        shares[name] = float(means(table)["", "zf"]["infeasible_share"])
    assert shares[""] == 1 - np.mean(precode(known, noise_power=NOISE, scheme="zf", min_rate=2).feasible)
    met = (user_rates(known, true, "zf", min_rate=2) >= 2).all(-1)
    assert shares["H_true"] == pytest.approx(1 - met.mean())
    assert shares["H_true"] > shares[""]


def test_aged_csi_is_that_of_the_drop_before(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H, drops = moving(), tmp_path / "d.csv"
    source = write_mat(H, noise_power=NOISE)
    options = ("--csi", "aged:1", "--schemes", "rzf", "--per-drop", drops, "--batch", 5)
    done = nflae("evaluate", source, *options)
    assert done.exit_code == 0, done.output
    assert "11 of 12 with CSI" in done.stdout
    assert "note:" not in done.stderr
    found = per_drop(drops)["", "rzf"]
    assert list(found) == list(range(2, 13))
    np.testing.assert_allclose(list(found.values()), achieved(H[:-1], H[1:], "rzf"), rtol=1e-5)


@pytest.mark.parametrize("command", ["evaluate", "link"])
def test_aged_csi_of_independent_drops_is_noted(command: str, nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(random_channels(drops=12, users=3, antennas=64), noise_power=NOISE)
    options = {
        "evaluate": ("--schemes", "rzf"),
        "link": ("--scheme", "zf", "-o", tmp_path / "run", "--drops", 10, "--symbols", 24, "--code", "none"),
    }
    done = nflae(command, source, "--csi", "aged:1", "--snr-db", 0, *options[command])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert "note: CSI aged:1: drop 1 and those after it, user 1 to 3: successive snapshots are uncorrelated" in said


def test_noisy_csi_costs_rate_and_repeats_by_its_seed(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source, drops = write_mat(moving(40), noise_power=NOISE), tmp_path / "d.csv"
    rates = {}
    for csi, seed in (("perfect", 0), ("noisy:70", 0), ("noisy:0", 0), ("noisy:0", 0), ("noisy:0", 1)):
        options = ("--csi", csi, "--seed", seed, "--schemes", "zf", "--per-drop", drops)
        assert nflae("evaluate", source, *options).exit_code == 0
        values = list(per_drop(drops)["", "zf"].values())
        assert rates.setdefault((csi, seed), values) == values
    plain = nflae("evaluate", source, "--schemes", "zf", "--per-drop", drops)
    assert plain.exit_code == 0
    assert list(per_drop(drops)["", "zf"].values()) == rates["perfect", 0]
    np.testing.assert_allclose(rates["noisy:70", 0], rates["perfect", 0], rtol=1e-2)
    assert np.mean(rates["noisy:0", 0]) < 0.7 * np.mean(rates["perfect", 0])
    assert rates["noisy:0", 1] != rates["noisy:0", 0]


def test_a_sweep_is_the_sum_of_its_snrs_with_the_same_csi(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source, table, plot = (
        write_mat(random_channels(drops=10), noise_power=NOISE),
        tmp_path / "t.csv",
        tmp_path / "p.png",
    )
    options = ("--schemes", "rzf,nflae", "--csi", "noisy:10", "--csv", table)
    done = nflae("evaluate", source, *options, "--snr-db=-5:15:10", "--plot", plot)
    assert done.exit_code == 0, done.output
    assert "3 SNRs of the mean user, -5 to 15 dB" in done.stdout
    assert "median of 5 runs" not in done.stdout
    swept = means(table)
    assert {snr for snr, _ in swept} == {"-5", "5", "15"}
    assert plot.read_bytes().startswith(b"\x89PNG")
    for snr in ("-5", "5", "15"):
        assert nflae("evaluate", source, *options, f"--snr-db={snr}").exit_code == 0
        for scheme in ("rzf", "nflae", "capacity"):
            one = float(means(table)["", scheme]["mean_sum_rate"])
            assert float(swept[snr, scheme]["mean_sum_rate"]) == pytest.approx(one, rel=1e-5), (snr, scheme)


def test_several_models_are_rows_of_their_own(nflae: Run, write_mat: WriteMat, tmp_path: Path, untrained: Path) -> None:
    source, table = write_mat(random_channels(drops=10, users=6, antennas=6), noise_power=NOISE), tmp_path / "t.csv"
    names = {"tiny": "tiny", untrained.name: str(untrained)}
    models = [word for model in (*names.values(), "auto") for word in ("--model", model)]
    done = nflae("evaluate", source, "--schemes", "nflae,rzf", "--csv", table, "--device", "cpu", *models)
    assert done.exit_code == 0, done.output
    found = means(table)
    assert {scheme for _, scheme in found} == {"rzf", "capacity", *(f"nflae ({name})" for name in names)}
    for name, model in names.items():
        assert nflae("evaluate", source, "--schemes", "nflae", "--csv", table, "--model", model).exit_code == 0
        alone = means(table)["", "nflae"]["mean_sum_rate"]
        assert found["", f"nflae ({name})"]["mean_sum_rate"] == alone


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--csi", "magic"), "no CSI 'magic': there are perfect, aged"),
        (("--csi", "noisy:10", "--h-true", "H_true"), "--csi and --h-true both state the CSI"),
        (("--h-true", "H"), "--h-true H is also the variable of the precoders' CSI"),
        (
            ("--h-true", "short"),
            "short is 8 antennas x 3 users x 5 drops (layout nks), but H is 8 antennas x 3 users x 6",
        ),
        (("--h-true", "absent"), "no variable absent"),
        (("--snr-db", "0:10:5", "--plot", "p.png", "--plot-kind", "cdf"), "--plot-kind cdf needs one SNR"),
        (("--plot", "p.png", "--plot-kind", "snr"), "--plot-kind snr needs several SNRs"),
        (("--plot-kind", "cdf"), "--plot-kind applies together with --plot"),
        (("--plot", "p.png", "--plot-kind", "cdf", "--plot-drop", "2"), "--plot-drop is for the plot of users"),
        (("--plot", "p.png", "--plot-kind", "users", "--csi", "noisy:5"), "--plot-kind users draws perfect CSI"),
        (("--csi", "noisy:5", "--schemes", "noma,rzf"), "noma needs receivers with SIC"),
        (("--csi", "noisy:5", "--objective", "max-min"), "--csi applies to the plain sum rate"),
        (("--model", "tiny", "--model", "nano", "--objective", "max-min"), "several --model applies to the plain sum"),
        (("--snr-db", "3", "--noise-dbw", "-10"), "--noise-dbw and --snr-db state the same quantity"),
        (("--per-drop", "in.mat"), "in.mat: is also the input"),
    ],
)
def test_options_that_exclude_each_other_are_one_line(
    nflae: Run,
    write_mat: WriteMat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    H = random_channels(users=3, antennas=8)
    source = write_mat(H, short=H[:5].T, noise_power=NOISE)
    done = nflae("evaluate", source, "--var", "H", *options)
    assert done.exit_code in (1, 2)
    assert words in " ".join(done.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in.mat"]


def test_receive_antennas_that_are_combined_have_no_csi_model(nflae: Run, write_mat: WriteMat) -> None:
    source = write_mat(grid=np.ones((8, 2, 3, 4)) * (1 + 1j), noise_power=NOISE)
    done = nflae("evaluate", source, "--layout", "nrks", "--receive-antennas", "eigen", "--csi", "noisy:5")
    assert done.exit_code == 1
    assert "--csi noisy:5 does not go with --receive-antennas eigen; pass each" in done.stderr


def test_the_figures_show_what_they_are_given() -> None:
    values = {"nflae (a)": [3.0, 1.0, 2.0], "rzf": [1.0, 1.0, 0.5]}
    figure = distribution_figure(values, [3.0, 4.0, 5.0], "title", correlated=True)
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["nflae (a)"], [(1, 1 / 3), (2, 2 / 3), (3, 1)])
    assert set(lines) == {"nflae (a)", "RZF", "capacity (dirty paper)"}
    legend = axes.get_legend()
    assert legend is not None
    assert "these are correlated" in legend.get_title().get_text()
    swept = [SweptScheme("rzf", [mean_interval([1.0, 1.2, 0.8]), mean_interval([2.0, 2.1, 2.2])])]
    (axes,) = sweep_figure([0.0, 10.0], swept, [3.0, 5.0], "title").axes
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["RZF"], [(0, 1.0), (10, 2.1)])
    (band,) = axes.collections
    low = mean_interval([2.0, 2.1, 2.2]).low
    assert any(np.allclose(point, (10, low)) for point in band.get_paths()[0].vertices)


def test_many_schemes_are_told_apart_by_markers_on_their_lines_not_hidden_by_bands() -> None:
    names, drops = ["nflae", "wmmse", "rzf", "zf", "mrt", "ldma"], np.linspace(1, 2, 50).tolist()
    for count, bands in ((4, 4), (6, 0)):
        (axes,) = distribution_figure(dict.fromkeys(names[:count], drops), drops, "title", correlated=False).axes
        lines = axes.get_lines()[1:]
        assert len({line.get_marker() for line in lines} - {"", "None"}) == count
        places = [tuple(line.get_markevery()) for line in lines]
        assert len(set(places)) == count
        assert all(len(each) == 5 and max(each) < len(drops) for each in places)
        assert len(axes.collections) == bands
        legend = axes.get_legend()
        assert legend is not None
        assert ("bands" in legend.get_title().get_text()) == bool(bands)


def test_a_process_computes_its_first_block_like_the_next_ones() -> None:
    comparison = Comparison(("nflae",), False, "tiny", "cpu", 0, LinkBudget(1.0, NOISE))
    block = Block(0, np.ones(5, np.bool_), random_channels(drops=5, antennas=32))
    _engine.cache_clear()
    assert score_block(comparison, block).values == score_block(comparison, block).values
