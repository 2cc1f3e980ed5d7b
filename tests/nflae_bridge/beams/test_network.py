"""The network of ``nflae beams``: any inputs at training, fewer at use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matlab_io.errors import NflaeError
from matlab_io.sequences import write_folder
from nflae_bridge.beams import gru, network
from nflae_bridge.beams.comparison import NETWORK, SELECTED
from nflae_bridge.beams.inputs import configure, prepare
from nflae_bridge.beams.network import NetworkSettings, network_forecaster, network_inputs
from simulator.beams.measures import measure
from simulator.beams.windows import cut_windows
from tests.beam_sequences import passing_users
from tests.channel_files import Run
from tests.nflae_bridge.beams.test_beams_command import FAR, rows


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gru, "_EPOCHS", 1)
    monkeypatch.setattr(gru, "_LEAST_STEPS", 5)
    monkeypatch.setattr(network, "_LEAST_STEPS", 5)


def test_network_forecasts_from_powers_positions_or_both() -> None:
    windows = cut_windows([passing_users(30, 12)], 5, 3)
    settings = NetworkSettings(("power", "position"), epochs=1, dropout=0.3, least_steps=120)
    state = network_forecaster("network", settings).state(windows, 3)
    assert network_inputs(state) == ("power", "position")

    def top1(*missing: str) -> float:
        scores = network_forecaster("network", settings, missing).scores(windows, state)
        return float(measure(scores, windows).values[0].mean())

    assert top1() > 0.4  # a tenth without training
    assert top1("position") > 0.35
    assert top1("power") > 0.2
    assert top1("power", "position") < 0.2
    none = replace(windows, position=None)
    alone = network_forecaster("network", settings).scores(none, state)
    np.testing.assert_array_equal(alone, network_forecaster("network", settings, ["position"]).scores(windows, state))


def test_inputs_are_prepared_with_their_absence() -> None:
    windows = cut_windows([passing_users(4)], 5, 3)
    assert windows.position is not None
    position = windows.position.copy()
    position[0, -1] = np.nan
    broken = replace(windows, position=position)
    configs = configure(("beam", "position"), windows)
    assert [each.shape for each in configs] == [(17,), (4,)]
    values, present = prepare(configs, broken)
    assert present[0].tolist() == [[True, True]] * 4 + [[True, False]]
    np.testing.assert_array_equal(values[0][..., :16].argmax(-1), windows.past.argmax(-1))
    np.testing.assert_allclose(values[1][0, 0, 2:], 10 * (position[0, 0] - position[0, 3]), rtol=1e-5)
    np.testing.assert_array_equal(values[1][0, -1], 0)
    np.testing.assert_allclose(configs[1].centre[:2], windows.position.mean((0, 1)), rtol=1e-6)
    with pytest.raises(NflaeError, match="input position: the folders have none of it; there are power, beam, prompt"):
        configure(("power", "position"), replace(windows, position=None))


@pytest.mark.usefixtures("quick")
def test_trained_inputs_that_are_absent_are_masked_and_said_once(
    nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "near", passing_users(12))
    far = passing_users(10, seed=1, mast=FAR)
    write_folder(tmp_path / "far", far)
    write_folder(tmp_path / "blind", replace(far, user=None))
    monkeypatch.setattr("nflae_bridge.beams.comparison.FOLDS", 2)
    monkeypatch.setattr("simulator.beams.registry.forecaster_names", list)
    monkeypatch.setattr("nflae_bridge.beams.comparison.forecaster_names", list)
    monkeypatch.setattr("nflae_bridge.beams.comparison.GRU_FORECASTERS", {})
    done = nflae("beams", "train", tmp_path / "near", "-o", tmp_path / "model", "--inputs", "power,position",
                 "--stages", "mask:1,align:1,task:2", "--anchor", "position")  # fmt: skip
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "model/model.json").read_text())
    assert card["forecasters"]["default"] == [NETWORK] * 3
    assert card["positions"] is False
    found = {}
    for name, arguments in {"far": (), "blind": (), "masked": ("--missing", "position")}.items():
        folder = tmp_path / ("blind" if name == "blind" else "far")
        results = tmp_path / f"of_{name}"
        done = nflae("beams", "evaluate", folder, "-o", results, "--model", tmp_path / "model", *arguments)
        assert done.exit_code == 0, done.output
        assert done.output.count("absent inputs of the network: position") == (name != "far")
        found[name] = [row["top1"] for row in rows(results) if row["method"] == SELECTED]
    assert found["masked"] == found["blind"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--inputs", "power,smell"), "unknown input 'smell'; there are power, beam, prompt, position"),
        (("--inputs", "power,power"), "an input is given twice"),
        (("--inputs", "power,position", "--no-positions"), "--no-positions and --inputs position"),
        (("--inputs", "power,position", "--anchor", "beam"), "--anchor beam: not one of --inputs power,position"),
        (("--stages", "align:3"), "one input alone cannot be aligned"),
        (("--stages", "task"), "expected stages with epochs, as in mask:5,align:5,task:20"),
    ],
)
def test_unusable_options_are_refused(nflae: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = nflae("beams", "train", tmp_path / "none", "-o", tmp_path / "model", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "model").exists()
