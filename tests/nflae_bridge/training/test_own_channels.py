"""``nflae train --channels``: the split of a file, training on its part alone, and the decision on held-out drops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nflae_bridge import precode
from nflae_bridge.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.shipped import load_model
from nflae_bridge.studies.fine_tuning import HeldOutComparison, judge
from nflae_bridge.studies.intervals import MeanInterval
from nflae_bridge.training.data import TrainingBatch
from nflae_bridge.training.sources.channel_file import ChannelDrops, Split, split_drops
from tests.channel_files import Run, WriteMat, random_channels

CPU = torch.device("cpu")
NOISE = 0.1


def flight(slots: int, memory: float = 0.98, users: int = 3, antennas: int = 16) -> npt.NDArray[np.complex64]:
    generator = np.random.default_rng(3)
    drawn = generator.normal(size=(slots, users, antennas, 2)) @ [1, 1j]
    for slot in range(1, slots):
        drawn[slot] = memory * drawn[slot - 1] + np.sqrt(1 - memory**2) * drawn[slot]
    return drawn.astype(np.complex64)


def parts(split: Split) -> list[list[int]]:
    return [part.tolist() for part in (split.training, split.validation, split.held_out)]


def source(H: npt.NDArray[np.complex64], split: Split | None = None) -> ChannelDrops:
    drops = torch.from_numpy(H) / NOISE**0.5
    count = len(H)
    near = torch.zeros(H.shape[:2], dtype=torch.bool)
    batch = TrainingBatch(drops, near, torch.ones(count), torch.zeros(count), False)
    return ChannelDrops.of("a.mat", batch, split or split_drops(np.arange(count), drops, 0))


def test_independent_drops_are_split_at_random() -> None:
    drops = torch.from_numpy(random_channels(drops=200))
    split = split_drops(np.arange(200), drops, 0)
    training, validation, held_out = parts(split)
    assert not split.successive
    assert sorted(training + validation + held_out) == list(range(200))
    assert (len(training), len(validation), len(held_out)) == (120, 40, 40)
    assert held_out != list(range(held_out[0], held_out[0] + 40))
    assert parts(split_drops(np.arange(200), drops, 1))[2] != held_out
    assert parts(split_drops(np.arange(200), drops, 0))[2] == held_out


def test_successive_drops_are_split_in_blocks_with_gaps() -> None:
    drops = torch.from_numpy(flight(400))
    split = split_drops(np.arange(400), drops, 0)
    training, validation, held_out = parts(split)
    assert split.successive
    assert held_out == [block * 100 + 60 + drop for block in range(4) for drop in range(20)]
    assert validation == [block * 100 + 20 + drop for block in range(4) for drop in range(20)]
    assert min(abs(one - other) for one in training for other in validation + held_out) == 6
    assert len(training) == 160


def test_subcarriers_of_a_slot_stay_together() -> None:
    slots = np.repeat(np.arange(80), 3)
    split = split_drops(slots, torch.from_numpy(flight(80)).repeat_interleave(3, 0), 0)
    of_part = [set(slots[part].tolist()) for part in parts(split)]
    assert split.successive
    assert not of_part[0] & of_part[2]
    assert not of_part[1] & of_part[2]
    few = split_drops(np.repeat(np.arange(2), 40), torch.from_numpy(flight(80)), 0)
    assert few.successive  # over frequency
    assert len(few.held_out) == 16


def test_batches_hold_training_drops_alone_at_snrs_around_the_file() -> None:
    H = random_channels(drops=100)
    drops = source(H)
    directions = torch.nn.functional.normalize(torch.from_numpy(H).flatten(1), dim=1)
    seen: set[int] = set()
    own = 0
    for step in range(24):
        batch = drops.training(5, step, CPU)
        assert torch.equal(batch.channels, drops.training(5, step, CPU).channels)
        if batch.channels.shape[1:] != H.shape[1:]:
            continue  # of the general distribution
        found = torch.nn.functional.normalize(batch.channels.flatten(1), dim=1)
        best = (found.conj() @ directions.T).abs().max(1)
        if best.values.min() > 0.9999:
            own += 1
            seen |= set(best.indices.tolist())
            level = batch.channels.flatten(1).norm(dim=1) / torch.from_numpy(H).flatten(1).norm(dim=1)[best.indices]
            change = 20 * torch.log10(level * NOISE**0.5)
            assert change.abs().max() <= 5.001
            assert change.max() - change.min() > 5
    assert 12 < own < 24
    assert seen == set(drops.split.training.tolist())
    held = torch.cat([batch.channels for batch in drops.validation()])
    assert torch.equal(held, drops.batch.channels[torch.from_numpy(drops.split.validation)])


@pytest.fixture
def random_model(make_network: Callable[..., PrecodingNetwork]) -> Checkpoint:
    return Checkpoint("random", make_network("gram"), {"preset": "none"})


def test_the_better_model_is_kept(tmp_path: Path, random_model: Checkpoint) -> None:
    H = random_channels(drops=150, users=6, antennas=8)
    drops, tiny = source(H), load_model("tiny", CPU)
    save_checkpoint(tmp_path, tiny.network, {"preset": "channels"})
    found = judge(tmp_path, random_model, drops)
    assert found.is_gain
    assert found.describe().startswith("gain: +")
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["held_out"]["kept"] == "fine-tuned"
    assert card["preset"] == "channels"
    assert len(load_checkpoint(tmp_path).network.state_dict()) == len(tiny.network.state_dict())
    held = H[drops.split.held_out]
    expected = precode(held, noise_power=NOISE, model="tiny").sum_rate
    assert found.tuned == pytest.approx(expected.mean(), rel=1e-5)
    rzf = precode(held, noise_power=NOISE, scheme="rzf").sum_rate
    assert found.start >= rzf.mean() - 1e-4
    assert found.difference.mean == pytest.approx(found.tuned - found.start, rel=1e-6)


@pytest.mark.parametrize("worse", [True, False])
def test_without_a_gain_the_start_model_is_kept(tmp_path: Path, random_model: Checkpoint, worse: bool) -> None:
    drops, tiny = source(random_channels(drops=150, users=6, antennas=8)), load_model("tiny", CPU)
    save_checkpoint(tmp_path, random_model.network if worse else tiny.network, {"preset": "channels"})
    found = judge(tmp_path, tiny, drops)
    assert not found.is_gain
    assert found.describe().startswith("loss: -" if worse else "no gain: +0.0000")
    kept = load_checkpoint(tmp_path)
    assert kept.card["held_out"]["kept"] == "start model tiny"
    assert kept.card["preset"] == "tiny"
    for name, value in tiny.network.state_dict().items():
        assert torch.equal(kept.network.state_dict()[name], value)


def test_an_interval_that_holds_zero_is_no_gain() -> None:
    found = HeldOutComparison(40, 20.0, 20.1, 20.2, MeanInterval(0.1, -0.01, 0.21, 1))
    assert not found.is_gain
    assert found.describe() == (
        "no gain: +0.1000 bps/Hz (+0.50 %) per drop, 95 % interval -0.0100 to +0.2100, on 40 held-out drops"
    )


def test_the_command_trains_compares_and_resumes(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H = random_channels(drops=80, users=4)
    run, path = tmp_path / "run", write_mat(grid=H.T, noise_power=NOISE)
    arguments = ("train", "--channels", path, "--layout", "nks", "-o", run, "--start", "nano", "--device", "cpu")
    done = nflae(*arguments, "--steps", 2)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "48 drops to train, 16 to validate, 16 held out, at random" in said
    assert f"model nano fine-tuned on {path.name}, 2 steps, seed 0" in said
    card = json.loads((run / "model.json").read_text())
    held_out = card["held_out"]
    assert f"{held_out['difference']['mean']:+.4f} bps/Hz" in said
    assert held_out["drops"] == 16
    split = split_drops(np.arange(80), torch.from_numpy(H), 0)
    expected = precode(H[split.held_out], noise_power=NOISE, model="nano").sum_rate.mean()
    assert held_out["start"] == pytest.approx(expected, rel=1e-5)
    again = nflae(*arguments, "--steps", 3, "--resume")
    assert again.exit_code == 0, again.output
    assert "resumed at step 2" in " ".join(again.stdout.split())
    other = write_mat(name="other.mat", grid=random_channels(drops=80, users=4, seed=9).T, noise_power=NOISE)
    swapped = nflae("train", "--channels", other, "--layout", "nks", "-o", run, "--start", "nano", "--resume")
    assert swapped.exit_code == 1
    assert "holds a run of another recipe or seed" in swapped.stderr
    assert "fine-tuned on" not in swapped.stdout
    used = nflae(*arguments)
    assert used.exit_code == 1
    assert "holds a run already" in used.stderr
    assert not used.stdout
    answer = nflae("precode", path, "--layout", "nks", "-o", tmp_path / "w.mat", "--model", run)
    assert answer.exit_code == 0, answer.output


def test_interrupted_at_the_first_step_it_says_how_to_go_on(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    path, run = write_mat(grid=random_channels(drops=80).T, noise_power=NOISE), tmp_path / "run"
    arguments = ("train", "--channels", path, "--layout", "nks", "-o", run, "--steps", 3, "--minutes", 1e-9)
    done = nflae(*arguments)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    command = f"nflae train --channels {path} -o {run} --steps 3 --layout nks --resume"
    assert f"the first model is written at step 50; continue with: {command}" in said


def test_bad_input_is_one_line(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, make_network: Callable[..., PrecodingNetwork]
) -> None:
    H = random_channels(drops=70)
    bad = H.copy()
    bad[4, 1, 2] = np.nan
    equal = np.repeat(H[:1], 70, 0)
    raw = tmp_path / "raw"
    save_checkpoint(raw, make_network("raw", attention="causal"), {})
    files = {
        name: write_mat(name=f"{name}.mat", grid=array.T, noise_power=NOISE)
        for name, array in {"good": H, "few": H[:20], "nan": bad, "equal": equal}.items()
    }
    for name, options, words in (
        ("few", (), "few.mat: grid: holds 20 drops; training needs at least 60"),
        ("nan", (), "nan.mat: grid: drop 5, user 2, antenna 3 is NaN"),
        ("equal", (), "equal.mat: grid: all 70 drops are equal; training needs drops that differ"),
        ("good", ("--start", raw), "model raw has the encoder raw of one array; start from one of gram, kernel"),
        ("good", ("--start", "predict-tiny"), "model predict-tiny is for task predict"),
        ("good", ("--preset", "tiny"), "give either --preset, see --list, or --channels FILE"),
        ("good", ("--backbone", "gpt2"), "leave --backbone out"),
    ):
        run = tmp_path / "run"
        done = nflae("train", "--channels", files[name], "--layout", "nks", "-o", run, "--steps", 1, *options)
        assert done.exit_code in (1, 2)
        assert words in done.stderr
        assert not run.exists()
    done = nflae("train", "--preset", "tiny", "-o", tmp_path / "run", "--layout", "nks")
    assert done.exit_code == 2
    assert "--layout applies together with --channels FILE" in done.stderr
    files["nan"].rename(tmp_path / "nan2.mat")
    done = nflae(
        "train", "--channels", tmp_path / "nan2.mat", "--layout", "nks", "-o", tmp_path / "skipped", "--steps", 1,
        "--on-bad-drop", "skip", "--start", "nano", "--minutes", 60,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "1 bad drops left out" in done.stdout
