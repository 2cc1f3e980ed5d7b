"""``nflae beams``: tables with every rival, a model that validation chose, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matlab_io.errors import NflaeError
from matlab_io.sequences import Sequences, read_folder, write_folder, write_mat
from nflae_bridge.beams import gru, network
from nflae_bridge.beams.comparison import NETWORK, SELECTED, Choice, all_forecasters, choose, selected_scores
from nflae_bridge.beams.model import BeamModel
from simulator.beams.measures import measure
from simulator.beams.registry import Forecaster, forecaster, forecaster_names
from simulator.beams.windows import Windows, cut_windows
from tests.beam_sequences import passing_users
from tests.channel_files import Run

FAR = (33.5, -111.9)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gru, "_EPOCHS", 1)
    monkeypatch.setattr(gru, "_LEAST_STEPS", 5)
    monkeypatch.setattr(network, "_LEAST_STEPS", 5)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    write_folder(tmp_path / "near", passing_users(12))
    write_folder(tmp_path / "far", passing_users(10, seed=1, mast=FAR))
    return tmp_path / "near", tmp_path / "far"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "beams.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("quick")
def test_train_writes_table_and_model_that_evaluate_uses(
    nflae: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    near, far = folders
    done = nflae("beams", "train", near, "-o", tmp_path / "model", "--past", 4, "--ahead", 2)
    assert done.exit_code == 0, done.output
    table = rows(tmp_path / "model")
    assert list(table[0])[:5] == ["method", "step", "top1", "top3", "loss_db"]
    names = [*forecaster_names(), "gru", "gru-position", NETWORK, SELECTED]
    assert [(row["method"], row["step"]) for row in table] == [(name, step) for name in names for step in "12"]
    assert {row["top1_low"] for row in table} == {""}  # of three sequences
    assert done.output.count("n too small") == len(names)
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    chosen = card["forecasters"]["default"]
    assert len(chosen) == 2
    assert card["validation_top1"][SELECTED] == max(card["validation_top1"].values())
    own = {row["step"]: row["top1"] for row in table if row["method"] == chosen[int(row["step"]) - 1]}
    assert {row["step"]: row["top1"] for row in table if row["method"] == SELECTED} == own
    assert all(name in done.output for name in names)

    done = nflae("beams", "evaluate", far, "-o", tmp_path / "far_results", "--model", tmp_path / "model")
    assert done.exit_code == 0, done.output
    windows = cut_windows([passing_users(10, seed=1, mast=FAR)], 4, 2)
    repeat = measure(forecaster("repeat").scores(windows, {}), windows).values
    found = [row for row in rows(tmp_path / "far_results") if row["method"] == "repeat"]
    np.testing.assert_allclose([float(row["top1"]) for row in found], 100 * repeat[0], atol=1e-4)
    np.testing.assert_allclose([float(row["loss_db"]) for row in found], repeat[2], atol=1e-4)
    assert all(float(row["top1_low"]) < float(row["top1"]) < float(row["top1_high"]) for row in found)


@pytest.mark.usefixtures("quick")
def test_model_gives_the_same_forecasts_after_reading(nflae: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    from nflae_bridge.beams.model import BeamModel, load_model, save_model

    samples = [passing_users(12), passing_users(10, seed=1, mast=FAR)]
    windows = cut_windows(samples, 5, 3)
    names = ("gru-position", "position-map", "knn")
    methods = {name: gru.GRU_FORECASTERS.get(name) or forecaster(name) for name in names}
    states = {name: each.state(windows, 0) for name, each in methods.items()}
    choice = Choice(("gru-position",) * 3, {0: "position-map", 1: "knn"})
    masts: list[list[float] | None] = [
        [float(value) for value in each.mast[0]] for each in samples if each.mast is not None
    ]
    model = BeamModel(tmp_path, 5, 3, 16, "sequence", True, 2, choice, ["made", "other"], masts, {}, states)
    save_model(model, {})
    swapped = [replace(samples[1], path=Path("other")), samples[0]]
    again = cut_windows(swapped, 5, 3)
    expected = np.concatenate(
        [
            methods["knn"].scores(windows, states["knn"])[windows.folder == 1],
            methods["position-map"].scores(windows, states["position-map"])[windows.folder == 0],
        ]
    )
    np.testing.assert_allclose(load_model(tmp_path).scores(again, swapped), expected, rtol=1e-6)
    unknown = [replace(samples[0], path=Path("third"))]
    np.testing.assert_allclose(
        load_model(tmp_path).scores(cut_windows(unknown, 5, 3), unknown),
        methods["gru-position"].scores(windows, states["gru-position"])[windows.folder == 0],
        rtol=1e-5,
        atol=1e-5,
    )


def test_network_learns_and_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gru, "_LEAST_STEPS", 60)
    monkeypatch.setattr(gru, "_EPOCHS", 1)
    windows = cut_windows([passing_users(20, 10)], 5, 3)
    network = gru.GRU_FORECASTERS["gru"]
    state = network.state(windows, 3)
    top1 = measure(network.scores(windows, state), windows).values[0]
    assert top1.min() > 0.3  # a tenth without training
    again = network.state(windows, 3)
    assert all(np.array_equal(state[name], again[name]) for name in state)
    assert not np.array_equal(network.state(windows, 4)["head.bias"], state["head.bias"])


def test_networks_are_chosen_only_where_validation_prefers_them() -> None:
    samples = [passing_users(12), passing_users(30, seed=1, mast=FAR)]
    windows = cut_windows(samples, 5, 3)

    def oracle(share: float, folder: int | None = None) -> Forecaster:
        def scores(held: Windows, state: object) -> np.ndarray:
            right = np.random.default_rng(0).random(len(held)) < share
            right &= (held.folder == folder) if folder is not None else True
            return np.where(right[:, None, None], held.future, -held.future)

        return Forecaster("oracle", scores)

    def chosen(**methods: Forecaster) -> Choice:
        return choose(windows, "sequence", 0, methods, lambda done, note: None)

    assert chosen(repeat=oracle(0.8), gru=oracle(0.6)).names() == ["repeat"]
    assert chosen(repeat=oracle(0.6), gru=oracle(0.8)).names() == ["gru"]
    apart = chosen(repeat=oracle(1.0, 1), gru=oracle(1.0, 0))
    assert (apart.default, apart.by_folder) == (("repeat",) * 3, {0: "gru"})
    scores = {name: np.full((len(windows), 3, 16), value, np.float32) for name, value in (("repeat", 1), ("gru", 2))}
    np.testing.assert_array_equal(selected_scores(apart, windows, scores)[:, 0, 0], 2 - windows.folder)


@pytest.mark.usefixtures("quick")
def test_site_and_random_splits_are_announced(nflae: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    done = nflae("beams", "evaluate", *folders, "-o", tmp_path / "a", "--split", "random")
    assert "note: --split random: " in done.output
    assert "are on both sides" in done.output
    done = nflae("beams", "train", *folders, "-o", tmp_path / "b", "--split", "site")
    assert done.exit_code == 0, done.output
    assert "both sides" not in done.output
    card = json.loads((tmp_path / "b" / "model.json").read_text())
    assert [mast is None for mast in card["masts"]] == [False, True]  # the smaller site is held out
    write_folder(tmp_path / "more", passing_users(3, seed=5))
    done = nflae("beams", "evaluate", tmp_path / "more", "-o", tmp_path / "c", "--model", tmp_path / "b")
    assert done.exit_code == 1
    assert "its mast is that of near, in the training part" in done.output
    assert not (tmp_path / "c").exists()


def test_the_folder_of_the_results_is_checked_before_the_fits(
    nflae: Run, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nflae_bridge.beams.comparison.fit_all", lambda *_: pytest.fail("fitted"))
    monkeypatch.setattr("nflae_bridge.beams.comparison.choose", lambda *_: pytest.fail("fitted"))
    (tmp_path / "file").write_text("")
    for command in ("train", "evaluate"):
        done = nflae("beams", command, folders[0], "-o", tmp_path / "file")
        assert (done.exit_code, "is a file; name a folder for the results" in done.output) == (1, True)


@pytest.mark.usefixtures("quick")
def test_bad_input_is_refused_in_one_line_and_nothing_written(
    nflae: Run, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    near, far = folders
    model, out = tmp_path / "model", tmp_path / "out"
    assert nflae("beams", "train", near, "-o", model).exit_code == 0

    def saved(name: str, samples: Sequences) -> Path:
        write_mat(tmp_path / name, samples)
        return tmp_path / name

    eight = saved("eight.mat", passing_users(beams=8))
    blind = saved("blind.mat", replace(passing_users(seed=9), user=None))
    located = tmp_path / "located"  # as if a forecaster that requires positions had been chosen
    shutil.copytree(model, located)
    card = json.loads((located / "model.json").read_text())
    (located / "model.json").write_text(json.dumps(card | {"positions": True}))
    copy = saved("copy.mat", passing_users(12))
    for message, arguments in {
        "has 8 beams, the model": ("evaluate", eight, "--model", model),
        "has no positions, and the model": ("evaluate", blind, "--model", located),
        "of its sequences are in the training part": ("evaluate", copy, "--model", model),
        "the same recording would be on both sides": ("train", near, copy),
        "no sequence has 60 consecutive samples": ("evaluate", near, "--past", 50, "--ahead", 10),
        "only one site (mast)": ("evaluate", near, "--split", "site"),
        "no such folder or file": ("train", tmp_path / "none"),
        "model.json: no such file; name a folder written by": ("evaluate", far, "--model", far),
    }.items():
        done = nflae("beams", *arguments, "-o", out)
        assert done.exit_code == 1, (message, done.output)
        [line] = [line for line in done.output.splitlines() if line.startswith("nflae: error:")]
        assert message in line
        assert not out.exists()
    assert nflae("beams", "evaluate", far, "-o", out, "--model", model, "--past", 4).exit_code == 2
    (model / "model.safetensors").write_bytes(b"")
    done = nflae("beams", "evaluate", far, "-o", out, "--model", model)
    assert done.exit_code == 1
    assert "model.safetensors" in done.output


@pytest.mark.skipif(
    "NFLAE_DEEPSENSE" not in os.environ, reason="NFLAE_DEEPSENSE names no folder of DeepSense 6G scenarios"
)
def test_real_folders_are_evaluated(nflae: Run, tmp_path: Path) -> None:
    real = sorted(path for path in Path(os.environ["NFLAE_DEEPSENSE"]).iterdir() if list(path.glob("*.csv")))
    done = nflae("beams", "evaluate", real[0], "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert float(rows(tmp_path)[0]["top1"]) > 20


def test_a_model_with_heights_refuses_folders_without(nflae: Run, tmp_path: Path) -> None:
    made = passing_users(5)
    assert made.user is not None
    assert made.mast is not None
    rise = np.random.default_rng(0).uniform(0, 9, (len(made.user), 1))
    tall = replace(made, user=np.append(made.user, rise, 1), mast=np.append(made.mast, 0 * rise + 4, 1))
    write_folder(tmp_path / "tall", tall)
    windows = cut_windows([read_folder(tmp_path / "tall")], 5, 3)
    assert windows.position is not None
    np.testing.assert_allclose(windows.position[0, :, 2], rise[:5, 0] - 4)
    method = all_forecasters(True)["knn-position"]
    states = {"knn-position": method.state(windows, 0)}
    model = BeamModel(
        tmp_path, 5, 3, 16, "sequence", True, 3, Choice(("knn-position",) * 3), ["tall"], [None], {}, states
    )
    write_folder(tmp_path / "flat", passing_users(4, seed=3))
    flat = read_folder(tmp_path / "flat")
    assert cut_windows([tall, flat], 5, 3).position.shape[-1] == 2  # type: ignore[union-attr]
    with pytest.raises(NflaeError, match=r"flat: has no heights .* and the model"):
        model.check([flat])
    lower = replace(model, axes=2, states={"knn-position": method.state(cut_windows([flat], 5, 3), 0)})
    assert lower.scores(windows, [tall]).shape == (len(windows), 3, 16)
