"""``nflae track --model``: the forecaster that validation chose for each snapshot ahead, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from matlab_io.sequences import Sequences
from nflae_bridge.beams.comparison import Choice, all_forecasters
from nflae_bridge.beams.model import BeamModel, save_model
from simulator.beams.registry import forecaster
from simulator.beams.windows import cut_windows
from tests.beam_sequences import passing_users
from tests.channel_files import Run, load

PAST, AHEAD, BEAMS, USERS, STEPS = 4, 3, 16, 2, 14
FLOWN = passing_users(USERS, STEPS, BEAMS, seed=3)
CHOSEN = ("knn", "velocity-index", "ridge")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "model")


def saved(folder: Path, chosen: tuple[str, ...] = CHOSEN, beams: int = BEAMS, positions: bool = False) -> Path:
    folder.mkdir()
    windows = cut_windows([passing_users(12, beams=beams)], PAST, AHEAD)
    methods = all_forecasters(True)
    states = {name: methods[name].state(windows, 0) for name in set(chosen)}
    axes = 2 if positions else 0
    rest: tuple[Any, ...] = (Choice(chosen), ["made"], [None], {}, states)
    save_model(BeamModel(folder, PAST, AHEAD, beams, "sequence", positions, axes, *rest), {})
    return folder


def sweeps(path: Path, missing: int | None = None, **changed: object) -> Path:
    """Powers of both users side by side, those of the second missing in one snapshot."""
    powers = FLOWN.powers.reshape(USERS, STEPS, BEAMS).astype(np.float64)
    if missing is not None:
        powers[1, missing] = np.nan
    scipy.io.savemat(path, {"p": powers.transpose(2, 0, 1), "slot_seconds": 0.1} | changed)
    return path


def tracked(nflae: Run, source: Path, *options: object) -> dict[str, Any]:
    output = source.with_name(f"{source.stem}_out.mat")
    done = nflae("track", source, "-o", output, "--powers", "p", *options)
    assert done.exit_code == 0, done.output
    return {"output": done.output} | load(output)


def expected(samples: Sequences, chosen: tuple[str, ...]) -> np.ndarray:
    """Best three beams from 1 by the forecaster of each snapshot ahead, (users, windows, ahead, 3)."""
    train, windows = cut_windows([passing_users(12)], PAST, AHEAD), cut_windows([samples], PAST, AHEAD)
    order = []
    for step, name in enumerate(chosen):
        each = forecaster(name)
        order.append(np.argsort(-each.scores(windows, each.state(train, 0))[:, step], -1, kind="stable")[:, :3])
    return np.stack(order, 1).reshape(USERS, -1, len(chosen), 3) + 1


def names_of(found: dict[str, Any]) -> np.ndarray:
    return np.array(str(found["nflae_info"]["beam_sources"]).strip("[]'").split(","))[
        found["next_beams_source"].astype(int) - 1
    ]


def test_each_snapshot_ahead_has_its_chosen_forecaster(nflae: Run, model: Path, tmp_path: Path) -> None:
    found = tracked(nflae, sweeps(tmp_path / "sweeps.mat"), "--model", model)
    own = tracked(nflae, sweeps(tmp_path / "own.mat"))
    beams = found["next_beams"].transpose(1, 3, 2, 0)  # users, snapshots, ahead, best three
    whole = expected(FLOWN, CHOSEN)
    assert (beams[:, PAST - 1 : STEPS - AHEAD] == whole).all()
    assert (found["next_beams"][..., : PAST - 1] == own["next_beams"][..., : PAST - 1]).all()
    assert (names_of(found)[:, PAST - 1 :] == "model").all()
    assert (names_of(found)[:, : PAST - 1] == names_of(own)[:, : PAST - 1]).all()
    for name in ("x", "angle_deg", "beam", "beam_source"):
        assert (found[name] == own[name]).all()
    assert str(found["nflae_info"]["beam_forecasters"]).strip("[]'") == ",".join(CHOSEN)
    assert "knn / velocity-index / ridge, next beams of 79 % of users and snapshots" in found["output"]


def test_windows_with_a_missing_power_keep_the_beams_of_the_track(nflae: Run, model: Path, tmp_path: Path) -> None:
    found = tracked(nflae, sweeps(tmp_path / "sweeps.mat", missing=6), "--model", model, "--ahead", 2)
    is_model = names_of(found) == "model"
    assert is_model[0, PAST - 1 :].all()
    assert np.flatnonzero(is_model[1]).tolist() == [3, 4, 5, 10, 11, 12, 13]
    assert found["next_beams"].shape == (3, USERS, 2, STEPS)


def test_windows_over_a_gap_of_time_keep_the_beams_of_the_track(nflae: Run, model: Path, tmp_path: Path) -> None:
    times = 0.1 * np.arange(STEPS) + np.where(np.arange(STEPS) > 8, 0.2, 0)
    found = tracked(nflae, sweeps(tmp_path / "sweeps.mat", t=times), "--model", model, "--times", "t")
    assert np.flatnonzero(names_of(found)[0] == "model").tolist() == [3, 4, 5, 6, 7, 8, 12, 13]


def test_a_choice_of_repetition_is_said_to_be_one(nflae: Run, tmp_path: Path) -> None:
    model = saved(tmp_path / "repeating", ("repeat",) * AHEAD)
    found = tracked(nflae, sweeps(tmp_path / "sweeps.mat"), "--model", model)
    assert (names_of(found)[:, PAST - 1 :] == "repeated").all()
    best = found["next_beams"][0, :, :, PAST - 1 :]
    assert (best == found["beam"][:, None, PAST - 1 :]).all()


def test_few_snapshots_have_no_forecast(nflae: Run, model: Path, tmp_path: Path) -> None:
    powers = FLOWN.powers.reshape(USERS, STEPS, BEAMS)[:, : PAST - 1].transpose(2, 0, 1)
    found = tracked(nflae, sweeps(tmp_path / "sweeps.mat", p=powers), "--model", model)
    assert "model" not in names_of(found)
    assert "next beams of 0 %" in found["output"]


@pytest.mark.parametrize(
    ("made", "options", "status", "message"),
    [
        ({"beams": 8}, (), 1, "has powers of 16 beams, the model"),
        ({}, ("--ahead", 4), 1, "forecasts 3 snapshots; give --ahead 3"),
        ({"positions": True}, (), 1, "its forecasts require position, a track has beam powers alone"),
        ({}, ("channels",), 2, "--model forecasts from beam powers, not from channels: give --powers NAME too"),
    ],
)
def test_models_that_do_not_fit_are_refused_and_nothing_is_written(
    nflae: Run, tmp_path: Path, made: dict[str, Any], options: tuple[object, ...], status: int, message: str
) -> None:
    given = () if "channels" in options else ("--powers", "p", *options)
    source, output = sweeps(tmp_path / "sweeps.mat"), tmp_path / "out.mat"
    done = nflae("track", source, "-o", output, "--model", saved(tmp_path / "model", **made), *given)
    assert done.exit_code == status
    assert message in " ".join(done.output.split())
    assert not output.exists()


def test_a_network_of_further_inputs_and_a_folder_without_model_are_refused(
    nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = sweeps(tmp_path / "sweeps.mat"), tmp_path / "out.mat"
    model = saved(tmp_path / "model")
    monkeypatch.setattr(BeamModel, "inputs", lambda self: ("power", "radar"))
    done = nflae("track", source, "-o", output, "--powers", "p", "--model", model)
    assert done.exit_code == 1
    assert "its forecasts require radar" in done.output
    done = nflae("track", source, "-o", output, "--powers", "p", "--model", tmp_path / "none")
    assert done.exit_code == 1
    assert "name a folder written by nflae beams train" in done.output
    assert not output.exists()
