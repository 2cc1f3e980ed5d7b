"""nflae link with CSI models that need the history of a file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("sionna")

from matlab_io import open_channels
from nflae_bridge import precode, predict
from nflae_bridge.studies.link.source import Batch, FileDrops
from nflae_bridge.studies.link.transmitter_csi import TransmitterCsi
from simulator.csi.kinds.noisy import NoisyCsi
from simulator.csi.models import CsiContext, parse_csi
from simulator.link_level.chain import Chain, Received
from tests.channel_files import Run, WriteMat, load, random_channels
from tests.moving_users import moving_users


def spectral_efficiency(nflae: Run, source: Path, folder: Path, *options: object) -> float:
    quick = (
        "--scheme",
        "zf",
        "--snr-db",
        "15",
        "--drops",
        20,
        "--code",
        "none",
        "--modulation",
        "qpsk",
        "--symbols",
        24,
    )
    done = nflae("link", source, "-o", folder, *quick, *options)
    assert done.exit_code == 0, done.output
    with (folder / "link.csv").open() as file:
        (row,) = csv.DictReader(file)
    return float(row["se"])


def test_predicted_csi_is_the_prediction_from_the_drops_before(write_mat: WriteMat) -> None:
    channels = moving_users(24, antennas=8)
    csi = parse_csi("predicted:2,ar,8")
    with open_channels(write_mat(channels)) as file:
        source = FileDrops(file, 1000, 5, csi, 1, "error")
    assert source.drops.tolist() == list(range(9, 24))
    batch = source.recipe(1).batch()
    known = csi.estimate(batch.snapshots, batch.history, CsiContext(torch.Generator()))[batch.known_of]
    for place, drop in enumerate(source.drops[5:10]):
        expected = predict(channels[drop - 9 : drop - 1], ahead=2, method="ar").channels[-1]
        np.testing.assert_allclose(known[place], expected, atol=1e-4)


def test_prediction_bridges_the_age_of_noisy_csi(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(moving_users(40, users=4, snr_db=None))
    kinds = ("noisy:10,aged:4", "noisy:10,predicted:4,ar", "perfect")
    aged, predicted, perfect = (
        spectral_efficiency(nflae, source, tmp_path / str(place), "--csi", kind) for place, kind in enumerate(kinds)
    )
    assert aged + 1 < predicted
    assert predicted < perfect


def test_prediction_needs_a_sequence(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    shape = ("-o", tmp_path / "out", "--scheme", "rzf", "--csi", "predicted:2,noisy:10")
    done = nflae("link", "--scenario", "uav", *shape)
    assert done.exit_code == 2
    assert "nothing can be predicted" in " ".join(done.output.replace("│", " ").split())
    done = nflae("link", write_mat(random_channels(drops=40)), *shape)
    assert done.exit_code == 1
    assert "uncorrelated" in done.stderr
    assert "or choose a --csi that needs no history" in done.stderr
    done = nflae("link", write_mat(moving_users(12)), *shape)
    assert "none of 12 drops can be used with CSI from 2 slots before and a history of 16 slots" in done.stderr


@pytest.mark.parametrize(
    ("kind", "drops_before", "most_loss"),
    [
        ("feedback:64,rest", 11, 0.1),
        ("noisy:10,feedback:64", 11, 0.5),
        ("pilots:16,10", 0, 0.5),
        ("predicted:4,noisy:10", 19, 0.5),
    ],
)
def test_link_runs_with_each_kind_of_csi(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, kind: str, drops_before: int, most_loss: float
) -> None:
    channels = moving_users(drops_before + 3, users=2)
    found = spectral_efficiency(nflae, write_mat(channels), tmp_path / "found", "--csi", kind)
    no_near = np.zeros((3, 2), bool)
    exact = precode(channels[drops_before:], scheme="zf", power=1, noise_power=10**-1.5, near_field=no_near)
    perfect = float(exact.sum_rate.mean())  # of the same drops
    assert (1 - most_loss) * perfect < found < perfect


def test_several_passes_over_a_short_file_at_once_give_what_they_give_one_by_one(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops: list[int] = []
    run = Chain.run

    def counting(self: Chain, effective: torch.Tensor, *inputs: Any) -> Received:
        drops.append(len(effective))
        return run(self, effective, *inputs)

    monkeypatch.setattr(Chain, "run", counting)
    source = write_mat(moving_users(11, users=2))  # predictions leave three drops
    shape = ("link", source, "--scheme", "zf", "--drops", 20, "--code", "none", "--modulation", "qpsk", "--symbols", 24)
    shape = (*shape, "--snr-db", "5,15", "--csi", "noisy:5,predicted:1,ar,8", "--refresh", 1)
    for batch in (3, 13):
        done = nflae(*shape, "--batch", batch, "-o", tmp_path / str(batch))
        assert done.exit_code == 0, done.output
    assert drops == [3] * 14 + [12, 9] * 2  # seven passes for 20 drops
    for name in ("link.csv", "users.csv", "timeline.csv"):
        alone, together = (pd.read_csv(tmp_path / str(batch) / name) for batch in (3, 13))
        pd.testing.assert_frame_equal(together, alone, rtol=1e-5)


def test_csi_is_computed_once_for_all_snrs_of_a_sweep(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[tuple[int, ...], int]] = []
    apply = NoisyCsi.__call__

    def counting(self: NoisyCsi, snapshots: torch.Tensor, context: CsiContext) -> torch.Tensor:
        calls.append((tuple(snapshots.shape), torch.get_num_threads()))
        return apply(self, snapshots, context)

    monkeypatch.setattr(NoisyCsi, "__call__", counting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        source = write_mat(random_channels(drops=4))
        quick = ("--scheme", "zf", "--drops", 4, "--batch", 2, "--code", "none", "--modulation", "qpsk", "--symbols", 8)
        done = nflae("link", source, "-o", tmp_path / "out", *quick, "--csi", "noisy:5", "--snr-db", "0,5,10")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert done.exit_code == 0, done.output
    shape = (2, 1, *random_channels(drops=4).shape[1:])
    assert calls == [(shape, 1)] * 2  # two batches, three SNRs


def test_kept_csi_belongs_to_its_batch_and_seed() -> None:
    csi = TransmitterCsi(parse_csi("noisy:5"))
    each = torch.arange(3)
    first, other = (torch.from_numpy(random_channels(drops=3, seed=seed)) for seed in (0, 1))

    def batch(channels: torch.Tensor) -> Batch:
        return Batch(channels, channels, each.unsqueeze(-1), each, None)

    known = csi.estimate(batch(first), 0, 0)
    assert csi.estimate(batch(first), 0, 0) is known
    for changed in ((batch(first), 0, 1), (batch(first), 1, 0), (batch(other), 0, 0)):
        assert not torch.equal(csi.estimate(*changed), known)
        assert torch.equal(csi.estimate(*changed), TransmitterCsi(parse_csi("noisy:5")).estimate(*changed))


def test_feedback_with_memory_needs_a_sequence(nflae: Run, tmp_path: Path) -> None:
    shape = ("link", "--scenario", "uav", "-o", tmp_path / "out", "--scheme", "rzf", "--csi", "feedback:64")
    done = nflae(*shape)
    text = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2
    assert "--csi feedback:64,auto needs IN.mat with successive snapshots" in text
    assert "no feedback report with memory" in text
    assert "predicted" not in text


@pytest.mark.parametrize(("labels", "near"), [(None, 0.5), ("upa:4x4", 0.125)])
def test_powers_go_by_the_labels_that_precode_takes(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, labels: str | None, near: float
) -> None:
    channels = random_channels(drops=4, users=2)
    source = write_mat(channels, near_field=np.tile([[True], [False]], 4), noise_power=10**-1.5)
    options = ("--alpha-c", 0.1, "--layout", "nks", *(() if labels is None else ("--near-field", labels)))
    found = spectral_efficiency(nflae, source, tmp_path / "out", *options)
    with (tmp_path / "out" / "link.csv").open() as file:
        assert float(next(csv.DictReader(file))["near_field_share"]) == near
    assert nflae("precode", source, "-o", tmp_path / "w.mat", "--scheme", "zf", *options).exit_code == 0
    assert found == pytest.approx(load(tmp_path / "w.mat")["sum_rate"].mean(), abs=1e-5)


def test_a_precoder_has_the_labels_of_the_first_drop_it_serves(write_mat: WriteMat) -> None:
    labels = np.random.default_rng(0).random((7, 2)) < 0.5
    with open_channels(write_mat(random_channels(drops=7, users=2))) as file:
        batch = FileDrops(file, 7, 10, parse_csi("perfect"), 3, "error", near_field=labels).recipe(0).batch()
    assert batch.near_field is not None
    np.testing.assert_array_equal(batch.near_field[batch.known_of], labels[[0, 0, 0, 3, 3, 3, 6]])
