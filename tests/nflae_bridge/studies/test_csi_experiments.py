"""Experiments on CSI acquisition: tokens, masks, probes, delay and Doppler against definitions; a page."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers

from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.trunks.tokens import TokenNetwork, complex_of, real_parts, sinusoidal_places
from nflae_bridge.studies.csi.delay_doppler import circular_error, esprit_2d, path_waves, strongest_peaks
from nflae_bridge.studies.csi.probes import handmade_features, probe_accuracy
from nflae_bridge.studies.csi.small_networks import fit, study_backbone
from nflae_bridge.studies.reproduction import load_experiment
from nflae_bridge.studies.reproduction.compute_budget import QUICK
from nflae_bridge.studies.reproduction.experiments.csi import masked, prediction
from nflae_bridge.studies.reproduction.experiments.csi.delay_doppler import draw_grids
from nflae_bridge.studies.reproduction.experiments.csi.llm4cp import AntennaPredictor
from nflae_bridge.studies.reproduction.experiments.csi.masked import Masking
from nflae_bridge.studies.reproduction.runner import run
from nflae_bridge.studies.reproduction.study import Study

TINY = BackboneConfig(width=16, layers=1, heads=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complex_normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=generator(seed))


def test_parts_and_complex_numbers() -> None:
    values = complex_normal(2, 3, 4)
    parts = real_parts(values)
    assert parts.shape == (2, 3, 8)
    assert parts[1, 2, 3] == values[1, 2, 1].imag
    assert torch.equal(complex_of(parts), values)


@torch.no_grad()
def test_hidden_tokens_are_not_seen() -> None:
    torch.manual_seed(0)
    network = TokenNetwork(6, 4, 5, TINY).eval()
    tokens = torch.randn(2, 5, 6)
    mask = torch.tensor([True, False, False, False, False]).expand(2, -1)
    changed = tokens.clone()
    changed[:, 0] += 1
    assert torch.equal(network(changed, mask), network(tokens, mask))
    assert not torch.equal(network(changed), network(tokens))


@torch.no_grad()
def test_places_of_tokens_count_as_much_as_their_content() -> None:
    """Equal tokens at several places have states as different as tokens of different content."""
    places = sinusoidal_places(16, 15)
    assert places.shape == (16, 15)
    assert float(places.square().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(places[3, 0]) == pytest.approx(math.sin(3))
    apart = torch.cdist(places, places)[~torch.eye(16, dtype=torch.bool)]
    assert float(apart.min()) > 0.5
    torch.manual_seed(0)
    hidden = TokenNetwork(6, 4, 5, TINY).eval().hidden(torch.randn(50, 1, 6).expand(-1, 5, -1))
    assert float(hidden.var(1).mean()) > 0.1 * float(hidden.var((0, 1)).mean())


def test_a_folder_is_the_backbone_and_frozen(tmp_path: Path) -> None:
    shape = transformers.GPT2Config(vocab_size=3, n_embd=12, n_layer=1, n_head=2, n_positions=8, bos_token_id=0)
    transformers.GPT2Model(shape).save_pretrained(tmp_path)
    network = TokenNetwork(4, 4, 3, study_backbone(str(tmp_path)))
    assert network.place.shape == (3, 12)
    trained = {name for name, each in network.named_parameters() if each.requires_grad}
    assert not any("attn" in name or "mlp" in name for name in trained)
    assert any("ln_1" in name for name in trained)
    assert study_backbone("gpt2").source is None


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    network = TokenNetwork(2, 1, 3, TINY)
    seen: list[float] = []

    def loss(source: torch.Generator) -> torch.Tensor:
        tokens = torch.randn(64, 3, 2, generator=source)
        value = (network(tokens)[..., 0] - tokens.sum((1, 2))[:, None]).square().mean()
        seen.append(float(value.detach()))
        return value

    fit(network, loss, 80, 0, lambda note: None, rate=1e-2)
    assert sum(seen[-5:]) < 0.3 * sum(seen[:5])
    assert not network.training


@torch.no_grad()
def test_antenna_predictor_follows_scale_and_phase() -> None:
    torch.manual_seed(0)
    network = AntennaPredictor(TINY).eval()
    history = complex_normal(4, 16)
    factor = 1e3 * torch.polar(torch.tensor(1.0), torch.tensor(0.7))
    torch.testing.assert_close(network(factor * history), factor * network(history), rtol=1e-4, atol=1e-2)


# Masked channels


def test_tokens_are_blocks_of_slots_antennas_and_subcarriers() -> None:
    masking = Masking(4, (2, 8, 4), 3)
    channels = complex_normal(2, 8, 16, 8)
    tokens = masking.tokens_of(channels)
    assert tokens.shape == (2, masking.tokens, 64) == (2, 8, 64)
    blocks = [(t, n, f) for t in (0, 2) for n in (0, 8) for f in (0, 4)]
    for index, (t, n, f) in enumerate(blocks):
        expected = channels[:, t : t + 2, n : n + 8, f : f + 4].flatten(1)
        assert torch.equal(tokens[:, index], expected)


def test_masks() -> None:
    drawn = Masking(8, (2, 4, 4), 5).masks(200, generator())
    assert (drawn.sum(-1) == 5).all()
    assert (drawn.float().mean(0) > 0.05).all()
    last = Masking(8, (2, 4, 4), 8, last=True).masks(2, generator())
    assert last[:, -8:].all()
    assert not last[:, :-8].any()
    latest = torch.zeros(1, 8, 16, 8)
    latest[:, 6:] = 1
    assert torch.equal(Masking(8, (2, 4, 4), 8).tokens_of(latest)[0].any(-1), last[0])


def test_linear_interpolation_uses_the_covariance() -> None:
    """Each token repeats the same number with a little noise: the hidden one follows from the visible ones."""
    masking = Masking(1, (1, 16, 4), 1)
    clean = complex_normal(2_400, 1, 1).expand(-1, 2, 64)
    noisy = clean + 0.1 * complex_normal(2_400, 2, 64, seed=1)
    torch.manual_seed(0)
    network = TokenNetwork(128, 128, 2, TINY).eval()
    found = {row["method"]: row["mse"] for row in masked._reconstruction(masking, network, noisy, clean, 2_000)}
    assert found["zero"] == 1
    assert found["linear MMSE"] < 2 * 0.01 / 64 + 2 * 0.01 * 64 / 2_000  # noise averaged, and the covariance's own
    assert found["pretrained"] > 0.5  # untrained


@pytest.mark.parametrize(("labelled", "linear", "curved"), [(40, 0.9, 0.72), (200, 0.94, 0.85)])
def test_probe_learns_what_is_separable(labelled: int, linear: float, curved: float) -> None:
    values = torch.randn(900, 4, generator=generator())
    assert probe_accuracy(values, values[:, 1] > 0, labelled, 400)[0] > linear
    ring = values[:, :2].norm(dim=-1) > 1.2  # no linear rule, but near neighbours
    assert probe_accuracy(values[:, :2], ring, labelled, 400)[0] > curved
    unrelated = torch.rand(900, generator=generator(1)) < 0.5
    mean, deviation = probe_accuracy(values, unrelated, labelled, 400)
    assert 0.4 < mean < 0.6
    assert 0 < deviation < 0.05
    assert probe_accuracy(values, values[:, 1] > 0, 500, 400)[1] < 0.006  # every draw is the whole pool


def test_handmade_features_of_plane_waves() -> None:
    """One beam: all its power, no spread; two opposite beams: half, and the largest spread; power in dB."""
    n = torch.arange(16)
    one = torch.polar(torch.ones(16), 2 * math.pi * 3 * n / 16)
    two = one + torch.polar(torch.ones(16), 2 * math.pi * 11 * n / 16)
    found = handmade_features(torch.stack([10 * one, two]))
    torch.testing.assert_close(found[0], torch.tensor([20.0, 0.0, 1.0]), rtol=0, atol=2e-3)
    assert found[1, 0] == pytest.approx(10 * math.log10(2), abs=1e-4)
    assert found[1, 1] > 3
    assert found[1, 2] == pytest.approx(0.5)


# Delay and Doppler


def test_two_paths_are_found() -> None:
    grids, truth = draw_grids(60, 60.0, generator())
    apart = circular_error(truth[:, 0], truth[:, 1]).amax(-1) > 0.15
    assert apart.sum() > 30
    for estimate, limit in ((strongest_peaks, 1 / (8 * 16)), (esprit_2d, 2e-3)):
        error = circular_error(estimate(grids, 2), truth)[apart]
        assert float((error < limit).all(-1).all(-1).float().mean()) > 0.8, estimate.__name__


def test_waves_and_errors_by_definition() -> None:
    wave = path_waves(torch.tensor([[0.25, 0.125]]), 3, 4)
    assert wave[0, 2, 3] == pytest.approx(complex(math.cos(2 * math.pi * 0.125), math.sin(2 * math.pi * 0.125)))
    torch.testing.assert_close(
        circular_error(torch.tensor([0.98, 0.5]), torch.tensor([0.01, 0.2])), torch.tensor([0.03, 0.3])
    )


# From units to pages


@pytest.mark.parametrize("name", ["2dlam", "prompt-feedback"])
def test_experiment_writes_its_page(name: str, tmp_path: Path) -> None:
    budget = replace(QUICK, test_drops=4, steps={**QUICK.steps, "tiny": 1})
    study = Study(tmp_path, budget, "gpt2", 1, torch.device("cpu"))
    outcome = run(load_experiment(name), study, lambda done, note, left: None)
    assert all(path.is_file() for path in outcome.paths)
    page = (tmp_path / f"{name}.md").read_text()
    for check in outcome.checks:
        assert check.claim in page
        assert check.found in page


def test_points_of_predicted_csi_are_compared_with_the_best_classical_method() -> None:
    """Two points: 0.5 above the best rival, and 0.3 below it, where one drop in ten is made worse."""
    found = {"hold": (50.0, 60.0), "ar": (80.0, 90.3), "kalman": (81.0, 70.0), "auto": (81.5, 90.0)}
    classical = {name: found.get(name, (0.0, 0.0)) for name in ("hold", *prediction.CLASSICAL)}
    points = {**classical, "auto": found["auto"]}
    rows = pd.DataFrame(
        {
            "kind": "point", "setting": "flight", "snr_db": 10, "ahead": ahead, "method": name,
            "percent": values[place], "low": values[place] - 1, "high": values[place] + 1,
            "worse_percent": 10.0 * place,
        }
        for name, values in points.items()
        for place, ahead in enumerate((1, 4))
    )  # fmt: skip
    table = prediction.EXPERIMENT.table(rows)
    assert table.loc["flight, 10 dB, 4 ahead", "ours, guarded"] == "90.00 (89.00 to 91.00)"
    assert table.loc["flight, 10 dB, 1 ahead", "Kalman filter"] == "81.00"
    study = Study(Path(), QUICK, "gpt2", 2026, torch.device("cpu"))
    below, mean, worse = prediction.EXPERIMENT.checks(study, rows)
    assert (below.met, below.found) == (False, "-0.30 points, flight, 10 dB, 4 ahead")
    assert (mean.met, mean.found) == (False, "+0.10 points")
    assert (worse.met, worse.found) == (False, "at most 10.0 %")
